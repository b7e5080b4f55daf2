"""A narrow Qwen3.5 with random weights, as transformers' own class; ComfyUI's loader takes its file for the 2B."""

import comfy.text_encoders.qwen35 as qwen
import torch

TEXT = dict(hidden_size=128, intermediate_size=192, num_hidden_layers=4, num_attention_heads=2, num_key_value_heads=1)
VALUES = dict(linear_num_key_heads=2, linear_num_value_heads=4)
VISION = dict(hidden_size=128, num_heads=4, intermediate_size=160, depth=2)
qwen.QWEN35_MODELS["qwen35_2b"] = TEXT | VALUES | dict(vision=VISION)


def transformers_model() -> torch.nn.Module:
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    rope = {"rope_type": "default", "mrope_section": [11, 11, 10], "mrope_interleaved": True, "rope_theta": 1e7}
    rope |= dict(partial_rotary_factor=0.25)
    text = TEXT | VALUES | dict(rope_parameters=rope, tie_word_embeddings=True)
    vision = VISION | dict(out_hidden_size=128)
    config = Qwen3_5Config(text_config=text, vision_config=vision, image_token_id=248056, tie_word_embeddings=True)
    config._attn_implementation = "eager"
    model = Qwen3_5ForConditionalGeneration(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for key, p in model.named_parameters():
        values = torch.randn(p.shape, generator=generator)
        p.data = values * p[0].numel() ** -0.5 if p.ndim > 1 else 0.1 * values
        if key.endswith("visual.merger.norm.weight") or ".blocks." in key and "norm" in key and "weight" in key:
            p.data += 1  # the norms of the language model add 1 by themselves
        if key.endswith("linear_attn.norm.weight"):
            p.data += 1
    return model
