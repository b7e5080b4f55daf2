"""The paper's simulations, in small: where G and G_loss lead, and what the two algorithms reach."""

import pytest
import torch

from benchmarks import gradient_guidance as simulation
from benchmarks.gradient_guidance import BATCH, CASES, GUIDED, SEEDS, Exact, noise_levels, off, simulate, subspace

A = subspace()


pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(simulation, "STEPS", 40)


def play(case, learns: bool = False, count: int = 12) -> tuple[list, list]:
    """The mean reward of each round, and the off-subspace shares of all guidance."""
    run = simulate(Exact(A), A, case.objective(A), GUIDED[case.guidance], case.delta, count, learns)
    rewards, shares = [], []
    for made, own in run:
        rewards.append(-made.loss.mean().item())
        shares += own
    return rewards, shares


def test_plain_samples_have_the_datas_law(monkeypatch):
    monkeypatch.setattr(simulation, "STEPS", 200)  # DDPM's own variance is too small in few steps
    first, shares = next(simulate(Exact(A), A, CASES[0].objective(A), "naive", 1.0, 1))
    u = first.z @ A
    assert not shares and off(first.z, A).max() < 1e-12
    assert u.mean().abs() < 0.1 and u.var().item() == pytest.approx(1, rel=0.1)


def test_the_noise_falls_to_nothing():
    sigmas = noise_levels()
    assert sigmas[-1] == 0 and (sigmas.diff() < 0).all() and sigmas[0] > 100


def test_what_is_said_of_theta():
    theta = simulation.theta(A, 9.0)
    inside = (theta @ A).norm(dim=1)
    outside = (theta - theta @ A @ A.T).norm(dim=1)
    torch.testing.assert_close(outside / inside, torch.full([len(SEEDS) * BATCH], 9.0, dtype=torch.float64))


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.reward}, {c.guidance}")
def test_g_loss_stays_where_the_data_lie_and_g_leaves(case):
    shares = play(case, count=2)[1]
    assert max(shares) <= 1e-6 if case.guidance == "G_loss" else min(shares) > 0.5


@pytest.mark.parametrize("case", CASES[:2], ids=lambda c: c.guidance)
def test_rewards_rise_and_further_where_the_model_learns(case):
    first, second = play(case), play(case, learns=True)
    assert first[0][0] == second[0][0]
    assert first[0][-1] > first[0][0] + 0.5
    if case.guidance == "G":  # which stops early without it
        assert second[0][-1] > first[0][-1] + 0.3
