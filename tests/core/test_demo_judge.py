"""The exact judge: right on the world's own pictures, and not talked into anything on others."""

import random

import pytest
import torch
import torch.nn.functional as F

from referee_core.demo.captions import MISTAKES, describe, false_scene
from referee_core.demo.world import CATEGORIES, RELATIONS, SIZE, Scene, random_objects
from training.drawing import draw
from training.judge import Contents, judge


def drawn(rng: random.Random, category: str, held_out: bool = False) -> tuple[torch.Tensor, Scene]:
    """A random picture and a true scene."""
    drawing = draw(rng, random_objects(rng, category, held_out))
    return drawing.picture, describe(rng, drawing.objects, drawing.centres)


@pytest.mark.slow
@pytest.mark.parametrize("category", CATEGORIES)
def test_at_least_99_percent_of_100_pictures_are_named_right(category):
    rng = random.Random(4)
    pictures = [drawn(rng, category, held_out=k % 2 == 0) for k in range(100)]
    assert sum(judge(picture).right(scene) for picture, scene in pictures) >= 99


def test_a_wrong_description_is_not_right():
    rng = random.Random(5)
    for category in CATEGORIES * 3:
        picture, scene = drawn(rng, category)
        verdict = judge(picture)
        wrong = [false_scene(rng, scene, kind) for kind in MISTAKES]
        assert not any(verdict.right(s) for s in wrong if s is not None)


def test_order_does_not_matter_but_number_and_place_do():
    red, blue = ("red", "circle"), ("blue", "square")
    places = ((40.0, 20.0), (60.0, 100.0))
    seen = Contents((red, blue), places, 0)
    assert seen.right(Scene((blue, red)))
    assert [r for r in RELATIONS if seen.right(Scene((red, blue), r))] == ["above"]
    assert [r for r in RELATIONS if seen.right(Scene((blue, red), r))] == ["below"]
    assert not Contents((red,), places[:1], 0).right(Scene((red, red)))
    assert not Contents((red, red), places, 0).right(Scene((red,)))
    assert not Contents((red,), places[:1], 1).right(Scene((red,)))


def test_centres_are_where_the_objects_are():
    rng = random.Random(9)
    for category in CATEGORIES:
        drawing = draw(rng, random_objects(rng, category))
        verdict = judge(drawing.picture)
        for thing, centre in zip(verdict.objects, verdict.centres, strict=True):
            known = [c for o, c in zip(drawing.objects, drawing.centres, strict=True) if o == thing]
            assert min(abs(x - centre[0]) + abs(y - centre[1]) for x, y in known) < 2


def test_a_blank_picture_shows_nothing():
    for level in (0.3, 0.5):
        verdict = judge(torch.full((3, SIZE, SIZE), level))
        assert verdict == Contents((), (), 0) and str(verdict) == "nothing"


def test_noise_is_never_a_scene():
    for seed in range(5):
        noise = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        assert judge(noise).objects == ()


def test_a_picture_drowned_in_noise_is_not_right():
    rng = random.Random(6)
    for seed, category in enumerate(CATEGORIES):
        picture, scene = drawn(rng, category)
        noise = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        assert not judge((picture + 0.5 * noise).clamp(0, 1)).right(scene)


def test_a_faint_noise_does_not_matter():
    rng, generator = random.Random(7), torch.Generator().manual_seed(7)
    pictures = [drawn(rng, category) for category in CATEGORIES * 2]
    noisy = [(p + 0.02 * torch.randn(p.shape, generator=generator), scene) for p, scene in pictures]
    assert sum(judge(p).right(scene) for p, scene in noisy) >= 9


def test_a_shape_of_no_kind_is_something_else():
    picture = torch.full((3, SIZE, SIZE), 0.45)
    picture[:, 20:26, 10:110] = torch.tensor([0.86, 0.14, 0.14])[:, None, None]  # a long red bar
    verdict = judge(picture)
    assert verdict == Contents((), (), 1) and str(verdict) == "something else"


def test_an_enlarged_picture_gets_the_same_verdict():
    rng = random.Random(8)
    for category in CATEGORIES:
        picture, scene = drawn(rng, category)
        assert judge(F.interpolate(picture[None], scale_factor=2, mode="bilinear")[0].clamp(0, 1)).right(scene)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (3, 8, 9), (1, 8, 8), (8, 8)])
def test_other_than_one_square_picture_is_refused(shape):
    with pytest.raises(ValueError, match="square"):
        judge(torch.zeros(shape))
