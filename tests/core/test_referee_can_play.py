"""What the loop promises beside being Algorithm 1 (which test_algorithm_1.py checks)."""

import math
from dataclasses import replace

import pytest
import torch

from referee_core.augment import PAPER
from referee_core.averaging import EMARestart
from referee_core.losses import bind
from referee_core.methods.referee_can_play import PURPOSES, LoopSettings, referee_can_play
from referee_core.priors.sds import SDS
from referee_core.randomness import generators
from referee_core.record import LOSS, NORM, SCHEDULE
from referee_core.schedules import Schedule

SHORT = LoopSettings(steps=7, tail=2)


def play(toys, settings=SHORT, z=None, loss="own", prior="own", **options):
    """All steps of a run; loss and prior are the toys' own unless given."""
    loss, prior = toys.loss if loss == "own" else loss, toys.prior if prior == "own" else prior
    return list(referee_can_play(toys.z if z is None else z, toys.decode, loss, prior, settings=settings, **options))


def assert_same_run(a, b):
    assert all(torch.equal(x.z, y.z) for x, y in zip(a, b, strict=True))


def test_the_referees_gradient_is_w1_times_as_long_as_that_of_score_distillation(toys):
    for w1 in (0.5, 2.0, 3.0):
        for step in play(toys, replace(SHORT, w1=w1))[:5]:
            for g_ref, g_sds in zip(step.gradients["referee"], step.gradients["SDS"], strict=True):
                assert float(g_ref.norm() / g_sds.norm()) == pytest.approx(w1, rel=1e-12)


def test_records_say_what_happened(toys):
    settings, before = LoopSettings(steps=6, tail=1), toys.z
    for i, step in enumerate(play(toys, settings, averaging=EMARestart(start=2, interval=2))):
        assert (step.index, step.steps, step.marked) == (i, 6, i + 1 in (2, 4))
        assert step.note == ("restart in 1" if i in (0, 2) else "restart in 2" if i == 1 else "")
        plan = {name: value.item() for name, value in step.scalars[SCHEDULE].items()}
        cosine = math.cos(math.pi * i / 6)
        assert plan == pytest.approx({"learning rate": 0.75 + 0.25 * cosine, "SDS weight": 600 + 200 * cosine})
        torch.testing.assert_close(step.scalars[NORM]["SDS"], step.gradients["SDS"].flatten(1).norm(dim=1))
        if i < 5:
            torch.testing.assert_close(step.picture(), toys.decode(before))
            leaf = before.detach().clone().requires_grad_()
            x = toys.decode(leaf)
            x = x + (x.clamp(0, 1) - x).detach()
            terms = toys.referee.losses(x, 0.5, ("level", "waves"))
            loss = terms["level"] + 0.5 * terms["waves"]
            (g,) = torch.autograd.grad(loss.sum(), leaf)
            torch.testing.assert_close(step.scalars[LOSS]["loss"], loss.detach())
            torch.testing.assert_close(step.scalars[NORM]["referee"], g.flatten(1).norm(dim=1))
            assert list(step.scalars[LOSS]) == ["loss", "level", "waves"]
            torch.testing.assert_close(step.scalars[LOSS]["waves"], terms["waves"].detach())
        else:
            assert LOSS not in step.scalars
            assert list(step.scalars[NORM]) == list(step.gradients) == ["SDS"]
        assert not step.z.requires_grad
        before = step.z


def test_the_referee_rests_in_the_tail_and_nothing_is_decoded(toys):
    play(toys, LoopSettings(steps=9, tail=4))
    assert toys.decode.calls == 5
    assert len(toys.referee.asked) == 5


def test_loss_alone_and_prior_alone_have_no_tail(toys):
    alone = play(toys, prior=None)
    assert toys.decode.calls == SHORT.steps
    assert all(list(step.scalars[NORM]) == list(step.gradients) == ["referee"] for step in alone)
    for step in play(toys, loss=None):
        assert LOSS not in step.scalars and list(step.gradients) == ["SDS"]
    assert toys.decode.calls == SHORT.steps


def test_loss_alone_is_adam_on_the_referees_gradient(toys):
    """Adam's first step is lr in the direction of the gradient's sign, whatever its length."""
    step = play(toys, replace(SHORT, noise=0), prior=None)[0]
    g = step.gradients["referee"]
    torch.testing.assert_close(g.flatten(1).norm(dim=1), 2.0 * step.scalars[NORM]["referee"])
    torch.testing.assert_close(step.z, toys.z - 1.0 * g / (g.abs() + 1e-8))


def test_prior_alone_is_plain_descent_on_score_distillation(toys):
    before = toys.z
    for step in play(toys, replace(SHORT, noise=0), loss=None):
        torch.testing.assert_close(step.z, before - step.scalars[SCHEDULE]["learning rate"] * step.gradients["SDS"])
        before = step.z


def test_a_weight_of_0_is_the_same_as_leaving_the_part_out(toys):
    assert_same_run(play(toys, replace(SHORT, w1=0.0)), play(toys, loss=None))
    assert not toys.referee.asked
    assert_same_run(play(toys, prior=SDS(toys.denoiser, Schedule(0.0, 0.0))), play(toys, prior=None))


def test_a_constant_weight_of_0_is_a_prior_left_out_whatever_the_unused_end(toys):
    silent = SDS(toys.denoiser, Schedule(0.0, 400.0, "constant"))
    assert_same_run(play(toys, prior=silent), play(toys, prior=None))


def test_a_prior_may_start_from_weight_0(toys):
    steps = play(toys, replace(SHORT, noise=0), loss=None, prior=SDS(toys.denoiser, Schedule(0.0, 400.0, "linear")))
    assert torch.equal(steps[0].z, toys.z)
    assert not torch.equal(steps[1].z, toys.z)


def test_nothing_to_optimise_is_refused(toys):
    for options in ({"loss": None}, {"settings": replace(SHORT, w1=0.0)}):
        for silent in (None, SDS(toys.denoiser, Schedule(0.0, 0.0))):
            with pytest.raises(ValueError, match="Nothing to optimise"):
                play(toys, prior=silent, **options)


def test_w1_acts_although_adam_evens_out_constant_factors(toys):
    ends = {w1: play(toys, replace(SHORT, w1=w1), seed=4)[-1].z for w1 in (0.5, 2.0, 20.0)}
    assert (ends[0.5] - ends[2.0]).abs().mean() > 0.01 < (ends[20.0] - ends[2.0]).abs().mean()
    printed = {w1: play(toys, replace(SHORT, w1=w1, gradient_noise=0.0), seed=4)[-1].z for w1 in (0.5, 20.0)}
    torch.testing.assert_close(printed[0.5], printed[20.0], rtol=1e-3, atol=1e-4)


def test_noise_has_the_asked_standard_deviation(toys):
    z = torch.randn(1, 4, 32, 32, dtype=torch.float64)

    def first(**noise):
        return play(toys, replace(SHORT, steps=1, tail=0, **noise), z, loss=None)[0].z

    shift = first(noise=0.3) - first(noise=0.0)
    assert float(shift.std()) == pytest.approx(0.3, rel=0.05)
    assert float(shift.mean()) == pytest.approx(0, abs=0.02)


def test_best_is_the_latent_with_the_lowest_loss(toys):
    steps = play(toys, LoopSettings(steps=25, tail=5, noise=0.5), averaging=EMARestart(start=10))
    zs = torch.stack([toys.z] + [step.z for step in steps[:-1]])  # before each step
    losses = torch.stack([step.scalars[LOSS]["loss"] for step in steps[:20]])
    assert 0 < losses.argmin(0).min() and losses.argmin(0).max() < 19, "the minimum should lie inside the run"
    for n in (1, 7, 20, 25):
        lowest, at = losses[:n].min(0)
        assert torch.equal(steps[n - 1].best_loss, lowest)
        assert torch.equal(steps[n - 1].best_z, torch.stack([zs[at[i], i] for i in range(2)]))


def test_the_seed_decides_everything(toys):
    options = {"settings": replace(SHORT, gradient_noise=0.1), "augmentation": replace(PAPER, count=2)}
    first = play(toys, seed=3, **options)
    torch.manual_seed(123)
    assert_same_run(play(toys, seed=3, **options), first)
    for other in (4, 2**32 - 1, 2**64 - 1):
        assert not torch.allclose(play(toys, seed=other, **options)[0].z, first[0].z)


def test_streams_are_all_different():
    streams = [g for members in generators(range(8), PURPOSES).values() for g in members]
    assert len({tuple(torch.randn(3, generator=g).tolist()) for g in streams}) == len(streams) == 8 * 4


@pytest.mark.parametrize("i", [0, 1])
@pytest.mark.parametrize("seeds", [9, (9, 10), (4, 2**63)])
def test_a_picture_of_a_batch_is_the_same_as_alone_with_its_own_seed(toys, seeds, i):
    options = {"augmentation": replace(PAPER, count=2), "averaging": EMARestart(start=3)}
    both = play(toys, seed=seeds, **options)
    own = seeds + i if isinstance(seeds, int) else seeds[i]
    for alone, step in zip(play(toys, z=toys.z[i : i + 1], seed=own, **options), both, strict=True):
        torch.testing.assert_close(alone.z[0], step.z[i], rtol=1e-9, atol=1e-9)


def test_patience_ends_the_referees_part_and_the_tail_follows(toys):
    settings = LoopSettings(
        steps=40, tail=3, lr=Schedule(0.0, 0.0), noise=0.0, patience=4
    )  # nothing moves, nothing improves
    steps = play(toys, settings)
    assert len(steps) == 1 + 4 + 3
    assert [LOSS not in s.scalars for s in steps] == [False] * 5 + [True] * 3
    assert [s.steps for s in steps] == [40] * 4 + [8] * 4
    full = play(toys, replace(settings, patience=0))
    assert [s.scalars[SCHEDULE] for s in steps[-3:]] == [s.scalars[SCHEDULE] for s in full[-3:]], (
        "the tail keeps its place in the schedules"
    )
    assert len(play(toys, replace(settings, patience=1000))) == 40


def test_stop_at_ends_the_referees_part_once_every_picture_matches(toys, blip2_referee):
    loss = bind(blip2_referee, "a red cat", itm=1.0)
    match = torch.stack([s.match for s in play(toys, LoopSettings(steps=12, tail=0), loss=loss)])
    mean = [sum(0.1 * 0.9 ** (i - k) * match[k] for k in range(i + 1)).amin() for i in range(12)]
    target = float(mean[7]) * 0.9999  # reached somewhere on the way
    expected = next(i for i, value in enumerate(mean) if value >= target) + 1
    steps = play(toys, LoopSettings(steps=12, tail=0, stop_at=target), loss=loss)
    assert len(steps) == expected
    torch.testing.assert_close(steps[-1].match, (-steps[-1].scalars[LOSS]["itm"]).exp())
    assert len(play(toys, LoopSettings(steps=12, tail=2, stop_at=target), loss=loss)) == min(expected + 2, 12)
    with pytest.raises(ValueError, match="'stop_at' needs the probability"):
        play(toys, LoopSettings(steps=3, tail=0, stop_at=0.5))


def test_the_start_is_left_alone(toys):
    start = toys.z.clone()
    play(toys, averaging=EMARestart(start=2))
    assert torch.equal(toys.z, start) and not toys.z.requires_grad


@pytest.mark.parametrize(("factor", "words"), [(float("nan"), "not finite"), (0.0, "zero")])
def test_a_referee_without_a_usable_gradient_is_named(toys, factor, words):
    class Broken(type(toys.referee)):
        def losses(self, images, text, terms):
            return {name: factor * value for name, value in super().losses(images, text, terms).items()}

    with pytest.raises(RuntimeError, match=f"the referee is {words}"):
        play(toys, loss=bind(Broken(), "a cat", level=1.0))


@pytest.mark.parametrize(("answer", "words"), [(lambda z: z * float("nan"), "not finite"), (lambda z: z, "zero")])
def test_a_prior_without_a_usable_gradient_is_named(toys, answer, words):
    class Broken(type(toys.denoiser)):
        def __call__(self, x, sigma):
            return answer(toys.z)

    with pytest.raises(RuntimeError, match=f"score distillation is {words}"):
        play(toys, prior=SDS(Broken()))


def test_a_referee_that_falls_silent_later_leaves_the_latent_finite(toys):
    """A saturated loss has a gradient of exactly 0; then only score distillation, however strong, moves z."""

    class Satisfied(type(toys.referee)):
        def losses(self, images, text, terms):
            values = super().losses(images, text, terms)
            return values if len(self.asked) == 1 else {name: 0 * value for name, value in values.items()}

    strong = SDS(toys.denoiser, Schedule(8000.0, 8000.0))
    z, loss = toys.z.float(), bind(Satisfied(), "a cat", level=1.0)
    steps = play(toys, LoopSettings(steps=3, tail=0), z=z, loss=loss, prior=strong)
    assert all(torch.isfinite(step.z).all() for step in steps)
    assert not steps[1].gradients["referee"].any()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"tail": -1}, {"noise": -0.1}, {"w1": -1.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoopSettings(**wrong)


def test_a_tail_as_long_as_the_run_is_refused_where_a_tail_is_run(toys):
    long = replace(SHORT, tail=SHORT.steps)
    with pytest.raises(ValueError, match="'tail' of 7"):
        play(toys, long)
    assert len(play(toys, long, loss=None)) == len(play(toys, long, prior=None)) == 7
