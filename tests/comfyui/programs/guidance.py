"""A guided MODEL of each kind, and a sampler for it."""

from dataclasses import replace

import comfy.sample
import torch
from comfy_extras import nodes_model_advanced as advanced

from pack.nodes.runs import guidance as bridge
from pack.referee_core.methods.gradient_guidance import GuidanceSettings
from programs.players import clip, cond, loss, model, vae
from programs.quiet import Quiet

SETTINGS = GuidanceSettings()


def guide(model, settings=SETTINGS, end=1.0, views=3, loss=loss):
    """The guided MODEL, and its guidance; what it showed last is guidance.shown."""

    def begin(steps):
        guidance.shown = Quiet()
        return guidance.shown

    guidance = bridge.Guidance(vae, loss, replace(bridge.VIEWS, count=views), settings, 0.0, end, begin)
    with torch.inference_mode():
        return guidance.attach(model), guidance


def sample(model, sampler="euler", steps=3, batch=1, seed=5, mask=None, latent=None, noise=None, size=8):
    with torch.inference_mode():
        latent = torch.zeros(batch, 4, size, size) if latent is None else latent
        noise = comfy.sample.prepare_noise(latent, seed) if noise is None else noise
        return comfy.sample.sample(
            model, noise, steps, 2.0, sampler, "normal", cond, empty, latent, noise_mask=mask, seed=seed
        ).clone()


with torch.inference_mode():
    empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    KINDS = {
        "eps": model,
        "v": advanced.ModelSamplingDiscrete().patch(model, "v_prediction", False)[0],
        "flow": advanced.ModelSamplingSD3().patch(model, 3.0)[0],
    }
    scaled = advanced.ModelSamplingSD3().patch(model, 3.0)[0]
    scaled.get_model_object("model_sampling").noise_scale = 2.0
    KINDS["flow with noise_scale"] = scaled
