"""EMA-restart: when it happens and what is averaged."""

import pytest
import torch

from referee_core.averaging import EMARestart


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
