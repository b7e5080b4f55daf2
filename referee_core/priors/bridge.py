"""The two stages of 'Rethinking Score Distillation as a Bridge Between Image Distributions' (arXiv 2406.09417)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..schedules import Schedule
from .csd import CSD
from .sds import SDS


@dataclass(frozen=True)
class Bridge:
    """Score distillation first; then a bridge from what the picture is by then to what it should be.

    Ordinary score distillation takes all pictures as the source. Late in a run a negative prompt describes the current
    picture better: the paper appends ", oversaturated, smooth, pixelated, ..." to the prompt.

    Attributes:
        first: before ``start``. second: from then on; its source is guided by the negative prompt, at scale 1, and its
            ``scale`` is the first one's guidance scale.
        start: share of the run, in [0, 1].
    Raises ValueError when the weights of the two differ.
    """

    first: SDS
    second: CSD
    start: float = 0.5
    name: ClassVar[str] = "SDS bridge"
    describe: ClassVar[str] = "score distillation as a bridge"

    def __post_init__(self):
        if self.first.weight != self.second.weight:
            raise ValueError("both stages of the bridge need the same weight")

    @property
    def weight(self) -> Schedule:
        return self.first.weight

    def gradient(self, z: torch.Tensor, progress: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
        stage = self.first if progress < self.start else self.second
        return stage.gradient(z, progress, streams)
