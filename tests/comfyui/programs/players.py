"""The demo's models, a loss, a prior, and ``play``, a short run of the method on them."""

from dataclasses import replace

import torch

from pack.nodes.bridge.models.demo import load_clip, load_model, load_vae
from pack.nodes.bridge.models.referee_files import load_referee
from pack.nodes.runs import optimizer
from pack.nodes.runs import referee_can_play as sampler
from pack.nodes.sockets import LoadedLoss, LoadedPrior
from pack.referee_core import augment
from pack.referee_core.demo.storage import path
from pack.referee_core.losses import bind
from pack.referee_core.methods.referee_can_play import LoopSettings
from pack.referee_core.priors.sds import SDS
from pack.referee_core.record import History
from pack.referee_core.schedules import Schedule

with torch.inference_mode():
    vae, referee, model, clip = load_vae(), load_referee(path("referee")), load_model(), load_clip()
    with torch.inference_mode(False):
        loss = LoadedLoss(bind(referee.referee, "a red circle", itm=1.0, caption=1.0), (referee.patcher,))
    cond = clip.encode_from_tokens_scheduled(clip.tokenize("a red circle"))
prior = LoadedPrior(model, cond, cond, 3.0, SDS)


def play(vae=vae, loss=loss, prior=prior, latent=None, on_step=lambda *a: None, steps=2, at_once=0, **changes):
    """The latent after a short run of the method."""
    settings = LoopSettings(steps=steps, tail=0, lr=Schedule(0.3, 0.15), noise=0.1, micro_batch=at_once)
    setup = sampler.Setup(vae, loss, augmentation=replace(augment.PAPER, count=4), settings=settings, **changes)
    history = History()

    def each(step):
        history.add(step)
        on_step(step)

    with torch.inference_mode():
        latent = latent or {"samples": torch.zeros(1, 4, 16, 16)}
        return optimizer.run(setup, prior, latent, 1, each, "last", history)[0]["samples"]
