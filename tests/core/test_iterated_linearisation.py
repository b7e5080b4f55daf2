"""Algorithm 1's surrogate and bookkeeping, and score matching, against independent computations (float64)."""

import pytest
import torch

from referee_core.methods.iterated_linearisation import Linearised, rounds, score_matching

DTYPE = torch.float64


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


def value(z: torch.Tensor) -> torch.Tensor:
    return z.sin().flatten(1).sum(1) + z.square().flatten(1).sum(1)


class Objective:
    """``value``, with its gradient by hand; counts its calls."""

    aim = None

    def __init__(self):
        self.calls = []

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls.append(z)
        return value(z), z.cos() + 2 * z


def test_the_surrogate_is_the_loss_to_first_order():
    z, direction = randn(2, 3, 2, 2), randn(2, 3, 2, 2, seed=1)
    surrogate = Linearised(z, *Objective()(z), delta=0.5)

    def off(h: float) -> torch.Tensor:
        return (surrogate(z + h * direction)[0] - value(z + h * direction)).abs()

    assert off(0).max() == 0
    torch.testing.assert_close(off(1e-3) / off(1e-4), torch.full([2], 100, dtype=DTYPE), rtol=0.02, atol=0)
    torch.testing.assert_close(surrogate.aim, value(z) - 0.5)
    # its slope is the one that it gives, everywhere
    there = z + direction
    slope = (surrogate(there + 1e-3 * direction)[0] - surrogate(there)[0]) / 1e-3
    torch.testing.assert_close(slope, (surrogate(there)[1] * direction).flatten(1).sum(1))


def test_the_referee_is_asked_once_a_round_and_each_images_best_is_kept():
    made = [randn(2, 3, 2, 2, seed=k) for k in range(4)]
    made[2][0], made[1][1] = 0.0, -0.45  # the best of the first image, and of the second
    given, objective = [], Objective()

    def sample(surrogate: Linearised | None) -> torch.Tensor:
        given.append(surrogate)
        return made[len(given) - 1]

    found = list(rounds(sample, objective, 3, 0.7))
    assert [r.index for r in found] == [0, 1, 2, 3] and len(objective.calls) == 4
    assert given[0] is None
    for k in range(1, 4):
        assert given[k].z is made[k - 1] and given[k].delta == 0.7
        torch.testing.assert_close(given[k].gradient, made[k - 1].cos() + 2 * made[k - 1])
    last = found[-1]
    assert torch.equal(last.best_z, torch.stack([made[2][0], made[1][1]]))
    torch.testing.assert_close(last.best_loss, torch.stack([value(m) for m in made]).amin(0))


@pytest.mark.parametrize("alpha", [1.0, 0.6])
def test_score_matching_is_that_of_the_noise(alpha):
    """In the variables of DDPM: z_t = alpha z0 + s eps and |eps_hat - eps|^2."""
    z0, eps, w = randn(3, 4), randn(3, 4, seed=1), randn(4, 4, seed=2)
    s = torch.tensor([0.3, 0.7, 1.1], dtype=DTYPE)

    def eps_hat(z_t: torch.Tensor) -> torch.Tensor:
        return (z_t @ w).tanh()

    def predict(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        torch.testing.assert_close(sigma, s / alpha)
        z_t = alpha * x
        return (z_t - s[:, None] * eps_hat(z_t)) / alpha

    expected = (eps_hat(alpha * z0 + s[:, None] * eps) - eps).square().mean(1)
    torch.testing.assert_close(score_matching(predict, z0, s / alpha, eps), expected)
