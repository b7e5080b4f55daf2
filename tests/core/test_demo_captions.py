"""The demo world's language: captions and scenes agree, wrong captions are wrong."""

import itertools
import random

import pytest

from referee_core.demo.captions import MISTAKES, caption, describe, false_scene, parse
from referee_core.demo.world import CATEGORIES, OBJECTS, Scene, random_objects, scenes
from training.drawing import draw

RED, BLUE, GREEN, ORANGE = ("red", "circle"), ("blue", "square"), ("green", "cross"), ("orange", "cross")


def test_captions_and_scenes_are_inverse():
    for category, held_out in itertools.product(CATEGORIES, (False, True)):
        for scene in scenes(category, held_out):
            assert parse(caption(scene)) == scene


@pytest.mark.parametrize(
    ("scene", "text"),
    [
        (Scene((RED, ORANGE)), "a red circle and an orange cross"),
        (Scene((RED, BLUE, GREEN)), "a red circle, a blue square and a green cross"),
        (Scene((RED, BLUE), "left"), "a red circle to the left of a blue square"),
        (Scene((RED, BLUE), "above"), "a red circle above a blue square"),
        (Scene((GREEN,) * 3), "three green crosses"),
    ],
)
def test_captions_are_english(scene, text):
    assert caption(scene) == text


@pytest.mark.parametrize(
    ("text", "scene"),
    [
        ("A RED Circle!", Scene((RED,))),
        ("photo of a blue  square, next to a red\ncircle", Scene((BLUE, RED))),
        ("one green cross", Scene((GREEN,))),
        ("Two red circles.", Scene((RED, RED))),
        ("a blue square on the right of a red circle", Scene((BLUE, RED), "right")),
        ("a red circle, left alone", Scene((RED,))),
    ],
)
def test_parsing_is_lenient(text, scene):
    assert parse(text) == scene


@pytest.mark.parametrize(
    "text",
    [
        "", "a cat", "a red cat and a circle", "a redcircle", "five cats", "two red circles and a blue square",
        "a red circle, a blue square, a green cross and an orange cross", "four red circles and a red circle",
    ],
)  # fmt: skip
def test_texts_outside_the_world_are_refused(text):
    with pytest.raises(ValueError, match="Try 'a red circle"):
        parse(text)


def test_descriptions_are_true_and_of_every_kind():
    rng, seen = random.Random(0), set()
    for _ in range(300):
        drawing = draw(rng, random_objects(rng, rng.choice(CATEGORIES)))
        scene = describe(rng, drawing.objects, drawing.centres)
        assert scene.true_of(drawing.objects, drawing.centres)
        seen.add(scene.category)
    assert seen == set(CATEGORIES)


def test_nothing_is_true_of_a_crowd():
    rng = random.Random(1)
    for _ in range(20):
        objects = random_objects(rng, "crowd")
        assert describe(rng, objects, ((0.0, 0.0),) * len(objects)) is None
    assert describe(rng, (OBJECTS[0],) * 5, ((0.0, 0.0),) * 5) is None  # as networks paint them sometimes


@pytest.mark.parametrize("kind", MISTAKES)
def test_false_scenes_are_false_in_their_way(kind):
    rng, made = random.Random(2), 0
    for _ in range(300):
        drawing = draw(rng, random_objects(rng, rng.choice(CATEGORIES)))
        scene = describe(rng, drawing.objects, drawing.centres)
        wrong = false_scene(rng, scene, kind)
        if wrong is None:
            continue
        made += 1
        assert not wrong.true_of(drawing.objects, drawing.centres)
        more = len(wrong.objects) - len(scene.objects)
        assert {"missing": more == 1, "surplus": more == -1, "number": more != 0}.get(kind, more == 0)
        colours, shapes = ([sorted(o[i] for o in s.objects) for s in (scene, wrong)] for i in (0, 1))
        assert kind not in ("swap", "colour", "relation") or shapes[0] == shapes[1]
        assert kind not in ("swap", "shape", "relation") or colours[0] == colours[1]
        assert kind != "relation" or wrong.objects == scene.objects
    assert made > 30


def test_there_is_not_every_mistake_about_every_scene():
    rng = random.Random(3)
    assert false_scene(rng, Scene((RED,)), "swap") is None
    assert false_scene(rng, Scene((RED, ("blue", "circle"))), "swap") is None
    assert false_scene(rng, Scene((RED, BLUE)), "relation") is None
    assert false_scene(rng, Scene((RED, BLUE, GREEN)), "missing") is None
    assert set(OBJECTS) >= set(false_scene(rng, Scene((RED, BLUE)), "missing").objects)
