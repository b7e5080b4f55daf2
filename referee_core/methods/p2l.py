"""P2L: restoration by a latent diffusion model whose prompt is tuned meanwhile (Chung, Ye, Milanfar, Delbracio,
*Prompt-tuning Latent Diffusion Models for Inverse Problems*, ICML 2024, arXiv 2310.01110).

Wanted is the picture D(z) of a measurement y = A D(z) + noise. In each step of a DDIM sampler

1. the prompt's embedding c takes K steps of Adam down ||A D(z0_hat(x_t, c)) - y||,
2. g = d||A D(z0_hat(x_t, c)) - y|| / dx_t, at the tuned c,
3. every gamma-th step z0_hat is projected to what the encoder can give: E(prox(D(z0_hat))),
4. x_t-1 is DDIM's step with that z0_hat, less rho g.

Without 1 and 3 it is LDPS, diffusion posterior sampling in latent space. There is no published code; steps 2 to 4 and
the numbers follow two public reconstructions, TReg's and LATINO-PRO's, without their faults: here c stays one leaf with
one state of Adam for the whole run, the tuned c is the one that is sampled with, and pictures are in [0, 1] everywhere.
Norms are of each picture and not squared; the pictures' range halves them against [-1, 1], so rho is twice theirs.

For flow models without a gradient through the model, the data term moves z0_hat itself:
- FMRG's Euclidean form (arXiv 2604.27147): gradient steps on z0_hat, through the decoder only.
- FlowDPS (arXiv 2503.08136): the same, mixed with the model's own z0_hat by the noise level, with fresh noise.
- No data term at all, only the projection (as in TReg, arXiv 2311.15658): nothing passes backwards.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch

from ..interfaces import NoiseLevel
from ..measurements import Measurement, residual
from ..optimisation import TINY, checked_norm, gradient, norm
from ..randomness import randn_like
from ..record import NORM, Step
from ..sampling import Predict, step

RESIDUAL = "residual"
"""Group of scalars: the root mean square of A D(z) - y, and the measurement's noise."""
Prompts = Sequence[torch.Tensor]
"""Embeddings [B, L, d], one for each entry of a conditioning."""


@dataclass(frozen=True)
class P2LSettings:
    """How a picture is restored.

    Attributes:
        prompt_steps: K, of Adam on the prompt in each step; 0: the prompt stays (LDPS). prompt_lr: of Adam.
        rho: of the gradient of the norm, for pictures in [0, 1].
        project_every: gamma; 0: never. lam: of the proximal step, small: close to the measurement.
        through_model: whether g passes through the diffusion model too; otherwise z0_hat moves.
        data_steps: gradient steps on z0_hat, where it moves; rho is the length of each, as a share of its distance to
            zero residual to first order. 0: the projection alone.
        mixed: FlowDPS: the moved z0_hat counts by the noise level, and noise is renewed,
            which needs ``streams``.
    """

    prompt_steps: int = 1
    prompt_lr: float = 1e-4
    rho: float = 2.0
    project_every: int = 8
    lam: float = 1.0
    through_model: bool = True
    data_steps: int = 1
    mixed: bool = False

    def __post_init__(self) -> None:
        if min(self.prompt_steps, self.project_every, self.rho, self.data_steps) < 0 or self.lam <= 0:
            raise ValueError("P2L's numbers must not be negative, and lam must be above 0")


@dataclass(frozen=True)
class Restoration:
    """What is restored, and by what.

    Attributes:
        measurement, y: A and what it gave, y [B, 3, h, w] in [0, 1].
        condition: embeddings -> the diffusion model's predictions under them, differentiable in both.
        decode: differentiable, z -> picture [B, 3, H, W]. encode: picture -> z, the mean; needs no gradient.
        levels: of the sampler's steps.
    """

    measurement: Measurement
    y: torch.Tensor
    condition: Callable[[Prompts], Predict]
    decode: Callable[[torch.Tensor], torch.Tensor]
    encode: Callable[[torch.Tensor], torch.Tensor]
    levels: Sequence[NoiseLevel]

    def misfit(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """||A D(z) - y|| of each image [B], and its gradient at z."""
        leaf = z.detach().requires_grad_()
        picture = self.decode(leaf)
        r = norm(residual(self.measurement, picture, self.y)).flatten()
        return r.detach(), gradient(r.sum(), leaf, through="the VAE")

    @torch.no_grad()
    def distance(self, z: torch.Tensor) -> torch.Tensor:
        """||A D(z) - y|| of each image [B]."""
        return norm(residual(self.measurement, self.decode(z), self.y)).flatten()

    @torch.no_grad()
    def project(self, z: torch.Tensor, lam: float) -> torch.Tensor:
        """The nearest picture that fits y, as the encoder gives it."""
        picture = self.decode(z)
        if self.measurement.linear:
            picture = self.measurement.prox(picture, self.y, lam)
        return self.encode(picture.clamp(0, 1))


def p2l(
    task: Restoration,
    x: torch.Tensor,
    prompts: Prompts,
    settings: P2LSettings,
    streams: Sequence[torch.Generator] = (),
) -> Generator[Step, None, None]:
    """Restore: yields each reverse step; the last one's z is the result.

    Args:
        x: the model's noise at the first level [B, ...]. prompts: where the embeddings start, in P2L from the empty
            text; they are not changed. streams: one generator an image, for fresh noise.
    """
    if not (settings.through_model or settings.data_steps or task.measurement.linear):
        raise ValueError(
            f"Projection alone needs a linear measurement, and {type(task.measurement).__name__} is none: choose a "
            "method with a data term, such as LDPS or FMRG."
        )
    c, lengths = torch.zeros(0), [prompt.shape[1] for prompt in prompts]
    if prompts:
        c = torch.cat([prompt.detach().float() for prompt in prompts], 1).requires_grad_()
    adam = torch.optim.Adam([c], lr=settings.prompt_lr) if settings.prompt_steps else None
    go = _through_model if settings.through_model else _on_prediction
    for i, now in enumerate(task.levels):
        after = task.levels[i + 1] if i + 1 < len(task.levels) else None
        for _ in range(settings.prompt_steps):
            assert adam is not None
            z = task.condition(c.split(lengths, 1))(x.detach(), now.level.expand(len(x)))
            _, down = task.misfit(z)
            c.grad = gradient(z, c, down, through="the diffusion model to the prompt")
            adam.step()
        predict = task.condition(c.detach().split(lengths, 1) if prompts else [])
        due = bool(settings.project_every) and (i + 1) % settings.project_every == 0
        x, z, r, g = go(task, predict, x, Stretch(now, after, due), settings, streams)
        yield _take_down(task, i, z, r, g)


@dataclass(frozen=True)
class Stretch:
    """From one noise level to the next; None after the last. projected: whether z0_hat is projected in between."""

    now: NoiseLevel
    after: NoiseLevel | None
    projected: bool


Moved = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None]


def _through_model(
    task: Restoration,
    predict: Predict,
    x: torch.Tensor,
    way: Stretch,
    settings: P2LSettings,
    streams: Sequence[torch.Generator],
) -> Moved:
    """(The next x, z0_hat, the misfit before the step [B], its gradient)."""
    leaf = x.detach().requires_grad_()
    seen = predict(leaf, way.now.level.expand(len(x)))
    r, g = task.misfit(seen)
    g = gradient(seen, leaf, g, through="the diffusion model")
    z = task.project(seen.detach(), settings.lam) if way.projected else seen.detach()
    x, z = step(lambda *_: z, x, way.now, way.after)
    x = x - settings.rho * _size(way.now, x) * _size(way.after, x) * g
    return x, x if way.after is None else z, r, g


def _size(level: NoiseLevel | None, x: torch.Tensor) -> torch.Tensor | float:
    """How much larger x_t is than in the paper, where alpha^2 + sigma^2 = 1: g and what it moves scale with it."""
    return 1.0 if level is None else (level.alpha**2 + level.sigma**2).sqrt().to(x)


def _on_prediction(
    task: Restoration,
    predict: Predict,
    x: torch.Tensor,
    way: Stretch,
    settings: P2LSettings,
    streams: Sequence[torch.Generator],
) -> Moved:
    """The same, with z0_hat moved instead of x."""
    with torch.no_grad():
        seen = predict(x, way.now.level.expand(len(x)))
    z = seen
    first: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(settings.data_steps):
        r, g = task.misfit(z)
        first = first or [(r, g)]
        z = z - settings.rho * r.view(-1, *[1] * (z.ndim - 1)) / norm(g).clamp_min(TINY) ** 2 * g
    told = first[0] if first else (task.distance(seen), None)
    if way.projected:
        z = task.project(z, settings.lam)
    alpha, sigma = way.now.alpha.to(x), way.now.sigma.to(x)
    eps = (x - alpha * seen) / sigma
    if settings.mixed:
        z = torch.lerp(seen, z, sigma / (sigma + alpha))
    if way.after is None:
        return z, z, *told
    alpha, sigma = way.after.alpha.to(x), way.after.sigma.to(x)
    if settings.mixed:
        kept = sigma / (sigma + alpha)
        eps = kept.sqrt() * eps + (1 - kept).sqrt() * randn_like(x, streams)
    return alpha * z + sigma * eps, z, *told


def _take_down(task: Restoration, i: int, z: torch.Tensor, r: torch.Tensor, g: torch.Tensor | None) -> Step:
    """For chart and preview: the root mean square of the residual beside the noise's own."""
    made = Step(i, len(task.levels), z, lambda: task.decode(z))
    measured = task.measurement.measured(task.y).expand_as(task.y).flatten(1).sum(1)
    made.add(RESIDUAL, "residual", r / measured.sqrt().to(r))
    made.add(RESIDUAL, "noise", task.measurement.sigma)
    if g is not None:
        made.add(NORM, "measurement", checked_norm(g, "the measurement", i, must_move=False))
    return made
