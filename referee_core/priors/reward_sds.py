"""RewardSDS (Aligning Score Distillation via Reward-Weighted Sampling, arXiv 2503.09601)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from ..randomness import randn_like
from .sds import SDS


@dataclass(frozen=True, kw_only=True)
class RewardSDS(SDS):
    """The mean of SDS over several noises at the same timestep, weighted by a softmax of what each leads to.

    The weights sum to 1, so it is SDS towards the weighted mean of the predictions. The authors follow each noise for
    up to 15 sampling steps before they judge it; here the prediction of z itself is judged.

    Attributes:
        reward: of latents [B, C, ...], [B], the higher the better; e.g. minus the referee's loss of the decoded ones.
        noises: N, predictions and rewards a step.
        temperature: of the softmax, in units of the reward.
    """

    reward: Callable[[torch.Tensor], torch.Tensor]
    noises: int = 4
    temperature: float = 1.0
    name: ClassVar[str] = "RewardSDS"
    describe: ClassVar[str] = "reward-weighted score distillation"

    def __post_init__(self):
        super().__post_init__()
        if self.noises < 1 or self.temperature <= 0:
            raise ValueError("RewardSDS needs at least 1 of noises, and a temperature above 0")

    def gradient(self, z: torch.Tensor, progress: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
        alpha, sigma, level = self.noise_levels(self.timesteps(progress, streams), z)
        away, rewards = [], []
        for _ in range(self.noises):
            away.append(self.away(z, alpha * z + sigma * randn_like(z, streams), level))
            rewards.append(self.reward(z - away[-1]))
        shares = torch.softmax(torch.stack(rewards).to(z) / self.temperature, dim=0)
        mean = sum(share.view(alpha.shape) * one for share, one in zip(shares, away, strict=True))
        return self.factor(progress) * (alpha / sigma) * mean
