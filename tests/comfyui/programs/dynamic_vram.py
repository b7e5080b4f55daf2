"""Runs and guidance with models that ComfyUI's dynamic VRAM pages."""

from dataclasses import replace

import comfy.memory_management
import comfy.model_management as mm
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy_aimdo.host_buffer
import comfy_aimdo.model_vbar as vbar
import torch
from comfy.cli_args import args

from pack.nodes.bridge.gradients import block as differentiable
from pack.nodes.bridge.gradients.stand_ins import StandIns
from pack.nodes.bridge.gradients.vae import Decoder
from pack.nodes.runs import guidance
from pack.referee_core.methods.gradient_guidance import GuidanceSettings, Relative
from programs import card  # before the players, who then stand on it
from programs.players import cond, loss, model, play, prior
from programs.quiet import Quiet
from programs.random_checkpoints import autoencoder, fill

found = {}

vram = card.memory


class Pages:
    def __init__(self, *size):
        self.size = 0

    def alloc(self, size):
        return self, 0, size

    def prioritize(self):
        pass

    def loaded_size(self):
        return 0

    def free_memory(self, size):
        return 0


args.disable_pinned_memory = True
vbar.ModelVBAR = comfy_aimdo.host_buffer.HostBuffer = Pages
vbar.vbar_fault, vbar.vbar_signature_compare, vbar.vbar_unpin = (lambda *a: None), (lambda *a: False), (lambda *a: None)
weights = {name: fill(name, t.shape, 0.05).float() for name, t in autoencoder().items()}


def full_size_vae():
    with torch.inference_mode():
        return comfy.sd.VAE(sd={name: t.clone() for name, t in weights.items()}, dtype=torch.float32)


def changed(vae):
    """In place, as other nodes do: norms of other groups, a closure, a LoRA."""
    decoder, g = vae.first_stage_model.decoder, torch.Generator().manual_seed(0)
    decoder.norm_out.num_groups = 16
    conv = decoder.conv_out.forward
    decoder.conv_out.forward = lambda x: conv(x).sin()
    name, weight = "decoder.mid.block_1.conv1.weight", weights["decoder.mid.block_1.conv1.weight"]
    vae.patcher.add_patches({name: ("diff", (0.05 * torch.randn(weight.shape, generator=g),))})
    return vae


def decoded(vae):
    decoder, z = Decoder(vae), torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    with differentiable.differentiable(decoder, shape=z.shape):
        image = decoder(z.requires_grad_())
        return image.detach(), torch.autograd.grad(image.square().sum(), z)[0]


def gaps(a, b):
    return [((x - y).abs().max() / y.abs().max()).item() for x, y in zip(a, b, strict=True)]


def small():
    return {"samples": torch.zeros(1, 4, 8, 8)}


expected = play(full_size_vae(), latent=small())
as_they_are, expected_change = decoded(full_size_vae()), decoded(changed(full_size_vae()))
found["the change shows"] = gaps(expected_change, as_they_are)
mm.unload_all_models()
dynamic = comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
comfy.memory_management.aimdo_enabled = True
paged, vae = dynamic(model.model, card.CARD, torch.device("cpu")), full_size_vae()
found["dynamic"] = [paged.is_dynamic(), vae.patcher.is_dynamic()]
for run in ("first", "second"):
    found[run] = (play(vae, prior=replace(prior, model=paged), latent=small()) - expected).abs().max().item()
    found[f"on the card after the {run}"] = vram.used
found["changed"] = gaps(decoded(changed(full_size_vae())), expected_change)

# guided: the same picture, and what has to be copied is copied once a run


copies, copy = [], StandIns._copy


def counted(self, t, key):
    copies.append(t.nbytes)
    return copy(self, t, key)


StandIns._copy = counted


def guided(model, vae, gradient, steps=3):
    copies.clear()
    guide = guidance.Guidance(
        vae,
        loss,
        replace(guidance.VIEWS, count=1),
        GuidanceSettings(gradient, Relative(0.05)),
        0.0,
        1.0,
        lambda steps: Quiet(),
    )
    with torch.inference_mode():
        latent = torch.zeros(1, 4, 4, 4)
        noise = comfy.sample.prepare_noise(latent, 3)
        made = comfy.sample.sample(
            guide.attach(model), noise, steps, 2.0, "euler", "normal", cond, cond, latent, seed=3
        ).clone()
    return made, sum(copies)


for gradient in ("prediction", "look-ahead"):
    expected, _ = guided(model, full_size_vae(), gradient)
    made, three = guided(paged, vae, gradient)
    _, six = guided(paged, vae, gradient, steps=6)
    found[gradient] = ((made - expected).norm() / expected.norm()).item(), three, six
    mm.unload_all_models()
    found[gradient + ", left"] = vram.used
found["paged"] = [sum(hasattr(part, "_v") for part in p.model.modules()) for p in (paged, vae.patcher)]
