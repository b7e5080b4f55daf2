"""What the benchmark makes of its rows, against brute force."""

import itertools
import json
import random

import pytest

from benchmarks.obedience.cost import Calls
from benchmarks.obedience.curve import best_of, by_prompt, paired, until, wilson
from benchmarks.obedience.play import rows
from benchmarks.obedience.prompts import CATEGORIES, prompts
from benchmarks.obedience.report import markdown, points
from referee_core.demo.world import is_held_out


def pictures(seed: int, count: int = 7) -> list[dict]:
    rng = random.Random(seed)
    return [
        {"loss": rng.random(), "match": rng.random(), "right": rng.random() < 0.4, "seed": 10 + k} for k in range(count)
    ]


def test_best_of_n_is_the_mean_over_all_choices_of_n():
    own = pictures(0)
    for n in range(1, 8):
        chosen = [min(c, key=lambda row: row["loss"])["right"] for c in itertools.combinations(own, n)]
        assert best_of(own, n) == pytest.approx(sum(chosen) / len(chosen))


def test_a_picture_that_cannot_be_judged_is_chosen_last():
    own = [{"loss": None, "right": True}, {"loss": 5.0, "right": False}]
    assert best_of(own, 2) == 0 and best_of(own, 1) == 0.5


def test_a_search_ends_at_the_first_match_in_the_order_of_its_seeds():
    own = [
        {"seed": 3, "match": 0.95, "loss": 0.1, "right": True},
        {"seed": 1, "match": 0.2, "loss": 2.0, "right": True},
        {"seed": 2, "match": 0.91, "loss": 0.3, "right": False},
    ]
    assert until(own, 0.9, 3) == (False, 2)
    assert until(own, 0.93, 3) == (True, 3)
    assert until(own, 0.93, 2) == (False, 2)  # nothing matches, the better of both is wrong
    assert until(own, 0.0, 3) == (True, 1)


@pytest.mark.parametrize(("right", "count", "low", "high"), [(35, 40, 0.7389, 0.9454), (0, 10, 0, 0.2775)])
def test_wilson_interval(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_differences_are_taken_prompt_by_prompt():
    one, other = {"a": 1.0, "b": 0.5, "c": 0.0}, {"b": 0.0, "a": 0.5, "d": 1.0}
    assert paired(one, other) == (0.5, 0.0, 2)


def test_costs_add_up():
    calls = Calls(pairs=50) + Calls(decodes=1, views=8)
    assert calls == Calls(pairs=50, decodes=1, views=8)
    assert calls.tflop == pytest.approx(50 * 1.6 + 2.5 + 8 * 0.56)


@pytest.mark.parametrize("category", CATEGORIES)
def test_forty_prompts_of_each_side_that_do_not_meet(category):
    development, measured = prompts(category, 40, held_out=False), prompts(category, 40, held_out=True)
    assert len(set(measured)) == len(set(development)) == 40
    assert all(is_held_out(s.objects) for s in measured) and not any(is_held_out(s.objects) for s in development)
    assert {s.category for s in measured + development} == {category}
    assert measured[:5] == prompts(category, 5, held_out=True)
    with pytest.raises(ValueError, match="fewer than"):
        prompts(category, 10_000, held_out=True)


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    file = tmp_path / "rows.jsonl"
    assert rows(file) == []
    file.write_text(json.dumps({"a": 1}) + '\n{"a": 2\n' + json.dumps({"a": 3}))
    assert rows(file) == [{"a": 1}, {"a": 3}]


def test_the_table_has_a_line_a_method_and_number_of_tries():
    made = [
        row | {"method": "plain", "category": category, "prompt": f"{category} {k}", "seconds": 2.0, "tflop": 80.0}
        for category in ("pair", "three")
        for k in range(3)
        for row in pictures(k, 4)
    ]
    found = points(made)
    assert {(p["best of"], p["tflop"], p["seconds"]) for p in found} == {(1, 80, 2), (2, 160, 4), (4, 320, 8)}
    three = next(p for p in found if p["category"] == "three" and p["best of"] == 2)
    expected = [best_of(own, 2) for (category, _), own in by_prompt(made).items() if category == "three"]
    assert three["right"] == pytest.approx(sum(expected) / 3) and three["prompts"] == 3
    assert len(markdown(found).splitlines()) == 2 + 3
