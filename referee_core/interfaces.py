"""What the methods ask of those who take part: protocols only."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch

from .schedules import Schedule


class Referee(Protocol):
    """A frozen network that judges images against texts.

    Attributes:
        terms: names of the losses it offers, e.g. ("itm", "caption").
        probability: the term L whose exp(-L) is the probability that image and text match, or None.
        checkpointing: compute the inner layers twice instead of keeping them for the backward pass.
    """

    checkpointing: bool

    @property
    def terms(self) -> tuple[str, ...]: ...

    @property
    def probability(self) -> str | None: ...

    def encode(self, text: str) -> Any:
        """Prepare a text once. Raises ValueError when nothing is left to judge."""
        ...

    def notes(self, text: Any) -> list[str]:
        """What a user should know about how an encoded text is read, a sentence each."""
        ...

    def prepare(self, images: torch.Tensor, pooled: bool = False) -> torch.Tensor:
        """Images [B, 3, H, W], nominally in [0, 1], in the size it reads, clamped with a gradient everywhere.

        pooled: shrink by the mean of average and maximum pooling, as the authors of Referee Can Play do.
        """
        ...

    def encode_images(self, views: torch.Tensor) -> Any:
        """Look at prepared images, or random views of them, once for all texts."""
        ...

    def losses(self, seen: Any, text: Any, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        """The named losses, each [N], of N encoded images against an encoded text; gradients reach the images."""
        ...

    def losses_of_all(
        self, seen: Any, texts: Sequence[Any], terms: Sequence[Sequence[str]]
    ) -> list[dict[str, torch.Tensor]]:
        """The same against several texts, each with its terms."""
        ...

    def activation_bytes(self, checkpointing: bool, texts: int = 1) -> int:
        """About how many bytes one image judged against so many texts keeps for its backward pass; 0: not known."""
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


class Prior(Protocol):
    """What keeps a latent natural.

    Attributes:
        name: short, for curves. describe: in a sentence, for errors. weight: over the run; it is in the gradient
            already.
    """

    @property
    def name(self) -> str: ...

    @property
    def describe(self) -> str: ...

    @property
    def weight(self) -> Schedule: ...

    def gradient(self, z: torch.Tensor, progress: float, streams: Sequence[torch.Generator]) -> torch.Tensor:
        """Where z [B, C, ...] should not go, of z's shape, when this share of the run is done; its randomness for image
        i comes from streams[i]."""
        ...
