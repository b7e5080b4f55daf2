"""What the published BLIP-2 files call their tensors, and the sizes that follow from the shapes.

Two layouts are in use: LAVIS's own (blip2_pretrained.pth beside eva_vit_g.pth, in which the tower's names are bare) and
that of Hugging Face's Blip2ForImageTextRetrieval.
"""

import re
from collections.abc import Collection
from dataclasses import replace

from ..tensor_files import Tensors
from .config import Blip2Config

PUBLISHED = Blip2Config()
VISION_HEAD_WIDTH = PUBLISHED.vision_dim // PUBLISHED.vision_heads
HEAD_WIDTH = PUBLISHED.dim // PUBLISHED.heads


TOWER = re.compile(r"(cls_token|pos_embed|patch_embed\.|blocks\.\d+\.)")
TOWER_UNUSED = re.compile(r"(norm|fc_norm|head|lm_head)\.(weight|bias)|mask_token|rel_pos_bias\..*|logit_scale")

LAVIS_CAPTION_HEAD = (
    (r"Qformer\.cls\.predictions\.transform\.dense\.", "caption_head.dense."),
    (r"Qformer\.cls\.predictions\.transform\.LayerNorm\.", "caption_head.norm."),
    (r"Qformer\.cls\.predictions\.decoder\.bias$", "caption_head.bias"),
)
LAVIS = (
    (r"visual_encoder\.patch_embed\.proj\.", "vision.patch_embed."),
    (r"visual_encoder\.", "vision."),
    (r"ln_vision\.", "vision_norm."),
    (r"query_tokens$", "qformer.query_tokens"),
    *LAVIS_CAPTION_HEAD,
    (r"Qformer\.bert\.embeddings\.LayerNorm\.", "qformer.norm."),
    (r"Qformer\.bert\.embeddings\.", "qformer."),
    (r"Qformer\.bert\.encoder\.layer\.", "qformer.layers."),
    (r"itm_head\.", "itm_head."),
)
HUGGING_FACE = (
    (r"vision_model\.embeddings\.class_embedding$", "vision.cls_token"),
    (r"vision_model\.embeddings\.position_embedding$", "vision.pos_embed"),
    (r"vision_model\.embeddings\.patch_embedding\.", "vision.patch_embed."),
    (r"vision_model\.post_layernorm\.", "vision_norm."),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm", r"vision.blocks.\1.norm"),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection\.", r"vision.blocks.\1.attn.proj."),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.", r"vision.blocks.\1.attn."),
    (r"vision_model\.encoder\.layers\.", "vision.blocks."),
    (r"query_tokens$", "qformer.query_tokens"),
    (r"embeddings\.", "qformer."),
    (r"qformer\.layernorm\.", "qformer.norm."),
    (r"qformer\.encoder\.layer\.", "qformer.layers."),
    (r"itm_head\.", "itm_head."),
    *LAVIS_CAPTION_HEAD,
)
BERT_LAYER = (  # inside qformer.layers.N; both layouts
    (r"\.crossattention\.", ".cross_attention."),
    (r"attention\.(self|attention)\.", "attention."),
    (r"attention\.output\.dense\.", "attention.out."),
    (r"attention\.output\.LayerNorm\.", "attention.norm."),
    (r"\.intermediate\.dense\.", ".text_mlp.fc1."),
    (r"\.output\.dense\.", ".text_mlp.fc2."),
    (r"\.output\.LayerNorm\.", ".text_mlp.norm."),
    (r"\.intermediate_query\.dense\.", ".query_mlp.fc1."),
    (r"\.output_query\.dense\.", ".query_mlp.fc2."),
    (r"\.output_query\.LayerNorm\.", ".query_mlp.norm."),
)
LANGUAGE_MODEL = re.compile(r"(language_(model|projection)|(opt|t5|llm)_(model|proj))\.")
UNUSED = re.compile(
    r"temp|(vision|text)_proj(ection)?\.(weight|bias)|.*position_ids"
    r"|Qformer\.cls\.predictions\.(bias|decoder\.weight)"  # one bias under two names; the weight is the word embedding
)


def is_tower(names: Collection[str]) -> bool:
    """Whether the names are those of a bare vision tower, as in eva_vit_g.pth."""
    return "cls_token" in names and "blocks.0.norm1.weight" in names


def is_hugging_face(names: Collection[str]) -> bool:
    return any(name.startswith("vision_model.") for name in names)


def is_lavis(names: Collection[str]) -> bool:
    return any(name.startswith("Qformer.bert.") for name in names)


def has_language_model(names: Collection[str]) -> bool:
    """Whether the names are those of BLIP-2's second stage, which writes text (blip2-opt, blip2-flan-t5,
    InstructBLIP)."""
    return "itm_head.weight" not in names and any(LANGUAGE_MODEL.match(name) for name in names)


def from_tower(tensors: Tensors) -> Tensors:
    """eva_vit_g.pth's names as LAVIS's whole model has them; its heads and final norms are left out."""
    return {f"visual_encoder.{k}": v for k, v in tensors.items() if not TOWER_UNUSED.fullmatch(k)}


def translate(tensors: Tensors) -> tuple[Tensors, list[str]]:
    """Our names for the tensors of either layout, and the names that no rule knows.

    Blocks of the tower beyond the 39 that BLIP-2 uses are left out. The key bias of Hugging Face's joint q, k, v bias
    is left out too: it adds the same number to all of a query's scores.
    """
    rules = HUGGING_FACE if is_hugging_face(tensors) else LAVIS
    ours, unknown = {}, []
    for name, tensor in tensors.items():
        if UNUSED.fullmatch(name):
            continue
        rule = next((r for r in rules if re.match(r[0], name)), None)
        if rule is None:
            unknown.append(name)
            continue
        new = re.sub("^" + rule[0], rule[1], name)
        if new.startswith("qformer.layers."):
            for pattern, replacement in BERT_LAYER:
                new = re.sub(pattern, replacement, new)
        block = re.match(r"vision\.blocks\.(\d+)\.", new)
        if block and int(block[1]) >= PUBLISHED.vision_depth:
            continue
        if new.endswith(".attn.qkv.bias"):
            stem = new.removesuffix("qkv.bias")
            ours[stem + "q_bias"], ours[stem + "v_bias"] = tensor.third(0), tensor.third(2)
        else:
            ours[new] = tensor
    return ours, unknown


def infer_config(tensors: Tensors) -> Blip2Config:
    """The sizes of the network whose tensors (our names) these are. Attention heads have the published widths.

    Raises KeyError with the name of a tensor without which nothing can be said.
    """

    def shape(name: str) -> tuple[int, ...]:
        return tensors[name].shape

    def count(pattern: str) -> int:
        return len({m[1] for m in map(re.compile(pattern).match, tensors) if m})

    vision_dim, _, patch, _ = shape("vision.patch_embed.weight")
    vocab_size, dim = shape("qformer.word_embeddings.weight")
    patches = shape("vision.pos_embed")[1] - 1
    reading = [i for i in range(PUBLISHED.layers) if f"qformer.layers.{i}.cross_attention.query.weight" in tensors]
    return replace(
        PUBLISHED,
        image_size=round(patches**0.5) * patch,
        patch_size=patch,
        vision_dim=vision_dim,
        vision_depth=count(r"vision\.blocks\.(\d+)\."),
        vision_heads=max(1, vision_dim // VISION_HEAD_WIDTH),
        vision_mlp_dim=shape("vision.blocks.0.mlp.fc1.weight")[0],
        dim=dim,
        layers=count(r"qformer\.layers\.(\d+)\."),
        heads=max(1, dim // HEAD_WIDTH),
        mlp_dim=shape("qformer.layers.0.query_mlp.fc1.weight")[0],
        cross_attention_every=reading[1] - reading[0] if len(reading) > 1 else PUBLISHED.cross_attention_every,
        queries=shape("qformer.query_tokens")[1],
        vocab_size=vocab_size,
        max_positions=shape("qformer.position_embeddings.weight")[0],
        caption_head="caption_head.bias" in tensors,
    )
