"""Masks: what is outside stays, what is half inside moves half as far."""

import pytest
import torch
from core.test_referee_can_play import assert_same_run, play

from referee_core.averaging import EMARestart
from referee_core.losses import bind
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.schedules import Schedule


@pytest.mark.parametrize("averaging", [None, EMARestart(start=2, interval=2)])
@pytest.mark.parametrize("parts", [{}, {"loss": None}, {"prior": None}])
def test_outside_the_mask_nothing_changes_bit_for_bit(toys, parts, averaging):
    mask = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    mask[..., 1:3, 1:4] = 1
    inside = mask.bool().expand_as(toys.z)
    for step in play(toys, mask=mask, averaging=averaging, **parts):
        assert torch.equal(step.z[~inside], toys.z[~inside])
        assert (step.z[inside] != toys.z[inside]).all()
        assert step.gradients and not any(g[~inside].any() for g in step.gradients.values())


def test_a_soft_mask_lets_each_element_move_as_far_as_it_says(toys):
    """With a gradient that never changes, half a mask is half the way, whatever Adam makes of the gradient's length."""

    class Slope(type(toys.referee)):
        def losses(self, images, text, terms):
            return {"level": (images * self.pattern.to(images)).sum((1, 2, 3))}

    def linear(z):
        return 0.5 + 0.01 * type(toys.decode)()(z)  # never out of range

    mask = torch.tensor([1.0, 0.75, 0.5, 0.25], dtype=torch.float64).view(1, 1, 1, 4).expand(1, 1, 4, 4)
    settings = LoopSettings(steps=20, tail=0, noise=0.0, lr=Schedule(0.01, 0.01))
    options = {"loss": bind(Slope(), "a cat", level=1.0), "settings": settings}
    free = list(referee_can_play(toys.z, linear, **options))[-1].z - toys.z
    held = list(referee_can_play(toys.z, linear, mask=mask, **options))[-1].z - toys.z
    assert free.abs().min() > 0.05
    torch.testing.assert_close(held, mask * free, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("value", [0.25, 0.5])
def test_a_soft_mask_scales_score_distillation_too(toys, value):
    mask = torch.full((1, 1, 4, 4), value, dtype=torch.float64)
    settings = LoopSettings(steps=1, tail=0, noise=0.0)
    (free,), (held,) = (play(toys, settings, loss=None, **m) for m in ({}, {"mask": mask}))
    torch.testing.assert_close(held.z - toys.z, value * (free.z - toys.z))


def test_a_full_mask_is_no_mask(toys):
    assert_same_run(play(toys, mask=torch.ones(2, 1, 4, 4, dtype=torch.float64)), play(toys))


def test_an_empty_mask_is_reported(toys):
    with pytest.raises(RuntimeError, match="mask is empty"):
        play(toys, mask=torch.zeros(1, 1, 4, 4, dtype=torch.float64))
