"""What is chosen where memory is short, and that the result stays the same. The card is a CPU that claims to be one."""

import pytest

from comfyui import inside

CODE = """
from dataclasses import replace
import comfy.model_management as mm
import torch
from pack.nodes.bridge.gradients import memory, vae as vae_module
from pack.nodes.bridge.models.demo import load_vae
from pack.nodes.bridge.models.referee_files import load_referee
from pack.nodes.runs.optimizer import run
from pack.nodes.runs.referee_can_play import Setup
from pack.nodes.sockets import LoadedLoss
from pack.referee_core.augment import PAPER
from pack.referee_core.demo.storage import path
from pack.referee_core.record import History
from pack.referee_core.losses import bind
from pack.referee_core.methods.referee_can_play import LoopSettings

with torch.inference_mode():
    vae, referee = load_vae(), load_referee(path("referee"))
    with torch.inference_mode(False):
        loss = LoadedLoss(bind(referee.referee, "a red circle", itm=1.0, caption=1.0), (referee.patcher,))
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
"""


@pytest.fixture(scope="module")
def found():
    return inside.run(CODE)


def test_views_at_a_time_follow_from_free_memory(found):
    assert found["plans"] == [[30, False], [15, False], [8, False], [30, True], [1, True], [1, True]]
    assert found["few"] == [[4, False], [4, True]]


def test_checkpointing_begins_where_memory_is_short_and_ends_with_the_run(found):
    assert found["cpu"] == [10, False, False]
    assert found["roomy"][:3] == [12, False, False]
    assert found["tight"][1:3] == [False, False] and 8 <= found["tight"][0] <= 12
    assert found["short"][1:3] == [True, True] and 1 <= found["short"][0] <= 3
    assert found["hopeless"][:3] == [1, True, True]


def test_the_result_does_not_depend_on_memory(found):
    for name in ("roomy", "tight", "short", "hopeless"):
        assert found[name][3] < 1e-2  # Adam makes a rounding error of a small gradient as large as the gradient


def test_the_users_number_of_views_is_kept(found):
    assert found["asked"][0] == 2
