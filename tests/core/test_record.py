"""What a history keeps of a run."""

import pytest
import torch

from referee_core.averaging import EMARestart
from referee_core.methods.referee_can_play import Settings, referee_can_play
from referee_core.record import History

SETTINGS = Settings(steps=9, tail=3)


def recorded(toys, settings=SETTINGS, every=2, **options):
    """A run's history and its steps."""
    options = {"loss": toys.loss, "prior": toys.prior, "averaging": EMARestart(start=2, interval=3)} | options
    history, steps = History(every), []
    for step in referee_can_play(toys.z, toys.decode, settings=settings, **options):
        history.add(step, toys.decode)
        steps.append(step)
    history.finish(toys.decode(steps[-1].z))
    return history, steps


def test_curves_hold_the_steps_values(toys):
    history, steps = recorded(toys)
    assert history.steps == len(steps) == 9
    for name, values in {
        "loss": [s.loss for s in steps],
        "level": [s.terms.get("level") for s in steps],
        "waves": [s.terms.get("waves") for s in steps],
        "referee gradient": [s.referee_norm for s in steps],
        "SDS gradient": [s.sds_norm for s in steps],
        "learning rate": [torch.tensor([s.lr]) for s in steps],
        "SDS weight": [torch.tensor([s.sds_weight]) for s in steps],
    }.items():
        for kept, value in zip(history.curves.pop(name), values, strict=False):
            assert (kept is None) == (value is None)
            assert kept is None or torch.equal(kept, value.float())
    assert not history.curves


@pytest.mark.parametrize("parts", [{}, {"loss": None}, {"prior": None}])
def test_every_curve_has_one_entry_a_step_and_none_where_there_is_no_value(toys, parts):
    history, steps = recorded(toys, **parts)
    resting = [step.loss is None for step in steps]
    for name, curve in history.curves.items():
        assert len(curve) == 9, name
        if name in ("loss", "level", "waves", "referee gradient"):
            assert [value is None for value in curve] == resting
        elif name != "learning rate":
            assert all((value is None) == ("prior" in parts) for value in curve)


def test_restarts_are_listed(toys):
    history, steps = recorded(toys)
    assert history.restarts == [step.index for step in steps if step.restart] == [1, 4]


def test_frames_show_the_picture_before_the_step_and_both_gradients(toys):
    history, steps = recorded(toys, Settings(steps=9, tail=0))
    before = [toys.z] + [step.z for step in steps]
    assert [frame.index for frame in history.frames] == [0, 2, 4, 6, 8]
    for frame in history.frames:
        torch.testing.assert_close(frame.image, toys.decode(before[frame.index]).clamp(0, 1).float())
        assert torch.equal(frame.referee_gradient, steps[frame.index].referee_gradient.float())
        assert torch.equal(frame.sds_gradient, steps[frame.index].sds_gradient.float())


@pytest.mark.parametrize("parts", [{"loss": None}, {}])
def test_frames_without_the_referee_show_the_picture_before_the_step_too(toys, parts):
    """The referee decodes; where it rests, the history does."""
    history, steps = recorded(toys, **parts)
    before = [toys.z] + [step.z for step in steps]
    last = history.frames[-1]
    assert steps[last.index].x is None and last.referee_gradient is None and last.sds_gradient is not None
    torch.testing.assert_close(last.image, toys.decode(before[last.index]).clamp(0, 1).float())


def test_the_finished_picture_and_the_best_latent_are_kept(toys):
    history, steps = recorded(toys)
    assert torch.equal(history.final, toys.decode(steps[-1].z).clamp(0, 1).float())
    assert torch.equal(history.best_z, steps[-1].best_z) and torch.equal(history.best_loss, steps[-1].best_loss)


def test_nothing_kept_holds_on_to_the_graph(toys):
    history, _ = recorded(toys)
    kept = [value for curve in history.curves.values() for value in curve if value is not None]
    kept += [t for f in history.frames for t in (f.image, f.referee_gradient, f.sds_gradient) if t is not None]
    assert kept and not any(t.requires_grad for t in [*kept, history.final, history.best_z, history.best_loss])
