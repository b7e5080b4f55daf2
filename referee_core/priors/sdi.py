"""Score distillation via inversion (Score Distillation via Reparametrized DDIM, arXiv 2405.15891)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..interfaces import Denoiser
from .sds import SDS

TIMESTEPS = 1000


@dataclass(frozen=True, kw_only=True)
class SDI(SDS):
    """grad_z L_SDI = w2 w(t) (z - z_hat(x_t)) / 64^2 at the x_t from which the model would have come to z.

    Instead of adding fresh noise, x_t is found by DDIM inversion: from z up to t in steps of 1000 / inversion_steps. A
    step then costs up to inversion_steps + 1 predictions, less as t falls. The gradient is the paper's: that of SDS
    times sigma / alpha. The authors' code also noises the inversion (eta 0.3) and ends it a little above t; both are
    left out, so nothing here is random.

    Attributes:
        inverter: the model of ``denoiser``, guided at a scale that leads away from the prompt. For a scale c (1 is no
            guidance) the authors take 2 - c.
        inversion_steps: from t = 0 to 1000.
    """

    inverter: Denoiser
    inversion_steps: int = 10
    order: str = "descending"
    name: ClassVar[str] = "SDI"
    describe: ClassVar[str] = "score distillation via inversion"

    def __post_init__(self):
        super().__post_init__()
        if self.inversion_steps < 1:
            raise ValueError(f"inversion_steps must be at least 1, got {self.inversion_steps}")

    def gradient(self, z: torch.Tensor, progress: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
        t = self.timesteps(progress, streams)
        _, _, level = self.noise_levels(t, z)
        return self.factor(progress) * self.away(z, self.invert(z, t), level)

    def invert(self, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t of latents z at timesteps t [B], by DDIM inversion."""
        stride = math.ceil(TIMESTEPS / self.inversion_steps)
        x, here = z, self.noise_levels(torch.zeros_like(t), z)
        for reached in range(stride, int(t.max()) + stride, stride):
            there = self.noise_levels(t.clamp(max=reached), z)
            (alpha, sigma, level), (next_alpha, next_sigma, _) = here, there
            z_hat = self.inverter(x, level)
            x, here = next_alpha * z_hat + next_sigma * (x - alpha * z_hat) / sigma, there
        return x
