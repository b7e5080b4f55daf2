"""A sampler of any Denoiser, and the gradient of what it makes through its last steps.

One formula for all kinds of models: x_t = alpha z + sigma eps, so from a prediction of z follows one of eps, and from
both the next x. For eps- and v-models that is DDIM (Song et al., arXiv 2010.02502), for flow models Euler's method.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from .interfaces import Denoiser, NoiseLevel

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""The call of a Denoiser: (x [B, ...], its levels [B]) -> the prediction of z."""
Draw = Callable[[torch.Tensor], torch.Tensor]
"""Fresh normal noise of a tensor's shape."""
Move = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(prediction of z, of eps) -> the z to go on with."""


def spaced_levels(denoiser: Denoiser, steps: int) -> list[NoiseLevel]:
    """The noise levels of so many steps, equally spaced in the model's timesteps; each of one number."""
    timesteps = torch.linspace(999, -1, steps + 1).round().long()[:-1]
    return [NoiseLevel(*(v.float() for v in denoiser.noise_levels(t[None]))) for t in timesteps]


def step(
    predict: Predict,
    x: torch.Tensor,
    now: NoiseLevel,
    after: NoiseLevel | None,
    eta: float = 0.0,
    noise: torch.Tensor | None = None,
    move: Move | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """From x at one noise level to the next x and the prediction of z; after the last level they are the same.

    Args:
        eta: the share of fresh noise, which is to be given then: 0 for DDIM, 1 for ancestral sampling.
    """
    z = predict(x, now.level.expand(len(x)))
    alpha, sigma = now.alpha.to(x), now.sigma.to(x)
    eps = (x - alpha * z) / sigma
    if move is not None:
        z = move(z, eps)
    if after is None:
        return z, z
    next_alpha, next_sigma = after.alpha.to(x), after.sigma.to(x)
    kept, fresh = next_sigma, torch.zeros_like(next_sigma)
    if noise is not None:
        fresh = eta * (next_sigma / sigma) * (sigma**2 - (alpha * next_sigma / next_alpha) ** 2).clamp(min=0).sqrt()
        kept = (next_sigma**2 - fresh**2).clamp(min=0).sqrt()
    x = next_alpha * z + kept * eps
    return (x if noise is None else x + fresh * noise), z


def ddim(
    predict: Predict,
    x: torch.Tensor,
    levels: Sequence[NoiseLevel],
    eta: float = 0.0,
    draw: Draw | None = None,
    move: Move | None = None,
) -> Iterator[torch.Tensor]:
    """Sample from noise x [B, ...]: yields each step's prediction of z, the last of which is the result."""
    for i, now in enumerate(levels):
        after = levels[i + 1] if i + 1 < len(levels) else None
        noise = draw(x) if eta and draw is not None and after is not None else None
        x, z = step(predict, x, now, after, eta, noise, move)
        yield z


class Path:
    """Deterministic sampling, remembered so that the gradient of its result can go back through the last steps.

    Backward each step is computed once more, so that one step's graph is all that memory holds, however many there are.

    Args:
        x: [B, ...], the model's noise at the first level. levels: of all steps. last: steps the gradient goes through.
        noise: for ancestral sampling, the fresh noise after each step; the same one in each call.
    Attributes:
        z: the result.
    """

    def __init__(
        self,
        predict: Predict,
        x: torch.Tensor,
        levels: Sequence[NoiseLevel],
        last: int = 0,
        noise: Sequence[torch.Tensor] | None = None,
    ):
        self.levels, self.noise, self.visited = levels, noise, []
        with torch.no_grad():
            for i in range(len(levels)):
                if i >= len(levels) - last:
                    self.visited.append((i, x))
                x = self._step(predict, i, x)
        self.z = x

    def backward(self, predict: Predict, g: torch.Tensor) -> None:
        """Add dL/dp to the ``grad`` of every leaf p that ``predict`` depends on, from g = dL/dz.

        Where there are more steps than ``last``, the gradient is truncated: what came before counts as constant.
        """
        for i, x in reversed(self.visited):
            leaf = x.detach().requires_grad_()
            self._step(predict, i, leaf).backward(g)
            assert leaf.grad is not None
            g = leaf.grad

    def _step(self, predict: Predict, i: int, x: torch.Tensor) -> torch.Tensor:
        after = self.levels[i + 1] if i + 1 < len(self.levels) else None
        noise = self.noise[i] if self.noise is not None and after is not None else None
        return step(predict, x, self.levels[i], after, 1.0, noise)[0]
