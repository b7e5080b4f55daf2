"""A run that is captured and resumed is the run that was not interrupted."""

from dataclasses import replace

import pytest
import torch
from core.test_referee_can_play import SHORT, assert_same_run, play

from referee_core.augment import PAPER
from referee_core.averaging import EMARestart
from referee_core.losses import bind
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.schedules import Schedule


@pytest.mark.parametrize("at", [1, 3, 6])
@pytest.mark.parametrize("mask", [False, True])
def test_a_resumed_run_ends_where_the_whole_one_does(toys, at, mask):
    settings = replace(SHORT, gradient_noise=0.1, patience=100)
    options = {"augmentation": replace(PAPER, count=2), "averaging": EMARestart(start=2, interval=2), "seed": 5}
    if mask:
        options["mask"] = torch.zeros(1, 1, *toys.z.shape[-2:], dtype=torch.float64)
        options["mask"][..., ::2] = 1
    whole = play(toys, settings, **options)
    for step in referee_can_play(toys.z, toys.decode, toys.loss, toys.prior, settings=settings, **options):
        if step.index == at - 1:
            state = step.capture()
            break
    assert state.index == at and all(v.device.type == "cpu" for v in state.tensors.values())
    rest = play(toys, settings, resume=state, **options)
    assert [s.index for s in rest] == list(range(at, 7))
    assert_same_run(rest, whole[at:])
    assert torch.equal(rest[-1].best_z, whole[-1].best_z)


@pytest.mark.parametrize("at", [1, 4, 9])
def test_a_resumed_run_stops_where_the_whole_one_does(toys, blip2_referee, at):
    loss, settings = bind(blip2_referee, "a red cat", itm=1.0), LoopSettings(steps=12, tail=1)
    match = torch.stack([s.match for s in play(toys, settings, loss=loss)[:11]])
    mean = [sum(0.1 * 0.9 ** (i - k) * match[k] for k in range(i + 1)).amin() for i in range(11)]
    settings = replace(settings, stop_at=float(mean[9]) * 0.9999)
    whole = play(toys, settings, loss=loss)
    assert whole[-1].ending == "matched in step 10" and len(whole) == 11
    for step in referee_can_play(toys.z, toys.decode, loss, toys.prior, settings=settings):
        if step.index == at - 1:
            state = step.capture()
            break
    rest = play(toys, settings, loss=loss, resume=state)
    assert_same_run(rest, whole[at:])
    assert rest[-1].ending == whole[-1].ending


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("loss", {"loss": None}),
        ("prior", {"prior": None}),
        ("augmentation", {"augmentation": PAPER}),
        ("averaging", {"averaging": EMARestart()}),
        ("w1", {"settings": replace(SHORT, steps=9, w1=3.0)}),
        ("lr", {"settings": replace(SHORT, steps=9, lr=Schedule(0.1, 0.1))}),
        ("tail", {"settings": replace(SHORT, steps=9, tail=1)}),
    ],
)
def test_another_run_is_no_run_to_resume(toys, name, changes):
    state = play(toys)[2].capture()
    with pytest.raises(ValueError, match=f"another '{name}'"):
        play(toys, **{"settings": replace(SHORT, steps=9), "resume": state, **changes})


def test_how_long_it_goes_on_may_differ(toys):
    steps = referee_can_play(toys.z, toys.decode, toys.loss, toys.prior, settings=SHORT)
    state = next(steps).capture()
    assert len(play(toys, replace(SHORT, steps=9, patience=50, micro_batch=1), resume=state)) == 8


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(toys):
    steps = play(toys)
    state = steps[-1].capture()
    assert state.index == 7
    assert len(play(toys, replace(SHORT, steps=10), resume=state)) == 3
    with pytest.raises(ValueError, match="7 steps"):
        play(toys, resume=state)
    with pytest.raises(ValueError, match="same shape"):
        play(toys, replace(SHORT, steps=10), z=toys.z[:1], resume=state)


def test_a_run_that_gave_up_waits_anew_when_it_is_resumed(toys):
    settings = LoopSettings(steps=30, tail=0, lr=Schedule(0.0, 0.0), noise=0.0, patience=4)
    steps = play(toys, settings)
    assert len(steps) == 5
    assert len(play(toys, settings, resume=steps[-1].capture())) == 4
