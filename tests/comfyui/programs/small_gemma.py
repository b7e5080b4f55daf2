"""A narrow Gemma 3 with random weights, as ComfyUI's CLIPs and as transformers' own class, and a tokenizer of few
pieces."""

import io
from types import SimpleNamespace

import comfy.sd
import sentencepiece
import torch
from comfy.text_encoders import llama, lt, lumina2

SIDE, TOKENS = 96, 9  # 36 patches, four to a token
TEXT = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=6, num_attention_heads=2, num_key_value_heads=1)
TOWER = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, patch_size=16)
TOWER |= dict(image_size=SIDE, num_channels=3, hidden_act="gelu_pytorch_tanh")
SENTENCES = ["user model Does this figure show a red circle? Please answer yes or no. Yes No YES NO\n\n\n"] * 9


def narrow(config: type) -> type:
    """ComfyUI's description of a Gemma 3, with these sizes."""
    seen = dict(vision_config=TOWER | dict(model_type="siglip_vision_model"), mm_tokens_per_image=TOKENS)
    return type(config.__name__, (config,), seen | {"__init__": lambda self: config.__init__(self, **TEXT)})


llama.Gemma3_12B_Config = narrow(llama.Gemma3_12B_Config)
llama.Gemma3_4B_Vision_Config = narrow(llama.Gemma3_4B_Vision_Config)


def pieces() -> bytes:
    """A sentencepiece model whose first ids are Gemma's: padding, end, beginning, unknown."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=110,
        hard_vocab_limit=False,
        model_type="bpe",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        user_defined_symbols=["\n", "\n\n", "\n\n\n"],
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    return model.getvalue()


def transformers_model() -> torch.nn.Module:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    rope = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    text = TEXT | dict(head_dim=256, vocab_size=262208, sliding_window=1024, rope_parameters=rope)
    tower = TOWER | dict(vision_use_head=False)
    config = Gemma3Config(text_config=text, vision_config=tower, mm_tokens_per_image=TOKENS, image_token_index=262144)
    config._attn_implementation = "eager"
    model = Gemma3ForConditionalGeneration(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for key, p in model.named_parameters():
        values = torch.randn(p.shape, generator=generator)
        fan = p.shape[0] if key.endswith("projection_weight") else p[0].numel()
        p.data = values * fan**-0.5 if p.ndim > 1 else 0.1 * values
        if "layer_norm" in key and key.endswith("weight") or key.endswith("post_layernorm.weight"):
            p.data += 1  # the norms of the language model add 1 by themselves
    return model


KINDS = {
    "ltx": (lt.ltxav_te(text_projection_type="none"), lt.LTXAVGemmaTokenizer, "gemma3_12b.transformer."),
    "12b": (lt.gemma3_te(), lt.Gemma3_12BTokenizer, "transformer."),
    "4b": (lumina2.te(model_type="gemma3_4b_vision"), lumina2.NTokenizer, "gemma3_4b_vision.transformer."),
}
"""ComfyUI's classes of a model and its tokenizer, and where the language model is in it. LTX's without its projection,
which takes gigabytes and no part in an answer."""
NAMES = {
    "model.language_model.": "model.",
    "model.vision_tower.vision_model.": "vision_model.",
    "model.vision_tower.": "vision_model.",
    "model.multi_modal_projector.": "multi_modal_projector.",
}
"""transformers' beginnings of a weight's name, and ComfyUI's."""


def as_clip(model: torch.nn.Module, kind: str) -> comfy.sd.CLIP:
    """ComfyUI's CLIP with the weights of transformers' model."""
    te, tokenizer, prefix = KINDS[kind]
    data = {"spiece_model": torch.frombuffer(bytearray(pieces()), dtype=torch.uint8)}
    target = SimpleNamespace(clip=te, tokenizer=tokenizer, params={})
    clip = comfy.sd.CLIP(target, parameters=0, tokenizer_data=data, model_options={"dtype": torch.float32})
    state = {}
    for key, value in model.state_dict().items():
        old = next((name for name in NAMES if key.startswith(name)), None)
        if old:  # not the head, which is tied
            state[prefix + NAMES[old] + key.removeprefix(old)] = value.clone()
    missing, unexpected = clip.cond_stage_model.load_state_dict(state, strict=False)
    assert not unexpected and all("logit_scale" in key for key in missing), (missing, unexpected)
    return clip
