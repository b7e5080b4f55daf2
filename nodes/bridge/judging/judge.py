"""The referee as a judge of finished pictures: over random views, without gradients."""

import time
from typing import NamedTuple

import comfy.model_management
import torch

from ....referee_core.augment import Augmentation
from ....referee_core.methods.search import VIEWS, Verdict, judge_views
from ...sockets import LoadedLoss
from ..gradients.memory import ENOUGH_VIEWS, count_least_bytes, is_whole, load_whole, memory_for


class Picture(NamedTuple):
    """latent [1, C, ...] in the VAE's scale; image [1, H, W, C]."""

    latent: torch.Tensor
    image: torch.Tensor


class Judge:
    """The core's Judge (methods/search.py).

    augmentation: the views; without it gentle ones, in which a right picture stays right.

    Attributes:
        turns: how often it was asked. reloads: how often the referee had left its device since the turn before.
        seconds: that loading it again took, in all.
    """

    def __init__(self, loss: LoadedLoss, augmentation: Augmentation | None = None):
        self.loss = loss
        self.augmentation = augmentation or VIEWS
        self.turns, self.reloads, self.seconds = 0, 0, 0.0

    def __call__(self, picture: Picture, generator: torch.Generator) -> Verdict:
        at_once = min(self.augmentation.count, ENOUGH_VIEWS)
        self._load(at_once)
        image = picture.image[..., :3].movedim(-1, 1).to(self.loss.patchers[0].load_device)
        with memory_for("judging a picture"):
            verdict = judge_views(self.loss.loss, image, self.augmentation, generator, at_once)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return verdict

    def _load(self, at_once: int) -> None:
        patchers, began = list(self.loss.patchers), time.monotonic()
        pushed_out = self.turns > 0 and not all(p.is_dynamic() or is_whole(p) for p in patchers)
        load_whole(patchers, [], at_once * count_least_bytes(self.loss.loss))
        self.turns += 1
        if pushed_out:
            self.reloads += 1
            self.seconds += time.monotonic() - began

    def cost(self) -> str:
        """What it costs that the referee does not fit beside the diffusion model; "" where it does."""
        if not self.reloads:
            return ""
        times = f"{self.reloads} of {self.turns} looks, {self.seconds / self.reloads:.1f} s each"
        return f"the referee does not fit beside the model: loaded again for {times}"
