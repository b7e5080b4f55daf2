"""The demo world: words, scenes and pictures agree."""

import itertools
import math
import random

import pytest
import torch

from referee_core.demo.world import (
    COLOURS,
    OBJECTS,
    SHAPES,
    SIZE,
    caption,
    coverage,
    false_scene,
    is_held_out,
    parse,
    random_layout,
    random_scene,
    render,
    two_object_scenes,
)

PAIRS = list(itertools.permutations(OBJECTS, 2))


def test_captions_and_scenes_are_inverse():
    for scene in [(o,) for o in OBJECTS] + PAIRS:
        assert parse(caption(scene)) == scene


def test_captions_are_english():
    assert caption((("red", "circle"), ("orange", "cross"))) == "a red circle and an orange cross"


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("A RED Circle!", (("red", "circle"),)),
        ("photo of a blue  square, next to a white\ntriangle", (("blue", "square"), ("white", "triangle"))),
    ],
)
def test_parsing_is_lenient(text, scene):
    assert parse(text) == scene


@pytest.mark.parametrize("text", ["", "a cat", "a red cat and a circle", "a redcircle", "a red circle " * 3])
def test_texts_outside_the_world_are_refused(text):
    with pytest.raises(ValueError, match="Try 'a red circle"):
        parse(text)


def test_a_fifth_of_the_pairs_is_held_out_in_either_order():
    assert all(is_held_out((a, b)) == is_held_out((b, a)) for a, b in PAIRS)
    assert sum(map(is_held_out, PAIRS)) / len(PAIRS) == pytest.approx(0.2, abs=0.03)
    assert not any(is_held_out((o,)) for o in OBJECTS)
    held_out = [pair for pair in PAIRS if is_held_out(pair)]
    assert {colour for pair in held_out for colour, _ in pair} == set(COLOURS)
    assert {shape for pair in held_out for _, shape in pair} == set(SHAPES)


def test_random_scenes_keep_to_their_side_of_the_split():
    rng = random.Random(0)
    for held_out in (False, True):
        scenes = [random_scene(rng, held_out) for _ in range(2000)]
        pairs = [scene for scene in scenes if len(scene) == 2]
        assert all(is_held_out(pair) == held_out and pair[0] != pair[1] for pair in pairs)
        assert 1 - len(pairs) / len(scenes) == pytest.approx(0.25, abs=0.04)
        assert all(set(scene) <= set(OBJECTS) for scene in scenes)


def test_two_object_scenes_are_all_pairs_that_differ_in_both_attributes():
    train, held_out = (set(map(frozenset, two_object_scenes(h))) for h in (False, True))
    assert not train & held_out
    assert len(train) + len(held_out) == math.comb(8, 2) * 4 * 3
    assert all(a[0] != b[0] and a[1] != b[1] for a, b in map(tuple, train | held_out))


@pytest.mark.parametrize("kind", ["swap", "colour", "shape"])
def test_false_scenes_are_false(kind):
    rng = random.Random(1)
    for _ in range(500):
        scene = random_scene(rng)
        wrong = false_scene(rng, scene, kind)
        assert len(wrong) == len(scene) and sorted(wrong) != sorted(scene)
        colours, shapes = (sorted(o[k] for o in scene) for k in (0, 1))
        if kind == "shape":
            assert sorted(o[0] for o in wrong) == colours
        else:
            assert sorted(o[1] for o in wrong) == shapes
        if kind == "swap" and len({o[0] for o in scene}) == len({o[1] for o in scene}) == 2:
            assert sorted(o[0] for o in wrong) == colours


def test_every_random_choice_comes_from_the_given_generator():
    scene = (("red", "circle"), ("blue", "cross"))
    random.seed(0)
    torch.manual_seed(0)
    first = render(scene, random.Random(5))[0]
    random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(render(scene, random.Random(5))[0], first)
    assert not torch.equal(render(scene, random.Random(6))[0], first)


def test_pictures_show_each_object_in_its_colour_and_its_owner():
    rng = random.Random(2)
    for _ in range(30):
        scene = random_scene(rng)
        picture, owner = render(scene, rng)
        assert picture.shape == (3, SIZE, SIZE) and owner.shape == (SIZE, SIZE)
        assert picture.min() >= 0 and picture.max() <= 1
        assert set(owner.unique().tolist()) == {0} | {1 + OBJECTS.index(o) for o in scene}
        for colour, shape in scene:
            paint = picture[:, owner == 1 + OBJECTS.index((colour, shape))].median(dim=1).values
            assert (paint - torch.tensor(COLOURS[colour])).abs().max() < 0.041
        background = picture[:, owner == 0]
        assert (background.median(dim=1).values - 0.44).abs().max() < 0.18


def test_shapes_neither_touch_nor_leave_the_picture():
    rng = random.Random(3)
    for _ in range(200):
        places = random_layout(rng, 2)
        square, cross = (
            coverage(shape, *place, rng.uniform(-0.2, 0.2))
            for shape, place in zip(("square", "cross"), places, strict=True)
        )
        assert not (square * cross).any()
        for alpha in (square, cross):
            assert not (alpha[0].any() or alpha[-1].any() or alpha[:, 0].any() or alpha[:, -1].any())


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", math.pi * 0.95**2),
        ("square", 1.7**2),
        ("triangle", 3 * 3**0.5 * 0.6**2),
        ("cross", 4 * (2 * 0.34 - 0.34**2)),
    ],
)
def test_shapes_cover_their_geometric_area_whatever_the_tilt(shape, area):
    for tilt in (0.0, 0.2):
        covered = float(coverage(shape, 64.0, 64.0, 40.0, tilt).sum())
        assert covered == pytest.approx(area * 40**2, rel=0.01)
