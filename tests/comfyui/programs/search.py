"""A search on the demo's models."""

import comfy.samplers
import torch

from pack.nodes.bridge.judging.judge import Judge
from pack.nodes.runs import search as bridge
from pack.referee_core.methods import search as core
from programs.players import cond, loss, model, vae

guider = comfy.samplers.CFGGuider(model)
guider.set_conds(cond, cond)
guider.set_cfg(1.0)
sampling_of_model = model.get_model_object("model_sampling")
EMPTY = {"samples": torch.zeros(1, 4, 8, 8)}


class Quiet:
    finish_asked, best = False, None

    def __init__(self):
        self.groups, self.shares = [], [1.0]

    def step(self, at_once, share):
        if share <= self.shares[-1]:
            self.groups.append(at_once)
        self.shares.append(share)

    def sampled(self, attempts):
        pass


def run(sampler="euler", steps=4, at_once=0, worth=core.better_half, judge=None, seed=3, latent=EMPTY, **settings):
    """All attempts, and the sizes of the batches."""
    settings, quiet = core.SearchSettings(**{"stop_at": 0.0, "keep": 99} | settings), Quiet()
    sigmas = comfy.samplers.calculate_sigmas(sampling_of_model, "normal", steps)
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    with torch.inference_mode():
        looks = settings.looks_after(steps)
        sample = bridge.Attempts(guider, sampler, sigmas, latent, vae, at_once, settings.stop_at > 0, looks, quiet)
        *_, attempts = core.search(sample, judge or Judge(loss), settings, seed, worth)
    return attempts, quiet.groups, sample


def always(predicted, earlier):
    return True


def off(one, other):
    return max((a.picture.latent - b.picture.latent).abs().max().item() for a, b in zip(one, other, strict=True))
