"""What a measurement of an inverse problem is: y = A x + noise, where the picture x is wanted and y is given.

operators.py has the kinds, those of P2L (Chung, Ye, Milanfar, Delbracio, "Prompt-tuning Latent Diffusion Models for
Inverse Problems", ICML 2024, arXiv 2310.01110) and of the papers around it. Pictures x are [B, C, H, W], nominally in
[0, 1]. Papers use [-1, 1], so their standard deviation of the noise is twice ours: their 0.01 is our 0.005. No x is
clamped.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from .randomness import randn_like


def conjugate_gradients(
    apply: Callable[[torch.Tensor], torch.Tensor],
    b: torch.Tensor,
    start: torch.Tensor,
    iterations: int = 100,
    tolerance: float = 1e-7,
) -> torch.Tensor:
    """The u of apply(u) = b, for each picture of a batch [B, C, H, W] on its own.

    Args:
        apply: a linear map that is symmetric and positive definite.
        tolerance: a picture is done when the norm of b - apply(u) is at most this share of b's norm, or when the
            iterations are used up.
    """

    def dot(v: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return (v * w).flatten(1).sum(1).view(-1, 1, 1, 1)

    u, r = start, b - apply(start)
    p, rr = r, dot(r, r)
    enough = tolerance**2 * dot(b, b)
    for _ in range(iterations):
        going = rr > enough
        if not going.any():
            break
        applied = apply(p)
        stride = torch.where(going, rr / dot(p, applied), 0)
        u, r = u + stride * p, r - stride * applied
        before, rr = rr, dot(r, r)
        p = r + torch.where(going, rr / before, 0) * p
    return u


@dataclass(frozen=True)
class Measurement(ABC):
    """How a picture x [B, C, H, W] becomes a measurement y [B, C, h, w].

    Attributes:
        sigma: the standard deviation of the noise in y, for pictures in [0, 1].
        linear: whether A is a linear map. Only then are there an adjoint and a proximal step.
    """

    linear: ClassVar[bool] = True

    sigma: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not (self.sigma >= 0 and math.isfinite(self.sigma)):
            raise ValueError(f"sigma, the noise of a measurement, must be a number not below 0, got {self.sigma}")

    @abstractmethod
    def check(self, height: int, width: int) -> None:
        """Raise a ValueError when a picture of this size cannot be measured."""

    @abstractmethod
    def A(self, x: torch.Tensor) -> torch.Tensor:
        """The measurement without noise of x, whose size ``check`` must accept."""

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        """The size (H, W) of the picture that a measurement y of this size shows."""
        return height, width

    def measured(self, y: torch.Tensor) -> torch.Tensor:
        """1 where y holds a measured value and 0 elsewhere, of a shape that broadcasts to y's."""
        return y.new_ones(1, 1, 1, 1)

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        """A^T y [B, C, H, W], for which <A x, y> = <x, A^T y>; here by autograd, which is exact for a linear A."""
        self._must_be_linear()
        differentiable = torch.is_grad_enabled() and y.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            x = y.new_zeros(*y.shape[:2], *self.picture_size(*y.shape[-2:])).requires_grad_()
            return torch.autograd.grad(self.A(x), x, y, create_graph=differentiable)[0]

    @torch.no_grad()
    def prox(self, x: torch.Tensor, y: torch.Tensor, lam: float) -> torch.Tensor:
        """The u that minimises 1/2 ||A u - y||^2 + lam/2 ||u - x||^2, with lam > 0; it carries no gradient.

        It solves (A^T A + lam) u = A^T y + lam x, here by conjugate gradients that start at x, as in TReg (Kim et al.,
        arXiv 2311.15658). With gamma = 1/lam it is prox_l2 of the library deepinv. Published lam are from 1e-4 to 1.
        """
        self._must_be_linear()
        return conjugate_gradients(lambda u: self.A_adjoint(self.A(u)) + lam * u, self.A_adjoint(y) + lam * x, start=x)

    def first_guess(self, y: torch.Tensor) -> torch.Tensor:
        """A whole picture [B, C, H, W] made of y without any model: here y itself."""
        return y

    def degrade(self, x: torch.Tensor, streams: Sequence[torch.Generator]) -> torch.Tensor:
        """y = A x + sigma n, where image i's normal noise n comes from generator i."""
        self.check(*x.shape[-2:])
        y = self.A(x)
        return y + self.sigma * self.measured(y) * randn_like(y, streams)

    def _must_be_linear(self) -> None:
        if not self.linear:
            raise TypeError(f"{type(self).__name__} is not linear, so it has neither an adjoint nor a proximal step")


def residual(measurement: Measurement, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A x - y [B, C, h, w], and 0 where y holds no measured value."""
    return measurement.measured(y) * (measurement.A(x) - y)


def residual_rms(measurement: Measurement, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The root mean square [B] of A x - y over the measured values; of the true picture it is sigma on average."""
    r = residual(measurement, x, y)
    counted = measurement.measured(y).expand_as(r).flatten(1).sum(1)
    return ((r**2).flatten(1).sum(1) / counted).sqrt()
