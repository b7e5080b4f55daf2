"""EMA-restart (Referee Can Play, arXiv 2402.16305, Algorithm 1): the latent jumps back to its own average."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class EMARestart:
    """z_ema = decay z_ema + (1 - decay) z each step; z = z_ema in steps start, start + interval, ... (counted from 1).

    Attributes:
        decay: lambda in [0, 1).
        start: e_s, the first restart.
        interval: e_rs, steps between restarts; 0 restarts once.
    """

    decay: float = 0.95
    start: int = 40
    interval: int = 60

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ValueError(f"EMA decay must lie in [0, 1), got {self.decay}")

    def restarts_at(self, iteration: int) -> bool:
        """Whether iteration ``iteration`` (counted from 1) ends with a restart."""
        since = iteration - self.start
        return since >= 0 and (since % self.interval == 0 if self.interval else since == 0)

    def next_restart(self, iteration: int) -> int | None:
        """The first restart after ``iteration``, or None when there is none."""
        if iteration < self.start:
            return self.start
        return iteration + self.interval - (iteration - self.start) % self.interval if self.interval else None

    def update(self, average: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return self.decay * average + (1 - self.decay) * z
