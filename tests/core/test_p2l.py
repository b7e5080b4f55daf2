"""P2L against plain automatic differentiation, on a denoiser in closed form that reads a prompt."""

import pytest
import torch

from referee_core.interfaces import NoiseLevel
from referee_core.methods.p2l import RESIDUAL, P2LSettings, Restoration, p2l
from referee_core.operators import JPEG, SuperResolution
from referee_core.randomness import generators, randn_like

GAMMA = torch.linspace(0.2, 1.4, 8, dtype=torch.float64)
LDPS = P2LSettings(prompt_steps=0, project_every=0, rho=0.3)


def levels(count: int = 4) -> list[NoiseLevel]:
    """Of a variance-preserving model, falling; the level is the angle."""
    angles = torch.linspace(1.4, 0.3, count, dtype=torch.float64)
    return [NoiseLevel(a.cos().view(1), a.sin().view(1), a.view(1)) for a in angles]


def guess(x, level, c):
    """A smooth prediction of z that the prompt [B, L, d] shifts."""
    return torch.tanh(x + 0.3 * (c @ GAMMA).mean(1).view(-1, 1, 1, 1)) * (1.2 - 0.5 * level.view(-1, 1, 1, 1).sin())


class Setting:
    """Two pictures of 8 x 8 pixels shrunk to 4 x 4."""

    def __init__(self, decode, count: int = 2, guess=guess):
        g = torch.Generator().manual_seed(5)
        self.x = torch.randn(2, 4, 4, 4, generator=g, dtype=torch.float64)[:count]
        self.y = torch.rand(2, 3, 4, 4, generator=g, dtype=torch.float64)[:count]
        self.c = torch.randn(2, 3, 8, generator=g)[:count]
        self.A, self.decode, self.asked = SuperResolution(2, sigma=0.01), decode, []

        def condition(prompts):
            self.asked.append([p.detach().clone() for p in prompts])
            return lambda x, level: guess(x, level, torch.cat([p.double() for p in prompts], 1))

        self.task = Restoration(self.A, self.y, condition, decode, self.encode, levels())

    def encode(self, picture):
        return torch.nn.functional.avg_pool2d(picture, 2).repeat(1, 2, 1, 1)[:, :4]

    def misfit(self, x, c):
        """Of each picture, from the definition."""
        z = guess(x, self.task.levels[0].level.expand(len(x)), c.double())
        return (self.A.A(self.decode(z)) - self.y).flatten(1).norm(dim=1)

    def run(self, settings=LDPS, prompts=None, seeds=(0, 1)):
        streams = generators(seeds[: len(self.x)], ("fresh",))["fresh"]
        return list(p2l(self.task, self.x, [self.c] if prompts is None else prompts, settings, streams))


@pytest.fixture
def setting(decode):
    return Setting(decode)


def first_x(setting: Setting, settings: P2LSettings) -> torch.Tensor:
    """x after one reverse step: with a second step that does nothing it is the prediction's argument."""
    seen = []

    def spy(x, level, c):
        seen.append(x.detach())
        return guess(x, level, c)

    other = Setting(setting.decode, guess=spy)
    other.run(settings)
    return next(x for x in seen if not torch.equal(x, setting.x))


def test_a_reverse_step_is_the_papers(setting):
    settings = P2LSettings(prompt_steps=2, prompt_lr=0.01, rho=0.3, project_every=0)
    c, m, v = setting.c.clone(), 0, 0
    for k in (1, 2):  # Adam, written out
        leaf = c.clone().requires_grad_()
        (g,) = torch.autograd.grad(setting.misfit(setting.x, leaf).sum(), leaf)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        c = c - 0.01 * (m / (1 - 0.9**k)) / ((v / (1 - 0.999**k)).sqrt() + 1e-8)
    x = setting.x.clone().requires_grad_()
    (g,) = torch.autograd.grad(setting.misfit(x, c).sum(), x)
    now, after = setting.task.levels[:2]
    z = guess(setting.x, now.level.expand(2), c.double())
    eps = (setting.x - now.alpha * z) / now.sigma
    torch.testing.assert_close(
        first_x(setting, settings), after.alpha * z + after.sigma * eps - 0.3 * g, rtol=1e-6, atol=1e-7
    )


def test_the_prompt_moves_in_every_step_and_the_given_one_stays(setting):
    before = setting.c.clone()
    setting.run(P2LSettings(prompt_steps=1, prompt_lr=0.01, project_every=0))
    sampled_with = [torch.cat(list(p), 1) for p in setting.asked[1::2]]
    moved = [(b - a).abs().max().item() for a, b in zip([before, *sampled_with], sampled_with, strict=False)]
    assert len(moved) == 4 and min(moved) > 0.001
    assert torch.equal(setting.c, before)


def test_ldps_leaves_the_prompt(setting):
    setting.run(LDPS)
    assert all(torch.equal(torch.cat(list(p), 1), setting.c) for p in setting.asked)


def test_the_projection_is_what_the_encoder_gives_of_the_nearest_picture_that_fits(setting):
    settings = P2LSettings(prompt_steps=0, rho=0.0, project_every=1, lam=0.01)
    one = Setting(setting.decode)
    one.task = Restoration(one.A, one.y, one.task.condition, one.decode, one.encode, one.task.levels[-1:])
    (step,) = one.run(settings)
    picture = one.decode(guess(one.x, one.task.levels[0].level.expand(2), one.c.double()))
    dense = torch.stack([one.A.A(e.view(1, 1, 8, 8)).flatten() for e in torch.eye(64, dtype=torch.float64)], 1)
    solved = torch.linalg.solve(
        dense.T @ dense + 0.01 * torch.eye(64, dtype=torch.float64),
        (one.y.flatten(2) @ dense + 0.01 * picture.flatten(2)).mT,
    ).mT.view_as(picture)
    torch.testing.assert_close(step.z, one.encode(solved.clamp(0, 1)))


def test_every_so_many_steps_are_projected(setting):
    projected = []
    setting.encode, encode = lambda picture: projected.append(1) or encode(picture), setting.encode
    setting.task = Restoration(setting.A, setting.y, setting.task.condition, setting.decode, setting.encode, levels(9))
    setting.run(P2LSettings(prompt_steps=0, project_every=4))
    assert len(projected) == 2


@pytest.mark.parametrize("settings", [LDPS, P2LSettings(prompt_lr=0.01, project_every=2)])
def test_another_scale_of_x_changes_nothing(setting, settings):
    """ComfyUI's eps-models have alpha 1."""
    other = Setting(setting.decode)
    wide = [NoiseLevel(torch.ones(1), n.sigma / n.alpha, n.level) for n in levels()]

    def condition(prompts):
        def predict(x, level):
            alpha = level.double().cos().view(-1, 1, 1, 1)
            return guess(x * alpha, level, torch.cat([p.double() for p in prompts], 1))

        return predict

    other.task = Restoration(other.A, other.y, condition, other.decode, other.encode, wide)
    other.x = other.x / levels()[0].alpha
    for one, same in zip(setting.run(settings), other.run(settings), strict=True):
        torch.testing.assert_close(one.z, same.z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mixed", [False, True])
def test_a_step_on_the_prediction(setting, mixed):
    """FMRG's Euclidean form, and FlowDPS, written out for one step."""
    settings = P2LSettings(prompt_steps=0, project_every=0, through_model=False, data_steps=2, rho=0.5, mixed=mixed)
    now, after = setting.task.levels[:2]
    seen = guess(setting.x, now.level.expand(2), setting.c.double())
    z = seen
    for _ in range(2):
        leaf = z.clone().requires_grad_()
        r = (setting.A.A(setting.decode(leaf)) - setting.y).flatten(1).norm(dim=1)
        (g,) = torch.autograd.grad(r.sum(), leaf)
        z = z - 0.5 * (r / g.flatten(1).norm(dim=1) ** 2).view(-1, 1, 1, 1).detach() * g
    eps = (setting.x - now.alpha * seen) / now.sigma
    if mixed:
        t, later = (n.sigma / (n.sigma + n.alpha) for n in (now, after))
        z = (1 - t) * seen + t * z
        fresh = randn_like(setting.x, generators((0, 1), ("fresh",))["fresh"])
        eps = later.sqrt() * eps + (1 - later).sqrt() * fresh
    torch.testing.assert_close(first_x(setting, settings), after.alpha * z + after.sigma * eps)


def test_the_misfit_falls_and_is_told_beside_the_noise(setting):
    steps = setting.run(P2LSettings(prompt_steps=0, project_every=0, through_model=False, data_steps=3, rho=1.0))
    told = [step.scalars[RESIDUAL] for step in steps]
    assert (told[-1]["residual"] < told[0]["residual"]).all() and float(told[0]["noise"]) == pytest.approx(0.01)
    r = (
        setting.A.A(setting.decode(guess(setting.x, setting.task.levels[0].level.expand(2), setting.c.double())))
        - setting.y
    )
    torch.testing.assert_close(told[0]["residual"], r.flatten(1).square().mean(1).sqrt())


@pytest.mark.parametrize("settings", [P2LSettings(prompt_lr=0.01), P2LSettings(0, through_model=False, mixed=True)])
def test_the_same_again_and_each_picture_as_alone(setting, settings):
    z = setting.run(settings)[-1].z
    assert torch.equal(z, Setting(setting.decode).run(settings)[-1].z)
    torch.testing.assert_close(z[:1], Setting(setting.decode, count=1).run(settings)[-1].z, rtol=1e-6, atol=1e-7)


def test_projection_alone_asks_for_no_gradient_and_fits(setting):
    settings = P2LSettings(prompt_steps=0, project_every=1, lam=1e-6, through_model=False, data_steps=0)
    setting.encode = lambda picture: picture
    identity = Restoration(
        setting.A,
        setting.y,
        lambda prompts: lambda x, level: torch.tanh(x),
        lambda z: z,
        lambda picture: picture,
        levels(),
    )
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.inference_mode():
        *_, last = p2l(identity, x, [], settings)
    clipped = last.z.clamp(0, 1)
    assert torch.equal(clipped, last.z)
    assert (setting.A.A(last.z) - setting.y).abs().mean() < 0.2 * (setting.A.A(torch.tanh(x)) - setting.y).abs().mean()


def test_projection_alone_is_refused_for_a_measurement_that_is_not_linear(setting):
    setting.task = Restoration(JPEG(20), setting.y, setting.task.condition, setting.decode, setting.encode, levels())
    with pytest.raises(ValueError, match="JPEG is none: choose a method with a data term"):
        setting.run(P2LSettings(prompt_steps=0, through_model=False, data_steps=0))


def test_a_prompt_that_the_model_does_not_read_is_named(decode):
    deaf = Setting(decode, guess=lambda x, level, c: torch.tanh(x))
    with pytest.raises(RuntimeError, match="No gradient passes through the diffusion model to the prompt"):
        deaf.run(P2LSettings(prompt_steps=1))


@pytest.mark.parametrize("wrong", [{"lam": 0.0}, {"rho": -1.0}, {"prompt_steps": -1}, {"data_steps": -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError):
        P2LSettings(**wrong)
