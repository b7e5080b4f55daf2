"""The referee as a judge of finished pictures: over random views, without gradients."""

from typing import NamedTuple

import comfy.model_management
import torch

from ....referee_core.augment import Augmentation
from ....referee_core.methods.search import VIEWS, Verdict, judge_views
from ...sockets import LoadedLoss
from ..gradients.memory import ENOUGH_VIEWS, count_least_bytes, load_whole, memory_for


class Picture(NamedTuple):
    """latent [1, C, ...] in the VAE's scale; image [1, H, W, C]."""

    latent: torch.Tensor
    image: torch.Tensor


class Judge:
    """The core's Judge (methods/search.py).

    augmentation: the views; without it gentle ones, in which a right picture stays right.
    """

    def __init__(self, loss: LoadedLoss, augmentation: Augmentation | None = None):
        self.loss = loss
        self.augmentation = augmentation or VIEWS

    def __call__(self, picture: Picture, generator: torch.Generator) -> Verdict:
        at_once = min(self.augmentation.count, ENOUGH_VIEWS)
        load_whole(list(self.loss.patchers), [], at_once * count_least_bytes(self.loss.loss))
        image = picture.image[..., :3].movedim(-1, 1).to(self.loss.patchers[0].load_device)
        with memory_for("judging a picture"):
            verdict = judge_views(self.loss.loss, image, self.augmentation, generator, at_once)
        comfy.model_management.throw_exception_if_processing_interrupted()
        return verdict
