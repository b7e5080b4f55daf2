"""Narrow Gemma 4 with random weights, as ComfyUI's CLIPs and as transformers' own classes, and a tokenizer of few
words."""

from types import SimpleNamespace

import comfy.sd
import tokenizers
import torch
from comfy.text_encoders import gemma4
from tokenizers import Regex, models, pre_tokenizers

SIDE = 96  # 36 patches, nine to a token
SENTENCE = "user model thought Does this figure show a red circle? Please answer yes or no. Yes No YES NO"
SPECIAL = {"<pad>": 0, "<bos>": 2, "<|channel>": 100, "<channel|>": 101, "<|turn>": 105, "<turn|>": 106}
SPECIAL |= {"<|image>": 255999, "<image|>": 258882, "<|image|>": 258880}
TEXT = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=12, num_attention_heads=4, head_dim=16)
TOWER = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, head_dim=12)
TOWER |= dict(patch_size=16, pooling_kernel_size=3, position_embedding_size=128)
PATCHES = dict(patch_size=16, pooling_kernel_size=3, mm_embed_dim=48, mm_posemb_size=32, output_proj_dims=48)
KINDS = {
    "small": dict(num_key_value_heads=1, hidden_size_per_layer_input=8, num_kv_shared_layers=6),
    "large": dict(num_key_value_heads=2, hidden_size_per_layer_input=0, num_kv_shared_layers=0),
    "unified": dict(num_key_value_heads=2, num_global_key_value_heads=1, attention_k_eq_v=True),
}
"""As the E4B, the 31B and the 12B are built: the first reads ids in every layer and keeps no keys in the last ones; in
the others the tokens of a picture see all of it; the last has no vision tower."""
gemma4.Gemma4Config.head_dim, gemma4.Gemma4Config.global_head_dim = 16, 32
gemma4.Gemma4Config.audio_config = gemma4.GEMMA4_AUDIO_CONFIG | dict(hidden_size=32, num_hidden_layers=1)
gemma4.Gemma4Config.vision_config = gemma4.Gemma4_31B_Config.vision_config = TOWER | dict(rms_norm_eps=1e-6)
gemma4.Gemma4_12B_Config.vision_config = PATCHES | dict(model_patch_size=48, rms_norm_eps=1e-6)
OWN = {"small": gemma4.Gemma4_E4B, "large": gemma4.Gemma4_31B, "unified": gemma4.Gemma4_12B}


def _words() -> torch.Tensor:
    """The file of a tokenizer, as the checkpoints carry it."""
    split = pre_tokenizers.Split(Regex(r" ?\w+|\s|[^\w\s]"), "isolated")
    found = [word for word, _ in split.pre_tokenize_str(SENTENCE + "\n Yes yes No no")]
    words = {word: 200 + i for i, word in enumerate(dict.fromkeys(["?", *found, *(w.strip(" ") for w in found)]))}
    made = tokenizers.Tokenizer(models.WordLevel(words | SPECIAL, unk_token="?"))
    made.pre_tokenizer = split
    made.add_special_tokens(list(SPECIAL))
    return torch.frombuffer(bytearray(made.to_str().encode()), dtype=torch.uint8)


def transformers_model(kind: str) -> torch.nn.Module:
    import transformers

    text = TEXT | KINDS[kind] | dict(global_head_dim=32, sliding_window=1024, final_logit_softcapping=30.0)
    text |= dict(vocab_size=262144, vocab_size_per_layer_input=262144)
    text |= dict(use_bidirectional_attention=None if kind == "small" else "vision")
    if kind == "unified":
        config = transformers.Gemma4UnifiedConfig(text_config=text, vision_config=PATCHES, audio_config=None)
        made = transformers.Gemma4UnifiedForConditionalGeneration
    else:
        tower = TOWER | dict(num_key_value_heads=4, use_clipped_linears=kind == "small")
        config = transformers.Gemma4Config(text_config=text, vision_config=tower, audio_config=None)
        made = transformers.Gemma4ForConditionalGeneration
    config._attn_implementation = "eager"
    model = made(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for key, p in model.named_parameters():
        values = torch.randn(p.shape, generator=generator)
        fan = 4 if "position" in key or "pos_embedding" in key else p[0].numel()
        p.data = values * fan**-0.5 if p.ndim > 1 else 0.1 * values + float("bias" not in key)
    for key, b in model.named_buffers():
        if key.endswith("layer_scalar"):
            b.fill_(0.8)
        elif key.endswith(("_max", "_min")):  # of the clipped linear layers: few values are beyond
            b.fill_(2.0 if key.endswith("_max") else -2.0)
    return model


NAMES = {
    "model.language_model.": "model.",
    "model.vision_tower.": "vision_model.",
    "model.embed_vision.embedding_projection.": "multi_modal_projector.embedding_projection.",
    "model.embed_vision.multimodal_embedder.": "multi_modal_projector.",
    "model.embed_vision.": "vision_model.",
}
"""transformers' beginnings of a weight's name, and ComfyUI's."""


def as_clip(model: torch.nn.Module, kind: str) -> comfy.sd.CLIP:
    """ComfyUI's CLIP with the weights of transformers' model."""
    target = SimpleNamespace(clip=gemma4.gemma4_te(model_class=_narrow(kind)), tokenizer=OWN[kind].tokenizer, params={})
    options = {"dtype": torch.float32}
    clip = comfy.sd.CLIP(target, parameters=0, tokenizer_data={"tokenizer_json": _words()}, model_options=options)
    state = {}
    for key, value in model.state_dict().items():
        old = next((name for name in NAMES if key.startswith(name)), None)
        if old:  # not the head, which is tied
            state["gemma4.transformer." + NAMES[old] + key.removeprefix(old)] = value.clone()
    missing, unexpected = clip.cond_stage_model.load_state_dict(state, strict=False)
    left_out = ["logit_scale", "audio"]
    # the last layers of the small one use the keys of others; only it has clipped layers
    left_out += [f"layers.{i}.self_attn.{w}" for i in range(6, 12) for w in "kv"] if kind == "small" else ["put_m"]
    missing = [key for key in missing if not any(name in key for name in left_out)]
    assert not missing and not unexpected, (missing, unexpected)
    return clip


def _narrow(kind: str) -> type:
    """ComfyUI's class with these sizes."""
    sizes = {key: value for key, value in (TEXT | KINDS[kind]).items() if key in gemma4.Gemma4Config.__annotations__}

    def build(self, config_dict, dtype, device, operations):
        OWN[kind].__init__(self, config_dict | sizes, dtype, device, operations)

    return type(OWN[kind].__name__, (OWN[kind],), {"__init__": build})
