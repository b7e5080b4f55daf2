"""Inverse Sampler on each kind of model: small instances of ComfyUI's own classes, with random weights."""

import comfy.sample
import comfy.samplers
import torch

from pack.nodes.bridge.measuring import KINDS
from pack.nodes.restore import FIXED, PRESETS
from pack.nodes.runs import p2l
from pack.referee_core.methods.p2l import P2LSettings
from programs.quiet import Quiet
from programs.small_models import MODELS, autoencoder, build, known, prompt

found = {}
STEPS = 2


def restore(name):
    with torch.inference_mode():
        patcher, vae = build(name, torch.float32), autoencoder(MODELS[name][2])
        positive, negative = prompt(name, 2), prompt(name, 3)
        latent = torch.zeros(1, *MODELS[name][2])
        noise = comfy.sample.prepare_noise(latent, 5)

        def sample():
            made = comfy.sample.sample(
                patcher, noise, STEPS, 2.0, "euler", "simple", positive, negative, latent, seed=5
            )
            return made.clone()

        plain, made = sample(), {}
        side = latent.shape[-1] * vae.spacial_compression_decode()
        measured = torch.rand(1, side // 2, side // 2, 3, generator=torch.Generator().manual_seed(1))
        sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", STEPS)
        for preset, numbers in PRESETS.items():
            every = {"project_every": 1} if numbers.get("project_every") else {}  # there are two steps only
            settings = P2LSettings(**numbers | every, **FIXED.get(preset, {}))
            setup = p2l.Setup(KINDS["super-resolution"](0.01, factor=2), measured, vae, settings, lambda steps: Quiet())
            guider = comfy.samplers.CFGGuider(patcher)
            guider.set_conds(positive, negative)
            guider.set_cfg(2.0)
            z = guider.sample(noise, latent, p2l.InverseSampler(setup), sigmas, seed=5)
            made[preset] = [bool(z.isfinite().all()), float((z - plain).abs().max()), z.shape == plain.shape]
        guess = setup.first_latent()["samples"]
        return {"presets": made, "guess": guess.shape == plain.shape, "plain again": torch.equal(sample(), plain)}


found |= {name: restore(name) for name in known()}
