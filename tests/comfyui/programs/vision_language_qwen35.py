"""The referee from a Qwen3.5, against transformers' own class."""

import torch

from pack.nodes.bridge.language import model as model_of
from pack.nodes.bridge.language.vision_language import load_vision_language
from programs import small_qwen, small_qwen35
from programs.asked_directly import SIDE, by_referee, by_transformers, off_by, together_and_apart

model = small_qwen35.transformers_model()
state = {key: value.clone() for key, value in model.state_dict().items() if key != "lm_head.weight"}
with torch.inference_mode():
    clip = small_qwen.load(state, "QWEN_IMAGE")
    loaded = load_vision_language(clip, SIDE)
losses, slopes = by_referee(loaded)
statistics = dict(image_mean=None, image_std=None)  # those of CLIP, as ComfyUI prepares pictures for this model
expected = by_transformers(model, clip.tokenizer.qwen35_2b.tokenizer, "Qwen35", **statistics)
model_of.MOST_TOKENS = 3
with torch.inference_mode():
    written = model_of.write(clip, "a red circle")
found = {
    "off": off_by(losses, slopes, *expected),
    "together": together_and_apart(loaded),
    "written": written,
    "slopes": slopes.flatten(1).norm(dim=1).tolist(),
    "bytes": loaded.referee.activation_bytes(checkpointing=False),
    "as it was": "compute_freqs_cis" not in vars(loaded.referee.network.model),
}
