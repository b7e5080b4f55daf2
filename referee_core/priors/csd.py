"""Classifier score distillation (Text-to-3D with Classifier Score Distillation, arXiv 2310.19415)."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..interfaces import Denoiser
from .sds import SDS


@dataclass(frozen=True, kw_only=True)
class CSD(SDS):
    """grad_z L_CSD = w2 w(t) scale (eps_target - eps_source) / 64^2: from one text towards another, at the same noise.

    With alpha z_hat + sigma eps_hat = x_t for both, the difference of noises is (alpha / sigma) (z_source - z_target).
    It is what classifier-free guidance adds to SDS. Guided by the prompt at scales c1 and c2, target and source differ
    by (c1 - c2) (z_cond - z_uncond): 1 and 0 give the paper's direction. So do the prompt and the empty text, each at
    scale 1, where one pass through the model serves for each.

    Attributes:
        denoiser: the target, usually the prompt. source: usually the empty text.
        scale: times the difference; of the size of a guidance scale.
    """

    source: Denoiser
    scale: float = 1.0
    name: ClassVar[str] = "CSD"
    describe: ClassVar[str] = "classifier score distillation"

    def away(self, z: torch.Tensor, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        return self.scale * (self.source(x, level) - self.denoiser(x, level))
