"""Schedules against their closed forms."""

import math

import pytest

from referee_core.schedules import Schedule, constant


def test_the_papers_weight_falls_from_800_to_400_along_half_a_cosine():
    w2 = Schedule(800.0, 400.0)
    assert w2.at(0 / 160) == 800
    assert w2.at(80 / 160) == pytest.approx(600)
    assert w2.at(40 / 160) == pytest.approx(600 + 200 / math.sqrt(2))
    assert w2.at(160 / 160) == pytest.approx(400)
    values = [w2.at(i / 160) for i in range(160)]
    assert values == sorted(values, reverse=True)


def test_the_papers_learning_rate_falls_from_1_to_a_half():
    lr = Schedule(1.0, 0.5)
    assert [lr.at(i / 6) for i in range(7)] == pytest.approx(
        [0.75 + 0.25 * math.cos(math.pi * i / 6) for i in range(7)]
    )
    assert lr.at(2 / 6) == pytest.approx(0.875)  # cos(60 degrees) = 1/2


def test_linear_goes_in_equal_steps_and_may_rise():
    assert [Schedule(1.0, 3.0, "linear").at(i / 4) for i in range(5)] == pytest.approx([1, 1.5, 2, 2.5, 3])


def test_constant_stays_at_its_start():
    assert {Schedule(7.0, 3.0, "constant").at(i / 5) for i in range(5)} == {7.0}
    assert {constant(0.3).at(i / 5) for i in range(5)} == {0.3}


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="'sine'"):
        Schedule(1.0, 0.0, "sine")
