"""Rounds of sampling on the demo's models."""

from dataclasses import replace

import comfy.sample
import comfy.samplers
import torch

from pack.nodes.runs.rounds import Rounds
from pack.referee_core.methods.gradient_guidance import GuidanceSettings, Relative
from pack.referee_core.methods.search import VIEWS
from programs.players import clip, cond, loss, model, vae
from programs.quiet import Quiet

STEPS = 3
sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)


def make(count=2, name="euler", gradient="prediction", stop_at=0.0, share=0.3, loss=loss):
    def begin(rounds):
        make.shown = Quiet()
        return make.shown

    settings = GuidanceSettings(gradient, Relative(share))
    return Rounds(
        comfy.samplers.sampler_object(name),
        vae,
        loss,
        replace(VIEWS, count=3),
        settings,
        count,
        1.0,
        stop_at,
        0.0,
        0.7,
        begin,
    )


def sample(sampler, model=model, batch=1, seed=5, mask=None, latent=None, callback=None):
    with torch.inference_mode():
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(cond, empty)
        guider.set_cfg(2.0)
        latent = torch.zeros(batch, 4, 8, 8) if latent is None else latent
        noise = comfy.sample.prepare_noise(latent, seed)
        return guider.sample(
            noise, latent, sampler, sigmas, denoise_mask=mask, callback=callback, disable_pbar=True, seed=seed
        ).clone()


def predicted(model):
    """What a MODEL makes by itself."""
    return sample(comfy.samplers.sampler_object("euler"), model)


with torch.inference_mode():
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
