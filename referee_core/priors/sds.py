"""Score distillation (DreamFusion, arXiv 2209.14988) as the prior of Referee Can Play (arXiv 2402.16305)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..interfaces import Denoiser
from ..randomness import randn_like
from ..schedules import Schedule

ORDERS = ("uniform", "descending")

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
        order: 'uniform' draws each timestep from the whole range; 'descending' goes from t_max to t_min over the run,
            linearly and for all images alike, so that the layout comes first and details last (DreamTime, arXiv
            2306.12422, shapes the way down by a prior of its own; HiFA, arXiv 2305.18766, by a square root).
    """

    denoiser: Denoiser
    weight: Schedule = Schedule(800.0, 400.0)
    t_min: int = 50
    t_max: int = 949
    weighting: float = 2.0
    order: str = "uniform"
    name: ClassVar[str] = "SDS"
    describe: ClassVar[str] = "score distillation"

    def __post_init__(self):
        if not 0 <= self.t_min <= self.t_max <= 999:
            raise ValueError(f"SDS timesteps need 0 <= t_min <= t_max <= 999, got {self.t_min} and {self.t_max}")
        if self.order not in ORDERS:
            raise ValueError(f"the order of timesteps must be one of {', '.join(ORDERS)}, got {self.order!r}")

    def gradient(self, z: torch.Tensor, progress: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
        """g_sds for latents z [B, C, ...]; image i draws its timestep and noise from streams[i] (on the CPU)."""
        alpha, sigma, level = self.noise_levels(self.timesteps(progress, streams), z)
        x = alpha * z + sigma * randn_like(z, streams)
        return self.factor(progress) * (alpha / sigma) * self.away(z, x, level)

    def away(self, z: torch.Tensor, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """Where z should not go, seen from its noised x."""
        return z - self.denoiser(x, level)

    def timesteps(self, progress: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
        """One timestep an image [B], on the CPU."""
        if self.order == "descending":
            return torch.full((len(streams),), round(self.t_max + (self.t_min - self.t_max) * progress))
        return torch.stack([torch.randint(self.t_min, self.t_max + 1, (), generator=g) for g in streams])

    def noise_levels(self, t: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(alpha [B, 1, ...], sigma [B, 1, ...], level [B]) of the model at timesteps t [B], fitting z [B, C, ...]."""
        *scales, level = self.denoiser.noise_levels(t)
        alpha, sigma = (v.to(z).view(-1, *[1] * (z.ndim - 1)) for v in scales)
        return alpha, sigma, level.to(z.device)

    def factor(self, progress: float) -> float:
        """w2 w(t) / 64^2."""
        return self.weight.at(progress) * self.weighting / REFERENCE_AREA
