"""Guidance, search and the optimizer on each kind of model."""

from dataclasses import replace

import comfy.sample
import comfy.samplers
import torch

from pack.nodes.bridge.judging import judge as judging
from pack.nodes.runs import guidance
from pack.nodes.runs import search as searching
from pack.nodes.runs.search_panel import SearchProgress
from pack.referee_core.methods import search as core
from pack.referee_core.methods.gradient_guidance import GuidanceSettings, Relative
from programs.players import loss, play, prior
from programs.quiet import Quiet
from programs.small_models import MODELS, autoencoder, build, known, prompt

found = {}


def methods(name):
    with torch.inference_mode():
        patcher, vae = build(name, torch.float32), autoencoder(MODELS[name][2])
        positive, negative = prompt(name, 2), prompt(name, 3)
        latent = torch.zeros(1, *MODELS[name][2])
        noise = comfy.sample.prepare_noise(latent, 5)

        def sample(model):
            made = comfy.sample.sample(model, noise, 2, 2.0, "euler", "simple", positive, negative, latent, seed=5)
            return made.clone()

        plain, out = sample(patcher), {}
        for gradient in ("prediction", "look-ahead"):
            shown = Quiet()
            guide = guidance.Guidance(
                vae,
                loss,
                replace(guidance.VIEWS, count=1),
                GuidanceSettings(gradient, Relative(0.1)),
                0.0,
                1.0,
                lambda steps, shown=shown: shown,
            )
            made = sample(guide.attach(patcher))
            out[gradient] = [bool(made.isfinite().all()), (made - plain).abs().max().item(), len(shown.steps)]
        out["plain again"] = torch.equal(sample(patcher), plain)
        guider = comfy.samplers.CFGGuider(patcher)
        guider.set_conds(positive, negative)
        guider.set_cfg(2.0)
        sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", 2)
        attempts = searching.Attempts(
            guider,
            comfy.samplers.sampler_object("euler"),
            sigmas,
            {"samples": latent},
            vae,
            1,
            False,
            0,
            SearchProgress(None, 1, 2, 0.0, None),
        )
        settings = core.SearchSettings(attempts=1, stop_at=0.0)
        *_, tried = core.search(attempts, judging.Judge(loss), settings, 5)
        out["search"] = [torch.equal(tried[0].picture.latent, plain), tried[0].verdict.match]
        moved = play(
            vae=vae,
            prior=replace(prior, model=patcher, positive=positive, negative=negative),
            latent={"samples": torch.randn(latent.shape, generator=torch.Generator().manual_seed(1))},
        )
        out["optimizer"] = [bool(moved.isfinite().all()), moved.std().item()]
    return out


found |= {name: methods(name) for name in known()}
