"""The referee from a quantised Qwen3-VL, against the same unquantised and against the values its file stands for."""

import torch
from comfy.quant_ops import QuantizedTensor

from pack.nodes.bridge.language.vision_language import load_vision_language
from programs import small_qwen
from programs.asked_directly import SIDE, by_referee, by_transformers, off_by

found = {}

for form in ("float8_e4m3fn", "int8_tensorwise"):
    model = small_qwen.transformers_model(tied=True)
    with torch.inference_mode():
        whole = load_vision_language(small_qwen.as_clip(model, tied=True), SIDE)
    losses, slopes = by_referee(whole)
    state = small_qwen.quantise(model, form)
    with torch.inference_mode():
        clip = small_qwen.load(state, "QWEN_IMAGE")
        loaded = load_vision_language(clip, SIDE)
    weights = list(clip.patcher.model.parameters())
    quantised_losses, quantised_slopes = by_referee(loaded)
    meant = by_transformers(model, clip.tokenizer.qwen3vl_8b.tokenizer)
    cosines = torch.nn.functional.cosine_similarity(slopes.flatten(1), quantised_slopes.flatten(1))
    found[form] = {
        "quantised": sum(isinstance(p, QuantizedTensor) for p in weights),
        "same weights after": all(a is b for a, b in zip(weights, clip.patcher.model.parameters(), strict=True)),
        "off": off_by(quantised_losses, quantised_slopes, *meant),
        "probability off": float((losses.neg().exp() - quantised_losses.neg().exp()).abs().max()),
        "degrees off": torch.rad2deg(cosines.acos()).tolist(),
    }
