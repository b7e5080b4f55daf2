"""Blocks for gradients beside everything that ComfyUI and other packs do meanwhile."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import comfy.ldm.modules.attention as attention
import torch
import torch.nn.functional as F
from server import PromptServer

from pack.nodes.bridge.gradients import block as d
from pack.nodes.bridge.gradients import memory
from pack.nodes.bridge.gradients.model import DifferentiableModel
from pack.nodes.bridge.gradients.vae import Decoder
from pack.nodes.bridge.models.demo import load_vae
from pack.nodes.referee_can_play import RefereeOptimizer
from pack.nodes.runs import optimizer
from pack.nodes.runs import referee_can_play as sampler
from pack.referee_core import augment
from pack.referee_core.losses import MicroBatch, expected_loss
from pack.referee_core.methods.referee_can_play import LoopSettings
from pack.referee_core.record import History
from pack.referee_core.schedules import Schedule
from programs.players import cond, loss, model, play, prior, vae

found = {}

# a block in the middle of ComfyUI's work in the middle of a block
with torch.inference_mode():
    outer, inner = load_vae(), load_vae()


def weight(vae):
    return vae.first_stage_model.decoder.conv_in.weight


z = torch.zeros(1, 4, 4, 4)
with torch.inference_mode():
    original = weight(outer)
    with d.differentiable(Decoder(outer), shape=z.shape):
        found["outer stands in"] = weight(outer) is not original
        with d.as_comfyui_does():
            with d.differentiable(Decoder(inner), shape=z.shape):
                with d.as_comfyui_does():
                    found["suspended"] = weight(outer) is original and torch.is_inference_mode_enabled()
                found["inner is back"] = not weight(inner).is_inference()
            found["still suspended"] = weight(outer) is original
            outer.first_stage_model.to(torch.float16)
        found["outer is back"] = not weight(outer).is_inference()
    found["kept"] = str(weight(outer).dtype), len(d._running)
outer.first_stage_model.to(torch.float32)

# attention without a backward pass: a kernel under ComfyUI's name, one in the place of PyTorch's
x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
text, sigma = cond[0][0].clone(), torch.tensor([2.0])


def slope():
    through = DifferentiableModel(model)
    with d.differentiable(through, shape=x.shape):
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(model.model.apply_model(leaf, sigma, c_crossattn=text).square().sum(), leaf)[0]


def judged():
    with d.differentiable(Decoder(vae), loss=loss, shape=z.shape):
        leaf = torch.full((1, 3, 32, 32), 0.5).requires_grad_()
        total, _ = expected_loss(loss.loss, leaf, augment.NONE, [torch.Generator().manual_seed(1)], MicroBatch())
        return leaf.grad.clone()


plain = slope(), judged()
own = attention.optimized_attention


def sage(*args, **kwargs):
    with torch.no_grad():
        return own(*args, **kwargs)


users = [m for n, m in sys.modules.items() if n.startswith("comfy.") and vars(m).get("optimized_attention") is own]
for module in users:
    module.optimized_attention = sage
sdpa = F.scaled_dot_product_attention


def fast(*args, **kwargs):
    with torch.no_grad():
        return sdpa(*args, **kwargs)


F.scaled_dot_product_attention = fast
patched = slope(), judged()
found["gradients"] = [float((a - b).norm() / a.norm()) for a, b in zip(plain, patched, strict=True)]
left = [m.optimized_attention is sage for m in users] + [F.scaled_dot_product_attention is fast]
found["put back"] = len(users) > 1 and all(left)
F.scaled_dot_product_attention = sdpa
for module in users:
    module.optimized_attention = own


decoder = vae.first_stage_model.decoder
hook = decoder.register_forward_hook(lambda module, inputs, output: output.detach())
try:
    play(prior=None)
except RuntimeError as error:
    found["named"] = str(error)
hook.remove()


# a patch that keeps what it counts
def counting():
    calls = []

    def count(args):
        calls.append(1)
        return args["denoised"]

    return calls, count


class Kept:
    referee_keeps_state = True

    def __init__(self):
        self.calls = []

    def count(self, args):
        self.calls.append(1)
        return args["denoised"]


(forgot, plainly), (kept, marked), holder = counting(), counting(), Kept()
marked.referee_keeps_state = True
counted = model.clone()
for function in (plainly, marked, holder.count):
    counted.set_model_sampler_post_cfg_function(function)
play(prior=replace(prior, model=counted), steps=4)
found["calls"] = [len(forgot), len(kept), len(holder.calls)]


# devices
def on(where, load):
    part = torch.nn.Module()
    part.register_parameter("p", torch.nn.Parameter(torch.zeros(1)))
    patcher = SimpleNamespace(model=SimpleNamespace(parameters=lambda: [SimpleNamespace(device=torch.device(where))]))
    patcher.load_device = load
    return memory.is_whole(patcher)


found["whole"] = [on("cpu", "cpu"), on("cuda:1", torch.device("cuda:1")), on("meta", "cpu")]
found["elsewhere"] = [on("cuda:0", torch.device("cuda:1")), on("cpu", torch.device("cuda:0"))]
found["server"] = hasattr(PromptServer, "instance")

# a node called by a script: no server, no page
with torch.inference_mode():
    made = RefereeOptimizer.execute(
        vae=vae,
        latent_image={"samples": torch.zeros(1, 4, 16, 16)},
        loss=loss,
        seed=1,
        steps=1,
        preset="paper",
        w1=1.0,
        lr=0.1,
        lr_end=0.1,
        noise=0.0,
        tail=0,
        result="last",
        record_every=1,
        views_at_once=0,
        stop_at=0.0,
        patience=0,
    )
found["script"] = list(made.result[1].shape)


# the best step of each image of a batch, where one image never had a finite loss
def batch(result, broken):
    history, seen = History(), []

    def each(step):
        history.add(step)
        seen.append((step.best_z.clone(), step.z))
        if broken:
            history.best_loss = step.best_loss.clone()
            history.best_loss[1] = float("nan")

    settings = LoopSettings(steps=5, tail=0, lr=Schedule(3.0, 3.0), noise=1.0)
    setup = sampler.Setup(vae, loss, settings=settings)
    with torch.inference_mode():
        samples, _ = optimizer.run(setup, None, {"samples": torch.zeros(2, 4, 8, 8)}, 3, each, result, history)
    return samples["samples"].clone()


plain, best, mixed = batch("last", False), batch("best", False), batch("best", True)
found["rows"] = [torch.equal(mixed[0], best[0]), torch.equal(mixed[1], plain[1]), not torch.equal(best[1], plain[1])]

# globals that other packs change
start = {"samples": torch.zeros(1, 4, 16, 16)}
torch.set_default_dtype(torch.float64)
try:
    wide = play(latent=start)
finally:
    torch.set_default_dtype(torch.float32)
found["default dtype"] = float((wide - play(latent=start)).norm() / wide.norm())
