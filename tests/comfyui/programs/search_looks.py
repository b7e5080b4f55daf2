"""Attempts given up on the way, looks into them, latents with more rows, samplers with more steps."""

from dataclasses import replace

import comfy.sample
import comfy.samplers
import torch

from pack.nodes.runs import referee_can_play as sampler
from pack.nodes.runs import search as bridge
from pack.referee_core import augment
from pack.referee_core.methods import search as core
from pack.referee_core.methods.referee_can_play import LoopSettings
from programs.players import loss, model, prior, vae
from programs.search import EMPTY, always, guider, run, sampling_of_model

found = {}

full, _, _ = run("euler_ancestral", 6, attempts=5, prune_at=0.5, worth=always)
plain, _, _ = run("euler_ancestral", 6, attempts=5)
calls = []
model.model.diffusion_model.register_forward_pre_hook(lambda *_: calls.append(1))
pruned, _, sample = run("euler_ancestral", 6, attempts=5, prune_at=0.5)
found["calls"] = len(calls)
found["full"] = [[a.predicted.loss, a.verdict.loss] for a in full]
found["pruned"] = [[a.predicted.loss, a.verdict and a.verdict.loss] for a in pruned]
found["same"] = [torch.equal(a.picture.latent, b.picture.latent) for a, b in zip(full, plain, strict=True)]
found["report"] = bridge.report(pruned, sample.steps, 6).splitlines()

seen = []


class Half(comfy.samplers.Sampler):  # what ComfyUI's sampler predicts in its third step, by its own callback
    def sample(self, *args, **kwargs):
        args = list(args)
        args[3] = lambda i, x0, x, total: seen.append(x0.clone()) if i == 2 else None
        return comfy.samplers.sampler_object("euler_ancestral").sample(*args, **kwargs)


with torch.inference_mode():
    guider.sample(
        comfy.sample.prepare_noise(EMPTY["samples"], 3),
        EMPTY["samples"],
        Half(),
        comfy.samplers.calculate_sigmas(sampling_of_model, "normal", 6),
        seed=3,
    )
    image = vae.decode(model.model.process_latent_out(seen[0])).movedim(-1, 1)
    views = core.generators([3 + core.OWN_SEEDS], core.PURPOSES)["predicted"][0]
    found["by hand"] = core.judge_views(loss.loss, image, core.VIEWS, views).loss

setup = sampler.Setup(vae, loss, prior.make, replace(augment.PAPER, count=2), settings=LoopSettings(tail=0, noise=0.1))
optimiser = sampler.RefereeCanPlay(setup)
method, _, _ = run(optimiser, 3, attempts=3, prune_at=0.3, worth=always)
again, _, _ = run(optimiser, 3, attempts=3)
found["method"] = [torch.equal(a.picture.latent, b.picture.latent) for a, b in zip(method, again, strict=True)]
found["method predicted"] = [a.predicted.loss for a in method]


class Twice(comfy.samplers.Sampler):  # more steps than levels, as Referee Rounds
    def sample(self, model, sigmas, args, callback, *rest, **kwargs):
        for k in range(2):

            def each(i, x0, x, n, k=k):
                callback(k * n + i, x0, x, 2 * n)

            made = comfy.samplers.sampler_object("euler").sample(model, sigmas, args, each, *rest, **kwargs)
        return made


# a LATENT of one image with what is left of a batch of four
masks = torch.cat([torch.full((1, 1, 8, 8), v) for v in (1.0, 0.0, 0.0, 0.0)])
left = EMPTY | {"batch_index": [0, 1, 2, 3], "noise_mask": masks}
own, _, sample = run(latent=left, attempts=2)
first, _, _ = run(latent=EMPTY | {"noise_mask": masks[:1]}, attempts=2)
found["rows"] = [torch.equal(a.picture.latent, b.picture.latent) for a, b in zip(own, first, strict=True)], sample.notes
kept = sample.latent_of([a.picture for a in own])
found["kept"] = sorted(kept), list(kept["noise_mask"].shape)

_, _, sample = run(Twice(), 2, attempts=2)
found["twice"] = sample.progress.shares[1:], sample.steps
