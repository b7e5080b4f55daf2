"""What a run chooses by the memory that is free."""

from dataclasses import replace

import comfy.model_management as mm
import torch

from pack.nodes.bridge.gradients import memory
from pack.nodes.bridge.gradients import vae as vae_module
from pack.nodes.runs.optimizer import run
from pack.nodes.runs.referee_can_play import Setup
from pack.referee_core.augment import PAPER
from pack.referee_core.methods.referee_can_play import LoopSettings
from pack.referee_core.record import History
from programs.players import loss, referee, vae

found = {}

plain, thrifty = (referee.referee.activation_bytes(on) for on in (False, True))
decoder_module = vae.first_stage_model.decoder
blocks = [b for b in decoder_module.modules() if type(b).__name__ in vae_module.CHECKPOINTED]
shape = torch.Size([1, 4, 16, 16])
vae_plain, vae_thrifty = (factor * vae.memory_used_decode(shape, vae.vae_dtype) for factor in (3, 1.5))


def latent(asked=0):
    seen = []

    def on_step(step):
        seen.append([step.views_at_once, referee.referee.checkpointing, "forward" in blocks[0].__dict__])

    settings = LoopSettings(steps=2, lr=LoopSettings().lr, micro_batch=asked)
    setup = Setup(vae, loss, augmentation=replace(PAPER, count=12), settings=settings)
    with torch.inference_mode():
        out, _ = run(setup, None, {"samples": torch.zeros(shape)}, 1, on_step, "last", History())
    assert not referee.referee.checkpointing and "forward" not in blocks[0].__dict__
    return out["samples"], seen[-1]


on_cpu, found["cpu"] = latent()
mm.is_device_cpu = lambda device: False
for name, free in {
    "roomy": 3 * vae_plain + 12 * plain,
    "tight": 3 * vae_plain + 9 * plain,
    "short": vae_thrifty + 3 * thrifty,
    "hopeless": 0,
}.items():
    mm.get_free_memory = lambda *a, free=free: free + memory.RESERVE + 1
    result, seen = latent()
    found[name] = [*seen, (result - on_cpu).abs().max().item()]
mm.get_free_memory = lambda *a: 1e12
found["asked"] = latent(asked=2)[1]
found["plans"] = [memory.plan(30, 100, 25, free) for free in (3000, 1500, 800, 799, 40, 0)]
found["few"] = [memory.plan(4, 100, 25, free) for free in (400, 399)]
