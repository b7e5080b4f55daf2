"""What most referees share. A new one writes three members: ``terms``, ``encode`` and ``losses``."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch

from .pixels import square


class RefereeBase(ABC):
    """A Referee (interfaces.py) that looks at squares of ``image_size`` pixels and tells nothing more of itself.

    Attributes:
        image_size: side of what it reads, in pixels.
    """

    terms: tuple[str, ...]
    probability: str | None = None
    checkpointing: bool = False
    image_size: int = 224

    @abstractmethod
    def encode(self, text: str) -> Any:
        """See Referee."""

    @abstractmethod
    def losses(self, seen: Any, text: Any, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        """See Referee."""

    def losses_of_all(
        self, seen: Any, texts: Sequence[Any], terms: Sequence[Sequence[str]]
    ) -> list[dict[str, torch.Tensor]]:
        return [self.losses(seen, text, own) for text, own in zip(texts, terms, strict=True)]

    def notes(self, text: Any) -> list[str]:
        return []

    def prepare(self, images: torch.Tensor, pooled: bool = False) -> torch.Tensor:
        return square(images, self.image_size, pooled)

    def encode_images(self, views: torch.Tensor) -> Any:
        return views

    def activation_bytes(self, checkpointing: bool, texts: int = 1) -> int:
        return 0
