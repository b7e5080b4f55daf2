"""The sampler of any Denoiser, and the gradient through its last steps."""

import math

import pytest
import torch

from referee_core.interfaces import NoiseLevel
from referee_core.sampling import Path, ddim, spaced_levels

F64 = {"dtype": torch.float64}


class Gaussian:
    """The exact prediction of data N(mean, spread^2), for any alpha and sigma."""

    def __init__(self, mean: torch.Tensor, spread: float, levels: list[NoiseLevel]):
        self.mean, self.spread = mean, spread
        self.scales = {float(one.level): one for one in levels}

    def __call__(self, x, level):
        alpha, sigma, _ = self.scales[float(level[0])]
        gain = alpha * self.spread**2 / (alpha**2 * self.spread**2 + sigma**2)
        return self.mean + gain * (x - alpha * self.mean)


def variance_preserving(steps):
    angles = torch.linspace(math.pi / 2 - 1e-3, 0.02, steps, **F64)
    return [NoiseLevel(a.cos(), a.sin(), a[None]) for a in angles]


def flow(steps):
    return [NoiseLevel(1 - s, s, s[None]) for s in torch.linspace(1, 0.02, steps, **F64)]


def exploding(steps):
    sigmas = torch.logspace(1.9, -2, steps, **F64)
    return [NoiseLevel(torch.ones((), **F64), s, s[None]) for s in sigmas]


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("kind", [variance_preserving, flow, exploding])
def test_samples_have_the_datas_mean_and_spread(kind, eta):
    levels, generator = kind(400), torch.Generator().manual_seed(1)
    data = Gaussian(torch.tensor(1.5, **F64), 0.7, levels)
    x = levels[0].sigma * torch.randn(40_000, 1, generator=generator, **F64)

    def draw(x):
        return torch.randn(x.shape, generator=generator, **F64)

    *_, z = ddim(data, x, levels, eta, draw)
    assert float(z.mean()) == pytest.approx(1.5, abs=0.03) and float(z.std()) == pytest.approx(0.7, rel=0.03)


def test_levels_are_spaced_in_timesteps(denoiser):
    levels = spaced_levels(denoiser, 4)
    expected = [denoiser.noise_levels(torch.tensor([t])) for t in (999, 749, 499, 249)]
    for one, other in zip(levels, expected, strict=True):
        torch.testing.assert_close(torch.stack(one), torch.stack(other).float())


def predictor(p):
    """A prediction that depends on p, not linearly."""
    return lambda x, level: torch.tanh(p * x + level.view(-1, 1)) + 0.3 * p**2


@pytest.mark.parametrize("ancestral", [False, True])
@pytest.mark.parametrize("last", [1, 2, 6])
def test_the_gradient_through_the_last_steps_is_that_of_differences(last, ancestral):
    levels, generator = variance_preserving(6), torch.Generator().manual_seed(2)
    x = torch.randn(3, 5, generator=generator, **F64)
    noise = [torch.randn(3, 5, generator=generator, **F64) for _ in range(5)] if ancestral else None
    weights = torch.randn(3, 5, generator=generator, **F64)
    p = torch.tensor(0.8, **F64, requires_grad=True)
    path = Path(predictor(p.detach()), x, levels, last, noise)
    path.backward(predictor(p), weights)

    def value(q: float) -> float:
        """The first steps with the old p, the last ones with q."""
        then = p.detach(), torch.tensor(q, **F64)

        def predict(x, level):
            late = float(level[0]) <= float(levels[6 - last].level) + 1e-12
            return predictor(then[late])(x, level)

        return float((Path(predict, x, levels, 0, noise).z * weights).sum())

    h = 1e-5
    assert float(p.grad) == pytest.approx((value(0.8 + h) - value(0.8 - h)) / (2 * h), rel=1e-8)


def test_the_path_is_the_sampler():
    levels, x = flow(7), torch.randn(2, 4, generator=torch.Generator().manual_seed(3), **F64)
    predict = predictor(torch.tensor(0.5, **F64))
    *_, z = ddim(predict, x, levels)
    assert torch.equal(Path(predict, x, levels, last=3).z, z)
