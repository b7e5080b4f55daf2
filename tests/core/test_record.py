"""What a history keeps of a run."""

from functools import partial
from itertools import pairwise

import pytest
import torch

from referee_core import record
from referee_core.averaging import EMARestart
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.record import LOSS, NORM, SCHEDULE, History, Step

SETTINGS, RESTARTS = LoopSettings(steps=9, tail=3), EMARestart(start=2, interval=3)


def recorded(toys, settings=SETTINGS, every=2, **options):
    """A run's history and its steps."""
    options = {"loss": toys.loss, "prior": toys.prior, "averaging": RESTARTS} | options
    history, steps = History(every), []
    for step in referee_can_play(toys.z, toys.decode, settings=settings, **options):
        history.add(step)
        steps.append(step)
    history.finish(toys.decode(steps[-1].z))
    return history, steps


def test_curves_hold_the_steps_values(toys):
    history, steps = recorded(toys)
    assert history.steps == len(steps) == 9
    names = {LOSS: ["loss", "level", "waves"], NORM: ["SDS", "referee"], SCHEDULE: ["learning rate", "SDS weight"]}
    assert {group: list(curves) for group, curves in history.curves.items()} == {g: n for g, n in names.items()}
    for group, curves in history.curves.items():
        for name, curve in curves.items():
            for kept, step in zip(curve, steps, strict=True):
                value = step.scalars.get(group, {}).get(name)
                assert (kept is None) == (value is None)
                assert kept is None or torch.equal(kept, value.float())


def test_where_the_referee_rests_its_curves_hold_nothing(toys):
    history, _ = recorded(toys)
    resting = [False] * 6 + [True] * 3
    for curve in (*history.curves[LOSS].values(), history.curves[NORM]["referee"]):
        assert [value is None for value in curve] == resting
    assert not any(value is None for value in history.curves[NORM]["SDS"])


@pytest.mark.parametrize(("part", "absent"), [("loss", "referee"), ("prior", "SDS")])
def test_a_part_left_out_has_no_curves(toys, part, absent):
    history, _ = recorded(toys, **{part: None})
    assert absent not in history.curves[NORM] and (part == "loss") == (LOSS not in history.curves)
    assert all(len(curve) == 9 for curves in history.curves.values() for curve in curves.values())


def test_marked_steps_are_listed(toys):
    history, steps = recorded(toys)
    assert history.marks == [step.index for step in steps if step.marked] == [1, 4]


def test_frames_show_the_picture_before_the_step_and_the_gradients(toys):
    history, steps = recorded(toys, LoopSettings(steps=9, tail=0))
    before = [toys.z] + [step.z for step in steps]
    assert [frame.index for frame in history.frames] == [0, 2, 4, 6, 8]
    for frame in history.frames:
        assert (frame.image - toys.decode(before[frame.index]).clamp(0, 1).float()).abs().max() <= 0.5 / 255 + 1e-6
        assert list(frame.gradients) == ["referee", "SDS"]
        for name, g in frame.gradients.items():
            assert torch.equal(g, steps[frame.index].gradients[name].float())


@pytest.mark.parametrize("parts", [{"loss": None}, {}])
def test_frames_without_the_referee_show_the_picture_before_the_step_too(toys, parts):
    """The referee decodes; where it rests, the step decodes when it is asked."""
    history, steps = recorded(toys, **parts)
    before = [toys.z] + [step.z for step in steps]
    last = history.frames[-1]
    assert list(last.gradients) == ["SDS"]
    assert (last.image - toys.decode(before[last.index]).clamp(0, 1).float()).abs().max() <= 0.5 / 255 + 1e-6


def test_a_resumed_run_keeps_the_start_of_its_history(toys):
    whole, _ = recorded(toys)
    history = History(2)
    for step in referee_can_play(toys.z, toys.decode, toys.loss, toys.prior, averaging=RESTARTS, settings=SETTINGS):
        if step.index == 4:
            break
        history.add(step)
        state = step.capture()
    rest = History.after(history, 2)
    for step in referee_can_play(
        toys.z, toys.decode, toys.loss, toys.prior, averaging=RESTARTS, settings=SETTINGS, resume=state
    ):
        rest.add(step)
    assert history.steps == 4 and len(history.frames) == 2, "the earlier history is left as it was"
    assert rest.marks == whole.marks and [f.index for f in rest.frames] == [f.index for f in whole.frames]
    torch.testing.assert_close(rest.curves, whole.curves)


def test_the_finished_picture_and_the_best_latent_are_kept(toys):
    history, steps = recorded(toys)
    assert torch.equal(history.final, toys.decode(steps[-1].z).clamp(0, 1).float())
    assert torch.equal(history.best_z, steps[-1].best_z.float())
    assert torch.equal(history.best_loss, steps[-1].best_loss.float())


def test_nothing_kept_holds_on_to_the_graph(toys):
    history, _ = recorded(toys)
    kept = [v for curves in history.curves.values() for curve in curves.values() for v in curve if v is not None]
    kept += [t for f in history.frames for t in (f.image, *f.gradients.values())]
    assert kept and not any(t.requires_grad for t in [*kept, history.final, history.best_z, history.best_loss])


def test_frames_take_a_byte_a_number_and_no_more_than_allowed(monkeypatch):
    monkeypatch.setattr(record, "MOST_BYTES", 40_000)
    history, picture = History(1), torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    for i in range(200):
        step = Step(i, 200, torch.zeros(1, 4, 2, 2), partial(torch.mul, picture, i / 199))
        history.add(step)
    assert 5 <= len(history.frames) <= 13 and sum(frame.bytes for frame in history.frames) <= 40_000
    gaps = {b.index - a.index for a, b in pairwise(history.frames)}
    assert history.frames[0].index == 0 and gaps == {history.every}
    for frame in history.frames:
        assert (frame.image - picture * frame.index / 199).abs().max() <= 0.5 / 255 + 1e-6
