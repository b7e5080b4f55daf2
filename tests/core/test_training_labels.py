"""What the referee's helpers are told about a picture, against the picture's own list of objects."""

import torch

from referee_core.demo.models import VOCABULARY
from referee_core.demo.world import COLOURS, SHAPES, Scene
from training.labels import offset_labels, query_labels, word_labels
from training.referee import tokenise

RED, BLUE, GREEN = ("red", "circle"), ("blue", "square"), ("green", "cross")


def said(scene: Scene, objects: tuple, centres: tuple) -> dict[str, int]:
    """Label by word; each word occurs once in these captions."""
    ids, _, _ = tokenise([scene])
    labels = word_labels(ids, [scene], [(objects, centres)])[0]
    return {VOCABULARY[i]: int(label) for i, label in zip(ids[0], labels, strict=True) if label >= 0}


def test_words_of_a_relation():
    objects, centres = (RED, BLUE), ((32.0, 64.0), (96.0, 64.0))
    told = said(Scene((RED, BLUE), "left"), objects, centres)
    assert told == {"red": 1, "circle": 1, "left": 1, "blue": 1, "square": 1}
    assert said(Scene((RED, BLUE), "right"), objects, centres)["right"] == 0
    assert said(Scene((BLUE, RED), "right"), objects, centres)["right"] == 1
    assert said(Scene((BLUE, RED), "below"), objects, centres)["below"] == 0


def test_words_about_what_is_not_there():
    told = said(Scene((RED, GREEN), "left"), (RED, BLUE), ((32.0, 64.0), (96.0, 64.0)))
    assert told == {"red": 1, "circle": 1, "green": 0, "cross": 0}


def test_words_of_a_number():
    centres = ((32.0, 32.0), (96.0, 32.0), (64.0, 96.0))
    assert said(Scene((RED, RED)), (RED,) * 3, centres) == {"two": 0, "red": 1, "circles": 1}
    assert said(Scene((RED,) * 3), (RED,) * 3, centres)["three"] == 1


def test_how_the_first_lies_from_the_second():
    centres = ((32.0, 64.0), (96.0, 80.0))
    for scene, expected in [(Scene((RED, BLUE), "left"), [-1.0, -0.25]), (Scene((BLUE, RED)), [1.0, 0.25])]:
        (offsets,) = offset_labels([scene], [((RED, BLUE), centres)])
        known = {colour: o.tolist() for colour, o in zip(COLOURS, offsets, strict=True) if o.isfinite().all()}
        assert known == {"red": expected, "blue": expected}
    for scene in (Scene((RED, GREEN)), Scene((RED, RED)), Scene((RED, BLUE, GREEN))):
        assert offset_labels([scene], [((RED, BLUE), centres)]).isnan().all()


def test_what_the_queries_are_told():
    counts, places = query_labels([((RED, RED, BLUE), ((32.0, 64.0), (96.0, 96.0), (0.0, 128.0)))])
    red, blue = (list(COLOURS).index(c) for c in ("red", "blue"))
    circle, square = (SHAPES.index(s) for s in ("circle", "square"))
    assert counts.shape == (1, len(COLOURS), len(SHAPES))
    assert counts.sum() == 3 and counts[0, red, circle] == 2 and counts[0, blue, square] == 1
    assert places[0, red, circle].tolist() == [0.0, 0.25]
    assert torch.equal(places[0, blue, square], torch.tensor([-1.0, 1.0]))
