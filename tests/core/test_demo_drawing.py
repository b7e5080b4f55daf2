"""Pictures of the demo world show what they are said to."""

import itertools
import math
import random

import pytest
import torch

from referee_core.demo.captions import MARGIN
from referee_core.demo.world import (
    CATEGORIES,
    COLOURS,
    OBJECTS,
    RELATIONS,
    SIZE,
    Scene,
    random_objects,
    relation_between,
)
from training.drawing import coverage, draw, random_layout, render


def test_every_random_choice_comes_from_the_given_generator():
    scene = Scene((("red", "circle"), ("blue", "cross")), "left")
    random.seed(0)
    torch.manual_seed(0)
    first = render(scene, random.Random(5))
    random.seed(1)
    torch.manual_seed(1)
    assert torch.equal(render(scene, random.Random(5)), first)
    assert not torch.equal(render(scene, random.Random(6)), first)


def test_pictures_show_each_object_in_its_colour_and_place():
    rng = random.Random(2)
    for _ in range(40):
        drawing = draw(rng, random_objects(rng, rng.choice(CATEGORIES)))
        picture, owner = drawing.picture, drawing.owner
        assert picture.shape == (3, SIZE, SIZE) and owner.shape == (SIZE, SIZE)
        assert picture.min() >= 0 and picture.max() <= 1
        assert set(owner.unique().tolist()) == {0} | {1 + OBJECTS.index(o) for o in drawing.objects}
        for (colour, shape), (x, y) in zip(drawing.objects, drawing.centres, strict=True):
            assert owner[int(y), int(x)] == 1 + OBJECTS.index((colour, shape))
            assert (picture[:, int(y), int(x)] - torch.tensor(COLOURS[colour])).abs().max() < 0.041
        background = picture[:, owner == 0]
        assert (background.median(dim=1).values - 0.44).abs().max() < 0.18


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_shapes_neither_touch_nor_leave_the_picture(count):
    rng = random.Random(3)
    for _ in range(40):
        covers = [coverage("square", *place, rng.uniform(-0.2, 0.2)) for place in random_layout(rng, count)]
        assert len(covers) == count
        assert not any((a * b).any() for a, b in itertools.combinations(covers, 2))
        assert not any(c[edge].any() for c in covers for edge in (0, -1))
        assert not any(c[:, edge].any() for c in covers for edge in (0, -1))


def test_two_shapes_lie_clearly_in_the_direction_asked_for_or_in_some():
    rng = random.Random(4)
    for relation in [*RELATIONS, None] * 10:
        first, second = random_layout(rng, 2, relation)
        found = relation_between(first[:2], second[:2], MARGIN)
        assert found in RELATIONS and (relation is None or found == relation)


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
