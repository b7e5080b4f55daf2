"""A narrow Qwen3-VL with random weights: as ComfyUI's CLIP, and as transformers' own class with the same weights."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import comfy.sd
import comfy.text_encoders.qwen3vl as qwen
import torch
from comfy.quant_ops import QuantizedTensor
from comfy.text_encoders import llama

VISION = dict(hidden_size=128, intermediate_size=160, depth=4, deepstack_visual_indexes=[0, 2])
TEXT = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1)


@dataclass
class Tied(qwen.Qwen3VL_4BConfig):
    hidden_size: int = 128
    intermediate_size: int = 192
    num_hidden_layers: int = 3
    num_attention_heads: int = 2
    num_key_value_heads: int = 1


@dataclass
class Untied(Tied):
    lm_head: bool = True


for name, config in (("tied", Tied), ("untied", Untied), ("qwen3vl_8b", Tied)):
    qwen.QWEN3VL_CONFIGS[name], qwen.QWEN3VL_VISION[name] = config, VISION
llama.Qwen3_8BConfig = Untied  # what the loader makes of a Qwen3-VL for the types flux and flux2


def transformers_model(tied: bool):
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True, "rope_theta": 5e6}
    text = TEXT | dict(head_dim=128, vocab_size=151936, rms_norm_eps=1e-6, rope_parameters=rope, rope_scaling=rope)
    text |= dict(rope_theta=5e6, tie_word_embeddings=tied)
    vision = VISION | dict(num_heads=16, patch_size=16, temporal_patch_size=2, spatial_merge_size=2, in_channels=3)
    vision |= dict(num_position_embeddings=2304, out_hidden_size=128)
    config = Qwen3VLConfig(text_config=text, vision_config=vision, image_token_id=151655, tie_word_embeddings=tied)
    config._attn_implementation = "eager"
    model = Qwen3VLForConditionalGeneration(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for key, p in model.named_parameters():
        values = torch.randn(p.shape, generator=generator)
        p.data = (
            values * p[0].numel() ** -0.5 if p.ndim > 1 else 0.1 * values + float("norm" in key and "bias" not in key)
        )
    return model


def as_clip(model, tied: bool) -> comfy.sd.CLIP:
    """ComfyUI's CLIP with the weights of transformers' model."""
    kind = "tied" if tied else "untied"
    target = SimpleNamespace(clip=qwen.te(model_type=kind), tokenizer=qwen.tokenizer(model_type=kind), params={})
    clip = comfy.sd.CLIP(target, parameters=0, model_options={"dtype": torch.float32})
    names = {"model.language_model.": "model.", "model.visual.": "visual.", "lm_head.": "model.lm_head."}
    state = {}
    for key, value in model.state_dict().items():
        for old, new in names.items():
            if key.startswith(old) and not (tied and old == "lm_head."):
                state[new + key.removeprefix(old)] = value.clone()
    inner = getattr(clip.cond_stage_model, kind).transformer
    missing, unexpected = inner.load_state_dict(state, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    return clip


def quantise(model, form: str) -> dict[str, torch.Tensor]:
    """The file of a quantised model as ComfyUI holds it: the language model's layers and embeddings as integers or
    float8, with ``weight_scale`` and ``comfy_quant``. The model gets the values that the file stands for.

    form: "float8_e4m3fn", one scale for each layer, or "int8_tensorwise", rotated (convrot), one for each row.
    """
    state = {key: value.clone() for key, value in model.state_dict().items() if key != "lm_head.weight"}
    rotated = dict(convrot=True, convrot_groupsize=64)
    for name, layer in model.model.language_model.named_modules(prefix="model.language_model"):
        if not isinstance(layer, (torch.nn.Linear, torch.nn.Embedding)):
            continue
        if form == "int8_tensorwise":
            about = {"format": form, **rotated}
            made = QuantizedTensor.from_float(layer.weight, "TensorWiseINT8Layout", per_channel=True, **rotated)
        else:
            about = {"format": form}
            made = QuantizedTensor.from_float(layer.weight, "TensorCoreFP8E4M3Layout", scale="recalculate")
        state |= {f"{name}.weight": made._qdata, f"{name}.weight_scale": made._params.scale}
        state[f"{name}.comfy_quant"] = torch.tensor(list(json.dumps(about).encode()), dtype=torch.uint8)
        layer.weight.data = made.dequantize()
    return state


def load(state: dict[str, torch.Tensor], kind: str) -> comfy.sd.CLIP:
    """By ComfyUI's own loader, which takes what is not 2560 wide for the 8B; kind: a name of CLIPType."""
    kinds, options = comfy.sd.CLIPType, {"dtype": torch.float32}
    return comfy.sd.load_text_encoder_state_dicts([dict(state)], clip_type=kinds[kind], model_options=options)
