"""Runs in which memory runs out in a network."""

import torch

from pack.referee_core.out_of_memory import OUT_OF_MEMORY
from programs.players import model, play, vae

found = {}


def full(*a, **k):
    raise OUT_OF_MEMORY("CUDA out of memory")


for name, module in {"vae": vae.first_stage_model.decoder, "model": model.model.diffusion_model}.items():
    module.forward, forward = full, module.forward
    try:
        play()
        found[name] = "no error"
    except OUT_OF_MEMORY as error:
        found[name] = str(error)
    finally:
        module.forward = forward
found["after"] = bool(torch.isfinite(play()).all())
