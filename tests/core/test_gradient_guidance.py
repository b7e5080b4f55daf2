"""Gradient Guidance against the paper's formulas, told in its own variables (float64)."""

import math

import pytest
import torch

from referee_core.methods.gradient_guidance import GRADIENTS, Constant, GuidanceSettings, Relative, TrustRegion, guided

D, RANK, BATCH = 12, 4, 3
DTYPE = torch.float64


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


class Linear:
    """L(z) = -(g.z) of each image, with the aim -y: the paper's linear reward and its target."""

    def __init__(self, g: torch.Tensor, y: torch.Tensor | None = None):
        self.g, self.aim = g, None if y is None else -y

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return -(self.g * z).sum(1), -self.g


class Curved:
    """A loss with a gradient of its own at each place."""

    aim = None

    def __init__(self):
        self.w = randn(D, D, seed=7)

    def value(self, z: torch.Tensor) -> torch.Tensor:
        return (z @ self.w).sin().sum(1)

    def __call__(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = z.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.value(leaf)
            return loss.detach(), torch.autograd.grad(loss.sum(), leaf)[0]


def basis() -> torch.Tensor:
    return torch.linalg.qr(randn(D, RANK, seed=3))[0]


def exact(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[z0 | x] for z0 = A u, u ~ N(0, I)."""
    a = basis()
    return x @ a @ a.T / (1 + sigma**2)


def net(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """A small net's prediction."""
    return (x / math.sqrt(1 + sigma**2) @ randn(D, D, seed=5) / math.sqrt(D)).tanh()


def in_the_papers_variables(gradient: str, x, sigma: float, g, y, deviation: float) -> torch.Tensor:
    """The guided prediction by G or G_loss at z_t = sqrt(abar) x, through s = -eps / sqrt(h) and Tweedie."""
    abar = 1 / (1 + sigma**2)
    a, h = math.sqrt(abar), 1 - abar
    z_t = (a * x).requires_grad_()
    predicted = exact(z_t / a, sigma)
    value = (g * predicted).sum(1)
    (slope,) = torch.autograd.grad(value.sum(), z_t)
    residual = (y - value.detach())[:, None]
    if gradient == "naive":
        beta = a / (deviation**2 + h * (g**2).sum(1, keepdim=True))
        pull = beta * residual * g
    else:
        beta = a**2 / 2 / (a**2 * deviation**2 + h * (slope**2).sum(1, keepdim=True))
        pull = 2 * beta * residual * slope  # -beta d(y - g.z0)^2 / dz_t
    predicted, z_t = predicted.detach(), z_t.detach()
    score = (a * predicted - z_t) / h + pull
    return (z_t + h * score) / a


@pytest.mark.parametrize("sigma", [0.1, 1.0, 14.0])
@pytest.mark.parametrize("gradient", ["naive", "look-ahead"])
def test_the_trust_region_is_the_papers_guidance(gradient, sigma):
    x, g, y = sigma * randn(BATCH, D), randn(BATCH, D, seed=1), randn(BATCH, seed=2)
    settings = GuidanceSettings(gradient, TrustRegion(deviation=0.3))
    z, level = exact(x, sigma), torch.full((BATCH,), sigma, dtype=DTYPE)
    found = guided(z, x, level, Linear(g, y), settings, lambda x: exact(x, sigma)).z
    expected = in_the_papers_variables(gradient, x, sigma, g, y, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("gradient", ["naive", "look-ahead"])
def test_a_constant_beta_adds_to_the_noise_what_the_paper_adds(gradient):
    """eps - sqrt(1 - abar) G is z0_hat + sigma sqrt(1 - abar) G, with d/dz_t = sqrt(1 + sigma^2) d/dx."""
    sigma, beta, objective = 2.0, 0.7, Curved()
    x = sigma * randn(BATCH, D)
    z, level = net(x, sigma), torch.full((BATCH,), sigma, dtype=DTYPE)
    found = guided(z, x, level, objective, GuidanceSettings(gradient, Constant(beta)), lambda x: net(x, sigma)).z
    a = 1 / math.sqrt(1 + sigma**2)
    z_t = (a * x).requires_grad_()
    predicted = net(z_t / a, sigma)
    seen = predicted if gradient == "look-ahead" else predicted.detach().requires_grad_()
    wanted = z_t if gradient == "look-ahead" else seen
    (slope,) = torch.autograd.grad(objective.value(seen).sum(), wanted)
    eps = (x - z) / sigma + math.sqrt(1 - a * a) * beta * slope
    torch.testing.assert_close(found, x - sigma * eps, rtol=1e-10, atol=1e-10)


def test_the_look_ahead_gradient_is_that_of_the_whole_way():
    sigma, objective, step = 1.5, Curved(), 1e-5
    x, level = sigma * randn(1, D), torch.tensor([1.5], dtype=DTYPE)
    predict = lambda x: net(x, sigma)  # noqa: E731
    found = guided(net(x, sigma), x, level, objective, GuidanceSettings("look-ahead", Constant(1.0)), predict)
    each = torch.eye(D, dtype=DTYPE) * step
    expected = (objective.value(predict(x + each)) - objective.value(predict(x - each))) / (2 * step)
    torch.testing.assert_close(found.gradient[0], expected, rtol=1e-6, atol=1e-8)


def test_look_ahead_stays_where_the_data_lie_and_naive_does_not():
    sigma, a = 1.0, basis()
    x, g = sigma * randn(BATCH, D), randn(BATCH, D, seed=1)
    level = torch.full((BATCH,), sigma, dtype=DTYPE)

    def outside(gradient: str) -> float:
        z = exact(x, sigma)
        change = guided(z, x, level, Linear(g), GuidanceSettings(gradient), lambda x: exact(x, sigma)).z - z
        return float((change - change @ a @ a.T).norm() / change.norm())

    assert outside("look-ahead") < 1e-12
    assert outside("naive") > 0.5


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_a_relative_step_is_a_share_of_the_velocity_for_each_image(gradient):
    sigma = torch.tensor([0.5, 1.0, 4.0], dtype=DTYPE)
    x = sigma[:, None] * randn(BATCH, D)
    predict = lambda x: x / (1 + sigma[:, None] ** 2)  # noqa: E731
    z = predict(x)
    change = guided(z, x, sigma, Curved(), GuidanceSettings(gradient, Relative(0.2)), predict).z - z
    velocity = (x - z) / sigma[:, None] - z
    torch.testing.assert_close(change.norm(dim=1), 0.2 * velocity.norm(dim=1))
    alone = [
        guided(z[i : i + 1], x[i : i + 1], sigma[i : i + 1], Curved(), GuidanceSettings(gradient, Relative(0.2)),
               lambda x, i=i: x / (1 + sigma[i] ** 2)).z
        for i in range(BATCH)
    ]  # fmt: skip
    torch.testing.assert_close(torch.cat(alone) - z, change)


def test_steps_on_the_prediction_share_the_strength_and_follow_the_loss():
    sigma, objective = torch.ones(BATCH, dtype=DTYPE), Curved()
    x = randn(BATCH, D)
    z = exact(x, 1.0)
    one, four = (guided(z, x, sigma, objective, GuidanceSettings("prediction", Constant(0.02), n)).z for n in (1, 4))
    expected = z
    for _ in range(4):
        expected = expected - 0.005 * objective(expected)[1]
    torch.testing.assert_close(four, expected)
    assert not torch.allclose(one, four)
    torch.testing.assert_close(one, z - 0.02 * objective(z)[1])


def test_what_is_masked_does_not_move_and_the_length_is_that_of_the_rest():
    sigma, mask = torch.ones(BATCH, dtype=DTYPE), torch.zeros(D, dtype=DTYPE)
    mask[:3] = 1
    x = randn(BATCH, D)
    z = exact(x, 1.0)
    change = guided(z, x, sigma, Curved(), GuidanceSettings("prediction", Relative(0.1)), mask=mask).z - z
    assert not change[:, 3:].any()
    velocity = ((x - z) - z)[:, :3]
    torch.testing.assert_close(change.norm(dim=1), 0.1 * velocity.norm(dim=1))


def test_at_the_aim_nothing_moves_and_beyond_it_back():
    sigma = torch.ones(BATCH, dtype=DTYPE)
    x, g = randn(BATCH, D), randn(BATCH, D, seed=1)
    z = exact(x, 1.0)
    reached = (g * z).sum(1)
    for strength in (Relative(0.1), Constant(1.0), TrustRegion()):
        settings = GuidanceSettings("prediction", strength)
        assert torch.equal(guided(z, x, sigma, Linear(g, reached), settings).z, z)
        back = guided(z, x, sigma, Linear(g, reached - 1), settings).z - z
        assert ((back * g).sum(1) < 0).all()


def test_a_trust_region_lowers_a_linear_loss_by_what_is_asked():
    sigma = torch.ones(BATCH, dtype=DTYPE)
    x, g = randn(BATCH, D), randn(BATCH, D, seed=1)
    z = exact(x, 1.0)
    moved = guided(z, x, sigma, Linear(g), GuidanceSettings("prediction", TrustRegion(delta=0.5, deviation=1e-6))).z
    torch.testing.assert_close((g * moved).sum(1) - (g * z).sum(1), torch.full((BATCH,), 0.5, dtype=DTYPE))


@pytest.mark.parametrize("wrong", [{"gradient": "forward"}, {"steps": 0}, {"gradient": "look-ahead", "steps": 2}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        GuidanceSettings(**wrong)
