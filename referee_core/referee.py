"""A referee is a frozen network that judges images against a text."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


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


def normalise(images: torch.Tensor) -> torch.Tensor:
    """CLIP's pixel statistics: [B, 3, H, W] in [0, 1] -> what the vision tower was trained on."""
    mean, std = (images.new_tensor(v)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std
