"""Gradient Guidance for Diffusion Models: An Optimization Perspective (arXiv 2404.14743), and its relatives.

In every step a sampler asks its model for the clean latent that the noisy one predicts. Here that prediction moves down
the gradient of a loss, whatever the sampler. All of it is told in k-space,

    x = z0 + sigma eps,    z0_hat(x) = the model's prediction,    v_hat = eps_hat - z0_hat (a flow model's velocity),

to which x_t = alpha_t z0 + sigma_t eps comes by dividing by alpha_t. In the paper's form, with abar_t = 1 / (1 +
sigma^2) and h_t = 1 - abar_t, the guided noise is eps - sqrt(h_t) G, which is z0_hat + sigma sqrt(h_t) G.

Three gradients g:
- ``prediction``: dL/dz0 at the prediction, which moves as a variable of its own (MPGD, arXiv 2311.16424; FMRG's
  Euclidean form, arXiv 2604.27147). Nothing passes back through the diffusion model.
- ``look-ahead``: dL(z0_hat(x))/dx, through the model too: G_loss of the paper, which stays where the data lie (DPS,
  arXiv 2209.14687; universal guidance, arXiv 2302.07121).
- ``naive``: dL/dz0 added to the score as it is: G of the paper, which leaves where the data lie.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ..augment import Augmentation
from ..losses import MicroBatch, RefereeLoss, loss_gradient
from ..optimisation import TINY, gradient, norm, of_length

GRADIENTS = ("prediction", "look-ahead", "naive")


class Objective(Protocol):
    """What the prediction should make small.

    Attributes:
        aim: the loss [B] at which there is nothing more to do, or None for "always a little less".
    """

    @property
    def aim(self) -> torch.Tensor | None: ...

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(L [B], dL/dz [B, C, ...]) at latents z; each image's own, whatever the batch."""
        ...


class Strength(Protocol):
    """How far a gradient moves the prediction; false where it does not."""

    def __bool__(self) -> bool: ...

    def __call__(self, at: "Place", g: torch.Tensor, loss: torch.Tensor, aim: torch.Tensor | None) -> torch.Tensor:
        """What is added to z0_hat [B, C, ...], for a gradient g of the kind ``at.gradient`` and the loss [B]."""
        ...


@dataclass(frozen=True)
class Place:
    """Where on its way a sampler is.

    Attributes:
        gradient: one of GRADIENTS. x: [B, C, ...] in k-space. sigma: [B, 1, ...]. z: the prediction z0_hat.
        mask: what may move, or None for all of it.
    """

    gradient: str
    x: torch.Tensor
    sigma: torch.Tensor
    z: torch.Tensor
    mask: torch.Tensor | None = None

    @property
    def velocity(self) -> torch.Tensor:
        """Length of v_hat [B, 1, ...]: what the rest of the way changes."""
        v = (self.x - self.z) / self.sigma - self.z
        return norm(v if self.mask is None else v * self.mask)

    @property
    def factor(self) -> torch.Tensor | float:
        """What turns a step on the score into one on z0_hat: sigma sqrt(h_t), times sqrt(1 + sigma^2) where the
        gradient is by x, since d/dz_t = sqrt(1 + sigma^2) d/dx."""
        if self.gradient == "prediction":
            return 1.0
        return self.sigma**2 if self.gradient == "look-ahead" else self.sigma**2 / (1 + self.sigma**2).sqrt()


@dataclass(frozen=True)
class Relative:
    """Each step as long as this share of v_hat, whatever the gradient's length; none once the aim is reached."""

    share: float = 0.05

    def __bool__(self) -> bool:
        return self.share > 0

    def __call__(self, at: Place, g: torch.Tensor, loss: torch.Tensor, aim: torch.Tensor | None) -> torch.Tensor:
        wanted = 1.0 if aim is None else (loss - aim).sign().view_as(at.sigma)
        return -of_length(g, self.share * at.velocity) * wanted


@dataclass(frozen=True)
class Constant:
    """beta of the paper's image experiments: G = -beta (L - aim) dL, or -beta dL without an aim."""

    beta: float = 1.0

    def __bool__(self) -> bool:
        return self.beta > 0

    def __call__(self, at: Place, g: torch.Tensor, loss: torch.Tensor, aim: torch.Tensor | None) -> torch.Tensor:
        residual = 1.0 if aim is None else (loss - aim).view_as(at.sigma)
        return -self.beta * residual * at.factor * g


@dataclass(frozen=True)
class TrustRegion:
    """beta_t of the paper's theory: as far as, to first order, lowers the loss by ``delta``, or down to the aim, and
    less where the gradient is too weak for it.

    Attributes:
        deviation: the paper's sigma, of the loss's value around what is asked for.
    """

    delta: float = 1.0
    deviation: float = 0.1

    def __bool__(self) -> bool:
        return self.delta > 0

    def __call__(self, at: Place, g: torch.Tensor, loss: torch.Tensor, aim: torch.Tensor | None) -> torch.Tensor:
        residual = self.delta if aim is None else (loss - aim).view_as(at.sigma)
        s2 = at.sigma**2
        h = s2 / (1 + s2)
        # beta_t = a_t / (sigma^2 + h |g|^2) for G, a_t^2 / (a_t^2 sigma^2 + h |dL/dz_t|^2) for G_loss, a_t^2 = 1 - h
        factors: dict[str, tuple[torch.Tensor | float, torch.Tensor | float]]
        factors = {"prediction": (1.0, 1.0), "naive": (h, h), "look-ahead": (s2, s2 * (1 + s2))}
        step, length = factors[at.gradient]
        return -residual * step * g / (self.deviation**2 + length * norm(g) ** 2).clamp_min(TINY)


@dataclass(frozen=True)
class GuidanceSettings:
    """How a prediction is guided.

    Attributes:
        gradient: one of GRADIENTS. strength: of a whole guided step.
        steps: gradient steps on the prediction, each with its share of the strength; for ``prediction`` only.
    """

    gradient: str = "prediction"
    strength: Strength = Relative()
    steps: int = 1

    def __post_init__(self) -> None:
        if self.gradient not in GRADIENTS:
            raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, got {self.gradient!r}")
        if self.steps < 1 or (self.steps > 1 and self.gradient != "prediction"):
            raise ValueError(f"steps must be 1, or more with the gradient 'prediction', got {self.steps}")


@dataclass
class Guided:
    """A guided prediction: z [B, C, ...], the loss [B] and the gradient before its (first) step."""

    z: torch.Tensor
    loss: torch.Tensor
    gradient: torch.Tensor


@dataclass
class Judged:
    """The Objective that a referee sets: the loss of the picture, over random views.

    Attributes:
        decode: differentiable, z -> image [B, 3, H, W]. streams: one generator an image.
        terms, match, picture: of the last call (see RefereeLoss).
    """

    loss: RefereeLoss
    decode: Callable[[torch.Tensor], torch.Tensor]
    augmentation: Augmentation
    streams: Sequence[torch.Generator]
    micro_batch: MicroBatch = field(default_factory=MicroBatch)
    aim: torch.Tensor | None = None
    terms: dict[str, torch.Tensor] = field(default_factory=dict)
    match: torch.Tensor | None = None
    picture: torch.Tensor | None = None

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total, self.terms, g, self.picture = loss_gradient(
            self.decode, z, self.loss, self.augmentation, self.streams, self.micro_batch
        )
        self.match = self.loss.match(self.terms)
        return total, g


def guided(
    z: torch.Tensor,
    x: torch.Tensor,
    sigma: torch.Tensor,
    objective: Objective,
    settings: GuidanceSettings,
    predict: Callable[[torch.Tensor], torch.Tensor] | None = None,
    mask: torch.Tensor | None = None,
) -> Guided:
    """Move a sampler's prediction down the gradient of a loss.

    Args:
        z: the model's prediction [B, C, ...]. x: what it was asked with, in k-space. sigma: [B], above 0.
        predict: x -> the same prediction, differentiable; for ``look-ahead``.
        mask: broadcasts to z, in [0, 1]: what may move, and how far.
    Returns: the moved prediction, without a graph.
    """
    sigma = sigma.to(x).view(-1, *[1] * (x.ndim - 1))
    z = moved = z.detach()
    for step in range(settings.steps):
        if settings.gradient == "look-ahead":
            assert predict is not None
            leaf = x.detach().requires_grad_()
            seen = predict(leaf)
            loss, g = objective(seen.detach())
            g = gradient(seen, leaf, g, through="the diffusion model")
        else:
            loss, g = objective(moved.detach())
        g = g if mask is None else g * mask
        if step == 0:
            first = loss, g
        change = settings.strength(Place(settings.gradient, x, sigma, z, mask), g, loss, objective.aim)
        moved = moved + change / settings.steps
    return Guided(moved, *first)
