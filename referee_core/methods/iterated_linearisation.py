"""Algorithms 1 and 2 of Gradient Guidance for Diffusion Models: An Optimization Perspective (arXiv 2404.14743).

A picture is sampled again and again, each time guided by the loss to first order around the last result z_k:

    L_k(z) = L(z_k) + <dL(z_k), z - z_k>,    aimed at L(z_k) - delta.

So the referee is asked once a round, however many steps the sampler makes. Here z is the latent, in which the paper's
x lives: its image experiments take the gradient by pixels, and pass it back through the decoder in every step.

Algorithm 2 also teaches the model, between rounds, the pictures that it has just made, by denoising score matching.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from .gradient_guidance import Objective


@dataclass(frozen=True)
class Linearised:
    """The Objective of a round: a loss to first order around z_k [B, C, ...].

    Attributes:
        loss: L(z_k) [B]. gradient: dL(z_k). delta: how much lower than there the loss is wanted.
    """

    z: torch.Tensor
    loss: torch.Tensor
    gradient: torch.Tensor
    delta: float

    @property
    def aim(self) -> torch.Tensor:
        return self.loss - self.delta

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.loss + (self.gradient * (z - self.z)).flatten(1).sum(1), self.gradient


@dataclass(frozen=True)
class Round:
    """What a round made: z [B, C, ...], its loss [B] and gradient; best_z, best_loss: each image's best so far."""

    index: int
    z: torch.Tensor
    loss: torch.Tensor
    gradient: torch.Tensor
    best_z: torch.Tensor
    best_loss: torch.Tensor


def rounds(
    sample: Callable[[Linearised | None], torch.Tensor], objective: Objective, count: int, delta: float
) -> Iterator[Round]:
    """One plain sampling, then ``count`` guided ones.

    Args:
        sample: what guides it, None at first -> z [B, C, ...]; from the same noise each time.
        objective: the loss, asked once a round.
    """
    surrogate = best_z = best_loss = None
    for k in range(count + 1):
        z = sample(surrogate)
        loss, gradient = objective(z)
        if best_z is None or best_loss is None:
            best_z, best_loss = z, loss
        better = loss < best_loss
        best_z = torch.where(better.view(-1, *[1] * (z.ndim - 1)), z, best_z)
        best_loss = torch.where(better, loss, best_loss)
        yield Round(k, z, loss, gradient, best_z, best_loss)
        surrogate = Linearised(z, loss, gradient, delta)


def score_matching(
    predict: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    z0: torch.Tensor,
    sigma: torch.Tensor,
    eps: torch.Tensor,
) -> torch.Tensor:
    """|eps_hat - eps|^2, the mean over each image [B], of a model that predicts the clean latent in k-space.

    Args:
        predict: x = z0 + sigma eps [B, C, ...], sigma [B] -> z0_hat. eps: noise of z0's shape.
    """
    wide = sigma.view(-1, *[1] * (z0.ndim - 1))
    return ((predict(z0 + wide * eps, sigma) - z0) / wide).square().flatten(1).mean(1)
