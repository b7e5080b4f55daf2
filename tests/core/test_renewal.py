"""New noise for images that the referee calls stuck after a third of the run."""

from dataclasses import replace

import pytest
import torch

from referee_core.augment import PAPER
from referee_core.averaging import EMARestart
from referee_core.losses import bind
from referee_core.methods.referee_can_play import PURPOSES, Settings, referee_can_play
from referee_core.randomness import generators

SETTINGS = Settings(steps=12, tail=2)
AT = 3  # the step of the third


def play(toys, loss, settings=SETTINGS, z=None, **options):
    return list(
        referee_can_play(toys.z if z is None else z, toys.decode, loss, toys.prior, settings=settings, **options)
    )


@pytest.fixture
def loss(blip2_referee):
    return bind(blip2_referee, "a red cat", itm=1.0)


def between(plain):
    """A probability between those of the two images in the step of the third, and which image lies below it."""
    match = plain[AT].match
    assert match[0] != match[1]
    return float(match.mean()), int(match.argmin())


@pytest.mark.parametrize("averaging", [None, EMARestart(start=4, interval=3)])
def test_the_stuck_image_becomes_the_next_noise_of_its_own_generator_and_the_other_goes_on(toys, loss, averaging):
    plain = play(toys, loss, averaging=averaging, seed=5)
    threshold, stuck = between(plain)
    steps = play(toys, loss, replace(SETTINGS, renew_below=threshold), averaging=averaging, seed=5)
    own = generators([5 + stuck], PURPOSES)["noise"][0]
    for _ in range(AT + 1):
        torch.randn(4, 4, 4, generator=own)
    assert torch.equal(steps[AT].z[stuck], torch.randn(4, 4, 4, generator=own).double())
    assert torch.equal(steps[AT].z[1 - stuck], plain[AT].z[1 - stuck])
    assert all(torch.equal(a.z, b.z) for a, b in zip(steps[:AT], plain[:AT], strict=True))
    assert steps[AT].marked and not steps[AT - 1].marked


def test_adams_direction_and_the_average_begin_anew(toys, loss):
    threshold, stuck = between(play(toys, loss))
    averaging = EMARestart(start=100)
    run = referee_can_play(
        toys.z, toys.decode, loss, toys.prior, averaging=averaging, settings=replace(SETTINGS, renew_below=threshold)
    )
    for step in run:
        if step.index == AT:
            state = step.capture()
            break
    assert not state.adam["exp_avg"][stuck].any() and state.adam["exp_avg"][1 - stuck].any()
    assert state.adam["exp_avg_sq"][stuck].any()
    assert torch.equal(state.tensors["z_ema"][stuck], step.z[stuck])
    assert not torch.equal(state.tensors["z_ema"][1 - stuck], step.z[1 - stuck])


def test_above_the_bar_nobody_is_renewed(toys, loss):
    plain = play(toys, loss, seed=5)
    steps = play(toys, loss, replace(SETTINGS, renew_below=float(plain[AT].match.min())), seed=5)
    assert not steps[AT].marked
    assert torch.equal(steps[AT].z, plain[AT].z)


@pytest.mark.parametrize("i", [0, 1])
def test_an_image_is_renewed_in_a_batch_as_it_would_be_alone(toys, loss, i):
    threshold, _ = between(play(toys, loss, seed=9))
    settings = replace(SETTINGS, renew_below=threshold)
    both = play(toys, loss, settings, seed=9)
    for alone, step in zip(play(toys, loss, settings, z=toys.z[i : i + 1], seed=9 + i), both, strict=True):
        torch.testing.assert_close(alone.z[0], step.z[i], rtol=1e-8, atol=1e-8)


def test_a_mask_protects_from_new_noise_too(toys, loss):
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    mask[..., ::2] = 1
    steps = play(toys, loss, replace(SETTINGS, renew_below=1.0), mask=mask)
    assert steps[AT].marked
    for step in steps:
        assert torch.equal(step.z[..., 1::2], toys.z[..., 1::2])
    assert (steps[AT].z - steps[AT].before)[..., ::2].abs().mean() > 0.5


@pytest.mark.parametrize("at", [2, 4, 6])
def test_a_resumed_run_renews_as_the_whole_one_does(toys, loss, at):
    settings = replace(SETTINGS, renew_below=1.0)
    options = {"augmentation": replace(PAPER, count=2), "seed": 5}
    whole = play(toys, loss, settings, **options)
    for step in referee_can_play(toys.z, toys.decode, loss, toys.prior, settings=settings, **options):
        if step.index == at - 1:
            state = step.capture()
            break
    rest = play(toys, loss, settings, resume=state, **options)
    assert all(torch.equal(a.z, b.z) for a, b in zip(rest, whole[at:], strict=True))


def test_it_needs_a_probability_and_a_possible_bar(toys):
    with pytest.raises(ValueError, match="'renew_below' needs the probability"):
        play(toys, toys.loss, replace(SETTINGS, renew_below=0.5))
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="renew_below"):
            Settings(renew_below=wrong)
