"""Score distillation (DreamFusion, arXiv 2209.14988) as the prior of Referee Can Play (arXiv 2402.16305)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..interfaces import Denoiser
from ..randomness import randn_like
from ..schedules import Schedule

REFERENCE_AREA = 64 * 64
"""Latent elements per channel at 512x512. The published normalisation divides by the latent's area; using the area of
the published resolution at every resolution keeps the pull on each element the same."""


@dataclass(frozen=True)
class SDS:
    """grad_z L_SDS = w2 w(t) (eps_hat - eps) / 64^2.

    With eps_hat = (x_t - alpha z_hat) / sigma the difference of noises is (alpha / sigma) (z - z_hat), so any model
    that predicts z serves, whatever it was trained to predict.

    Attributes:
        denoiser: the guided model.
        weight: w2 over the run, from its start to its end.
        t_min, t_max: range of the timesteps, of 1000.
        weighting: w(t), constant.
    """

    denoiser: Denoiser
    weight: Schedule = Schedule(800.0, 400.0)
    t_min: int = 50
    t_max: int = 949
    weighting: float = 2.0
    name: ClassVar[str] = "SDS"
    describe: ClassVar[str] = "score distillation"

    def __post_init__(self) -> None:
        if not 0 <= self.t_min <= self.t_max <= 999:
            raise ValueError(f"SDS timesteps need 0 <= t_min <= t_max <= 999, got {self.t_min} and {self.t_max}")

    @torch.no_grad()
    def gradient(self, z: torch.Tensor, progress: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
        """g_sds for latents z [B, C, ...]; image i draws its timestep and noise from streams[i] (on the CPU)."""
        t = torch.stack([torch.randint(self.t_min, self.t_max + 1, (), generator=g) for g in streams])
        *scales, level = self.denoiser.noise_levels(t)
        alpha, sigma = (v.to(z).view(-1, *[1] * (z.ndim - 1)) for v in scales)
        x = alpha * z + sigma * randn_like(z, streams)
        factor = self.weight.at(progress) * self.weighting / REFERENCE_AREA
        return factor * (alpha / sigma) * (z - self.denoiser(x, level.to(z.device)))
