"""The exact judge: right on the world's own pictures, and not talked into anything on others."""

import random

import pytest
import torch
import torch.nn.functional as F

from referee_core.demo.judge import Verdict, judge
from referee_core.demo.world import SIZE, false_scene, random_scene, render


def test_at_least_99_percent_of_200_pictures_are_named_right():
    rng = random.Random(4)
    right = 0
    for k in range(200):
        scene = random_scene(rng, held_out=k % 2 == 0)
        right += judge(render(scene, rng)[0]).right(scene)
    assert right >= 198


def test_a_wrong_description_is_not_right():
    rng = random.Random(5)
    for _ in range(10):
        scene = random_scene(rng)
        verdict = judge(render(scene, rng)[0])
        assert not any(verdict.right(false_scene(rng, scene, kind)) for kind in ("swap", "colour", "shape"))
        assert not verdict.right(scene[:1] * 2) and not verdict.right((*scene, ("red", "circle")))


def test_order_does_not_matter_but_number_does():
    red, blue = ("red", "circle"), ("blue", "square")
    assert Verdict((red, blue), 0).right((blue, red))
    assert not Verdict((red,), 0).right((red, red)) and not Verdict((red, red), 0).right((red,))
    assert not Verdict((red,), 1).right((red,))


def test_a_blank_picture_shows_nothing():
    for level in (0.3, 0.5):
        verdict = judge(torch.full((3, SIZE, SIZE), level))
        assert verdict == Verdict((), 0) and str(verdict) == "nothing"


def test_noise_is_never_a_scene():
    for seed in range(5):
        noise = torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        assert judge(noise).objects == ()


def test_a_picture_drowned_in_noise_is_not_right():
    rng = random.Random(6)
    for seed in range(5):
        scene = random_scene(rng)
        noise = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        assert not judge((render(scene, rng)[0] + 0.5 * noise).clamp(0, 1)).right(scene)


def test_a_faint_noise_does_not_matter():
    rng = random.Random(7)
    scenes = [random_scene(rng) for _ in range(10)]
    pictures = [render(scene, rng)[0] + 0.02 * torch.randn(3, SIZE, SIZE) for scene in scenes]
    assert sum(judge(p).right(s) for p, s in zip(pictures, scenes, strict=True)) >= 9


def test_a_shape_of_no_kind_is_something_else():
    picture = torch.full((3, SIZE, SIZE), 0.45)
    picture[:, 20:26, 10:110] = torch.tensor([0.86, 0.14, 0.14])[:, None, None]  # a long red bar
    verdict = judge(picture)
    assert verdict == Verdict((), 1) and str(verdict) == "something else"


def test_a_shrunk_picture_gets_the_same_verdict():
    rng = random.Random(8)
    for _ in range(5):
        scene = random_scene(rng)
        picture = F.avg_pool2d(render(scene, rng)[0][None], 2)[0]
        assert judge(F.interpolate(picture[None], scale_factor=4, mode="bilinear")[0].clamp(0, 1)).right(scene)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (3, 8, 9), (1, 8, 8), (8, 8)])
def test_other_than_one_square_picture_is_refused(shape):
    with pytest.raises(ValueError, match="square"):
        judge(torch.zeros(shape))
