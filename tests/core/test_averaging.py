"""EMA-restart: when it happens, what is averaged, and what the loop makes of it."""

import pytest
import torch
from core.test_referee_can_play import assert_same_run, play

from referee_core.averaging import EMARestart
from referee_core.methods.referee_can_play import LoopSettings
from referee_core.schedules import Schedule


def test_restarts_at_e_s_and_every_e_rs_after_it():
    averaging = EMARestart(start=40, interval=60)
    assert [i for i in range(1, 300) if averaging.restarts_at(i)] == [40, 100, 160, 220, 280]


def test_an_interval_of_0_restarts_once():
    averaging = EMARestart(start=7, interval=0)
    assert [i for i in range(1, 300) if averaging.restarts_at(i)] == [7]


@pytest.mark.parametrize(("start", "interval"), [(3, 4), (5, 0), (1, 60)])
def test_next_restart_is_the_first_later_iteration_that_restarts(start, interval):
    averaging = EMARestart(start=start, interval=interval)
    restarts = [i for i in range(1, 200) if averaging.restarts_at(i)]
    for iteration in range(100):
        assert averaging.next_restart(iteration) == next((r for r in restarts if r > iteration), None)


def test_the_average_weighs_each_latent_by_its_age():
    averaging, decay = EMARestart(decay=0.9), 0.9
    zs = torch.randn(6, 1, 4, 2, 2, dtype=torch.float64)
    average = zs[0]
    for z in zs[1:]:
        average = averaging.update(average, z)
    weights = [decay**5] + [(1 - decay) * decay ** (5 - k) for k in range(1, 6)]
    assert sum(weights) == pytest.approx(1)
    torch.testing.assert_close(average, sum(w * z for w, z in zip(weights, zs, strict=True)))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_outside_0_to_1_is_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        EMARestart(decay=decay)


def test_the_papers_run_has_160_steps_150_with_the_referee_and_restarts_at_40_and_100(toys):
    steps = play(toys, LoopSettings(), averaging=EMARestart())
    assert (len(steps), len(toys.referee.asked)) == (160, 150)
    assert [step.index + 1 for step in steps if step.marked] == [40, 100]


STILL = LoopSettings(
    steps=20, tail=4, patience=2, lr=Schedule(0.0, 0.0), noise=0.0
)  # nothing moves: it gives up at once


@pytest.mark.parametrize(
    ("settings", "parts", "restarts"),
    [
        (LoopSettings(steps=14, tail=4), {}, [3, 6, 9]),
        (LoopSettings(steps=12, tail=0), {}, [3, 6, 9]),  # the result itself is not an average
        (LoopSettings(steps=14, tail=10), {"prior": None}, [3, 6, 9, 12]),  # alone the referee has no tail
        (STILL, {}, [3]),
    ],
)
def test_every_step_knows_when_the_next_restart_comes(toys, settings, parts, restarts):
    steps = play(toys, settings, averaging=EMARestart(start=3, interval=3), **parts)
    assert [step.index + 1 for step in steps if step.marked] == restarts
    for step in steps:
        if settings.patience == 0 or step.steps < settings.steps:  # before, nobody knows that the run will end early
            coming = [r - step.index - 1 for r in restarts if r > step.index + 1]
            assert step.note == (f"restart in {coming[0]}" if coming else "")


def test_a_restart_puts_z_at_its_average(toys):
    """Until the first restart averaging only watches, so the average can be taken from a run without it."""
    free, restarted = play(toys), play(toys, averaging=EMARestart(decay=0.8, start=4))
    average = toys.z
    for step in free[:4]:
        average = 0.8 * average + 0.2 * step.z
    assert_same_run(free[:3], restarted[:3])
    torch.testing.assert_close(restarted[3].z, average)
    assert (restarted[3].z - free[3].z).norm() > 0.1
