"""Run a piece of code inside ComfyUI's own Python world, without a server: the pack is imported as ``pack``."""

import re
from pathlib import Path

import pytest
from torch.utils import backend_registration

from scripts.environment import find_comfyui
from scripts.inside import run as run


def version(comfyui: Path | None) -> tuple[int, ...]:
    found = comfyui and re.search(r'"([\d.]+)"', (comfyui / "comfyui_version.py").read_text())
    return tuple(map(int, found[1].split("."))) if found else ()


NEEDS_CARD = pytest.mark.skipif(
    version(find_comfyui()) < (0, 30) or not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="the card made of main memory fits ComfyUI 0.30 and PyTorch 2.11 or newer",
)

ROUNDING = 1e-3
"""Of values near 1 after some steps in single precision, whatever the processor and its threads: 1.6e-4 was the most
ever seen. A wrong noise, prompt, weight or mask moves them by more than ten times as much."""

PLAYERS = """
from dataclasses import replace
import comfy.model_management as mm
import torch
from pack.nodes.bridge.gradients import memory
from pack.nodes.runs import optimizer, referee_can_play as sampler
from pack.nodes.bridge.models.demo import load_clip, load_model, load_vae
from pack.nodes.bridge.models.referee_files import load_referee
from pack.nodes.sockets import LoadedLoss, LoadedPrior
from pack.referee_core import augment
from pack.referee_core.averaging import EMARestart
from pack.referee_core.demo.storage import path
from pack.referee_core.priors.sds import SDS
from pack.referee_core.record import History
from pack.referee_core.losses import bind
from pack.referee_core.methods.referee_can_play import LoopSettings
from pack.referee_core.schedules import Schedule

with torch.inference_mode():
    vae, referee, model, clip = load_vae(), load_referee(path("referee")), load_model(), load_clip()
    with torch.inference_mode(False):
        loss = LoadedLoss(bind(referee.referee, "a red circle", itm=1.0, caption=1.0), (referee.patcher,))
    cond = clip.encode_from_tokens_scheduled(clip.tokenize("a red circle"))
prior = LoadedPrior(model, cond, cond, 3.0, SDS)

def play(vae=vae, loss=loss, prior=prior, latent=None, on_step=lambda *a: None, steps=2, at_once=0, **changes):
    # the latent after a short run of the method
    settings = LoopSettings(steps=steps, tail=0, lr=Schedule(0.3, 0.15), noise=0.1, micro_batch=at_once)
    setup = sampler.Setup(vae, loss, augmentation=replace(augment.PAPER, count=4), settings=settings, **changes)
    history = History()
    def each(step):
        history.add(step)
        on_step(step)
    with torch.inference_mode():
        latent = latent or {"samples": torch.zeros(1, 4, 16, 16)}
        return optimizer.run(setup, prior, latent, 1, each, "last", history)[0]["samples"]
"""
"""The demo's models, a loss, a prior, and ``play``, a short run of the method on them."""
