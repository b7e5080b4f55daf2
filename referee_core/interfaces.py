"""What the methods ask of those who take part: protocols only."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch


class Referee(Protocol):
    """What the methods ask of a referee.

    Attributes:
        image_size: side in pixels of the square images it reads.
        terms: names of the losses it offers, e.g. ("itm", "caption").
        checkpointing: compute the inner layers twice instead of keeping them for the backward pass.
    """

    image_size: int
    terms: tuple[str, ...]
    checkpointing: bool

    def encode(self, text: str) -> Any:
        """Prepare a text once. Raises ValueError when nothing is left to judge."""
        ...

    def losses(self, images: torch.Tensor, text: Any, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        """The named losses, each [N], of images [N, 3, image_size, image_size] in [0, 1] against an encoded text."""
        ...

    def activation_bytes(self, checkpointing: bool) -> int:
        """About how many bytes one image keeps for its backward pass."""
        ...


class NoiseLevel(NamedTuple):
    """x_t = alpha z + sigma eps, and how the model names this level, which need not be sigma. Each [B]."""

    alpha: torch.Tensor
    sigma: torch.Tensor
    level: torch.Tensor


class Denoiser(Protocol):
    """A frozen diffusion model with its conditioning and classifier-free guidance."""

    def noise_levels(self, t: torch.Tensor) -> NoiseLevel:
        """The noise levels at timesteps t [B] in [0, 999]."""
        ...

    def __call__(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The guided prediction of z from x_t [B, C, h, w] at the model's levels [B]."""
        ...
