"""What the benchmark makes of its rows, against brute force."""

import itertools
import json
import random

import pytest

from benchmarks.obedience.cost import QWEN_IMAGE, SD15, Calls
from benchmarks.obedience.curve import best_of, by_prompt, paired, spend, until, wilson
from benchmarks.obedience.play import pack, rows
from benchmarks.obedience.prompts import CATEGORIES, prompts
from benchmarks.obedience.report import AFTER, BEST, SEARCH, alone, markdown, plot, points
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


def test_what_lies_between_two_numbers_is_spent_on_one_of_them():
    own = pictures(0)
    assert spend(own, 3) == best_of(own, 3) and spend(own, 7) == best_of(own, 7)
    assert spend(own, 2.25) == pytest.approx(0.75 * best_of(own, 2) + 0.25 * best_of(own, 3))


def test_a_picture_that_cannot_be_judged_is_chosen_last():
    own = [{"loss": None, "right": True}, {"loss": 5.0, "right": False}]
    assert best_of(own, 2) == 0 and best_of(own, 1) == 0.5


def test_a_search_ends_at_the_first_match():
    a, b, c = own = [
        {"match": 0.2, "loss": 2.0, "right": True},
        {"match": 0.91, "loss": 0.3, "right": False},
        {"match": 0.95, "loss": 0.1, "right": True},
    ]
    assert until(own, 0.9) == (False, [a, b])
    assert until(own, 0.93) == (True, own)
    assert until([a, b], 0.93) == (False, [a, b])  # nothing matches, the better of both is wrong
    assert until([b, a], 0.0) == (False, [b])


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


def test_rows_are_kept_compressed_and_more_come_behind_them(tmp_path):
    file = tmp_path / "rows.jsonl"
    pack(file, [{"a": 1}, {"a": 2}])
    assert [f.name for f in tmp_path.iterdir()] == ["rows.jsonl.gz"]
    file.write_text(json.dumps({"a": 3}) + "\n")
    assert rows(file) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_the_same_calls_are_priced_at_other_sizes():
    calls = Calls(pairs=10, decodes=1, views=8)
    assert calls.price(SD15) == calls.tflop
    assert calls.price(QWEN_IMAGE) == pytest.approx(10 * 138.6 + 4.71 + 8 * 2.46)


def made_by(name: str, count: int, tflop: float, prompts: int = 3) -> list[dict]:
    return [
        row | {"method": name, "category": category, "prompt": f"{category} {k}", "tflop": tflop}
        for category in ("pair", "three")
        for k in range(prompts)
        for row in pictures(k + 10 * count, count)
    ]


def test_best_of_n_costs_n_pictures_and_is_compared_with_itself():
    made = made_by("plain", 4, 80.0)
    found = [p for p in points(made, "plain") if p["method"] == "plain"]
    assert {(p["n"], p["tflop"]) for p in found if p["way"] == BEST} == {
        (1, 80), (2, 160), (4, 320),
    }  # fmt: skip
    three = next(p for p in found if (p["category"], p["way"], p["n"]) == ("three", BEST, 2))
    expected = [best_of(own, 2) for (category, _), own in by_prompt(made).items() if category == "three"]
    assert three["right"] == pytest.approx(sum(expected) / 3) and three["prompts"] == 3
    assert all(p["gain"] == 0 for p in found if p["way"] == BEST)


def test_a_search_pays_for_what_it_tried_alone():
    made = made_by("plain", 4, 80.0)
    (p,) = [p for p in points(made, "plain") if (p["way"], p["n"], p["category"]) == (SEARCH, 4, "all")]
    ends = [until(own, 0.9) for own in by_prompt(made).values()]
    assert p["right"] == sum(right for right, _ in ends) / 6
    assert p["tflop"] == pytest.approx(80 * sum(len(tried) for _, tried in ends) / 6)


def test_a_method_takes_over_what_a_search_did_not_find():
    plain, dear = made_by("plain", 4, 80.0), made_by("dear", 1, 800.0)
    found = {(p["method"], p["way"], p["n"]): p for p in points(dear + plain, "plain") if p["category"] == "all"}
    cheap, after = found["plain", SEARCH, 2], found["dear", AFTER, 2]
    kept = {key: own[:2] for key, own in by_prompt(plain).items()}
    missed = [key for key, own in kept.items() if all(row["match"] < 0.9 for row in own)]
    assert missed and after["tflop"] - cheap["tflop"] == pytest.approx(800 * len(missed) / 6)
    assert found["dear", BEST, 1]["rival"] == 4  # of ten that would cost the same there are four
    rival = sum(best_of(own, 4) for own in by_prompt(plain).values()) / 6
    assert found["dear", BEST, 1]["gain"] == pytest.approx(found["dear", BEST, 1]["right"] - rival)


def test_the_table_has_a_line_a_plan(tmp_path):
    found = points(made_by("plain", 4, 80.0), "plain")
    assert len(markdown(found).splitlines()) == 2 + 3 + 2
    assert [p["n"] for p in alone(found)] == [1, 1, 1]
    plot({"a size": found, "another": found}, tmp_path / "plot.png", "plain")
    assert (tmp_path / "plot.png").stat().st_size > 1000
