"""A LoRA that learns on a card, also where the referee needs all of it."""

import comfy.model_management as mm
import torch

from pack.nodes.runs.adapter import adapt
from programs import card  # noqa: F401 - before the players, who then stand on it
from programs.players import cond, model
from programs.rounds import empty, make, sigmas

found = {}


def learn():
    with torch.inference_mode():
        latent = {"samples": torch.zeros(1, 4, 8, 8)}
        return adapt(model, cond, empty, 2.0, make(), sigmas, latent, 5, 2, 0.002, 3)[1]


def pushed_off():
    """The referee needs the whole card."""
    before = mm.load_models_gpu

    def forgetful(models, **options):
        if not any(m.model is model.model for m in models):
            mm.unload_all_models()
        return before(models, **options)

    mm.load_models_gpu = forgetful
    try:
        return learn()
    finally:
        mm.load_models_gpu = before


roomy, back_again = learn(), pushed_off()
found["learned"] = max(v.abs().max().item() for k, v in roomy.items() if "lora_up" in k)
found["off"] = max((v - back_again[k]).abs().max().item() for k, v in roomy.items())
found["where"] = sorted({str(v.device) for v in roomy.values()})
