"""How many attempts of a search go at a time on a card of main memory, and what happens where they do not fit."""

import re

import pytest

from comfyui import inside

pytestmark = [inside.NEEDS_CARD, pytest.mark.slow]


@pytest.fixture(scope="module")
def found():
    return inside.run("search_on_a_card")


def test_as_many_as_fit_unless_one_may_be_the_last(found):
    assert found["one"]["sizes"] == [1] * 5 and found["all"]["sizes"] == [5]
    assert found["may stop"]["sizes"] == [1, 1, 2, 1]  # no more than were tried before
    assert found["most"] == 3


def test_where_memory_runs_out_fewer_go_on_and_nothing_is_lost(found):
    assert found["short"] == {"sizes": [5, 2, 2, 1], "notes": ["memory ran out, 2 at a time"]}


def test_a_batch_gives_what_each_gives_alone(found):
    assert max(found["off"]) < inside.ROUNDING


def test_where_one_does_not_fit_the_error_says_what_to_do(found):
    message = found["hopeless"]
    assert "Memory ran out in sampling" in message and "lower at_once" in message


def test_a_referee_that_does_not_fit_beside_the_model_takes_turns_and_says_what_that_costs(found):
    assert found["roomy"] == {"said": "", "turns": 3, "reloads": 0}
    assert found["turns"]["reloads"] == 2
    said = r"the referee does not fit beside the model: loaded again for 2 of 3 looks, \d+\.\d s each"
    assert re.fullmatch(said, found["turns"]["said"])
