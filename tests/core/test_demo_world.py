"""The demo world: which scenes there are, and which of them training never shows."""

import itertools
import math
import random

import pytest

from referee_core.demo.world import (
    CATEGORIES,
    COLOURS,
    OBJECTS,
    RELATIONS,
    SHAPES,
    Scene,
    differ,
    is_held_out,
    random_objects,
    relation_between,
    scenes,
)

RED, BLUE, GREEN = ("red", "circle"), ("blue", "square"), ("green", "cross")
PAIRS = list(itertools.permutations(OBJECTS, 2))


@pytest.mark.parametrize(
    ("scene", "category"),
    [
        (Scene((RED,)), "single"),
        (Scene((RED, BLUE)), "pair"),
        (Scene((RED, BLUE, GREEN)), "three"),
        (Scene((RED, BLUE), "above"), "relation"),
        (Scene((RED,) * 3), "number"),
    ],
)
def test_a_scene_knows_its_category(scene, category):
    assert scene.category == category


def test_a_scene_is_true_of_its_objects_in_any_order_and_of_nothing_else():
    scene, places = Scene((RED, BLUE)), ((30.0, 40.0), (90.0, 60.0))
    assert scene.true_of((RED, BLUE), places) and scene.true_of((BLUE, RED), places)
    assert not scene.true_of((RED,), places[:1])
    assert not scene.true_of((RED, BLUE, BLUE), (*places, (60.0, 100.0)))
    assert not scene.true_of((("blue", "circle"), ("red", "square")), places)
    assert Scene((RED,) * 2).true_of((RED, RED), places) and not Scene((RED,) * 3).true_of((RED, RED), places)


@pytest.mark.parametrize(("angle", "relation"), [(10, "right"), (80, "below"), (170, "left"), (-100, "above")])
def test_a_relation_follows_the_larger_distance_with_y_pointing_down(angle, relation):
    first = (64 + 40 * math.cos(math.radians(angle)), 64 + 40 * math.sin(math.radians(angle)))
    assert relation_between(first, (64.0, 64.0)) == relation
    assert relation_between((64.0, 64.0), first) == RELATIONS[relation]
    for named in RELATIONS:
        assert Scene((RED, BLUE), named).true_of((BLUE, RED), ((64.0, 64.0), first)) == (named == relation)


def test_a_diagonal_is_no_relation():
    assert relation_between((10.0, 10.0), (50.0, 50.0)) is None
    assert relation_between((0.0, 0.0), (50.0, 40.0)) == "left"
    assert relation_between((0.0, 0.0), (50.0, 40.0), margin=1.5) is None


def test_a_fifth_of_the_pairs_is_held_out_in_either_order():
    assert all(is_held_out((a, b)) == is_held_out((b, a)) for a, b in PAIRS)
    assert sum(map(is_held_out, PAIRS)) / len(PAIRS) == pytest.approx(0.2, abs=0.03)
    held_out = [pair for pair in PAIRS if is_held_out(pair)]
    assert {colour for pair in held_out for colour, _ in pair} == set(COLOURS)
    assert {shape for pair in held_out for _, shape in pair} == set(SHAPES)


def test_a_held_out_pair_is_held_out_among_others_too():
    for a, b, c in itertools.islice(itertools.permutations(OBJECTS, 3), 0, None, 97):
        assert is_held_out((a, b, c)) == any(map(is_held_out, [(a, b), (b, c), (a, c)]))


def test_every_category_but_single_objects_has_forty_held_out_scenes_and_as_many_to_train_on():
    for category in CATEGORIES:
        train, held_out = (scenes(category, held_out=h) for h in (False, True))
        assert {s.category for s in train + held_out} == {category}
        assert not set(train) & set(held_out)
        if category == "single":
            assert len(train) == 32 and not held_out
        else:
            assert min(len(train), len(held_out)) >= 40
    assert len(scenes("pair", False) + scenes("pair", True)) == math.comb(8, 2) * 4 * 3
    assert all(any(not is_held_out((o,) * n) for n in (2, 3, 4)) for o in OBJECTS)


@pytest.mark.parametrize("category", [*CATEGORIES, "crowd"])
def test_random_objects_keep_to_their_side_of_the_split(category):
    rng = random.Random(0)
    for held_out in (False, True):
        drawn = [random_objects(rng, category, held_out) for _ in range(500)]
        assert all(is_held_out(objects) == (held_out and category != "single") for objects in drawn)
        assert all(set(objects) <= set(OBJECTS) for objects in drawn)
        counts = {len(objects) for objects in drawn}
        alike = {len(objects) - len(set(objects)) for objects in drawn}
        assert counts == {"single": {1}, "three": {3}, "number": {2, 3, 4}, "crowd": {3, 4}}.get(category, {2})
        assert alike == {"number": {1, 2, 3}, "crowd": {1, 2}}.get(category, {0})
        if category in ("pair", "relation", "three"):
            assert 0.5 < sum(map(differ, drawn)) / len(drawn) < 0.98
