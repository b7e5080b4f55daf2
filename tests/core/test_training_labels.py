"""What the referee's helpers are told about a picture, against the picture's own list of objects."""

import torch

from referee_core.demo.models import VOCABULARY
from referee_core.demo.world import COLOURS, SHAPES, Scene
from training.labels import query_labels, word_labels
from training.referee import tokenise

RED, BLUE, GREEN = ("red", "circle"), ("blue", "square"), ("green", "cross")


def said(scene: Scene, objects: tuple, centres: tuple) -> tuple[dict[str, int], dict[str, list[float]]]:
    """Label and place by word; each word occurs once in these captions."""
    ids, _, _ = tokenise([scene])
    labels, places = word_labels(ids, [scene], [(objects, centres)])
    words = [VOCABULARY[i] for i in ids[0]]
    told = {word: int(label) for word, label in zip(words, labels[0], strict=True) if label >= 0}
    placed = {word: p.tolist() for word, p in zip(words, places[0], strict=True) if p.isfinite().all()}
    return told, placed


def test_words_of_a_relation():
    objects, centres = (RED, BLUE), ((32.0, 64.0), (96.0, 64.0))
    told, placed = said(Scene((RED, BLUE), "left"), objects, centres)
    assert told == {"red": 1, "circle": 1, "left": 1, "blue": 1, "square": 1}
    assert placed == {"circle": [-0.5, 0.0], "square": [0.5, 0.0]}
    assert said(Scene((RED, BLUE), "right"), objects, centres)[0]["right"] == 0
    assert said(Scene((BLUE, RED), "right"), objects, centres)[0]["right"] == 1
    assert said(Scene((BLUE, RED), "below"), objects, centres)[0]["below"] == 0


def test_words_about_what_is_not_there():
    told, placed = said(Scene((RED, GREEN), "left"), (RED, BLUE), ((32.0, 64.0), (96.0, 64.0)))
    assert told == {"red": 1, "circle": 1, "green": 0, "cross": 0}
    assert placed == {"circle": [-0.5, 0.0]}


def test_words_of_a_number():
    centres = ((32.0, 32.0), (96.0, 32.0), (64.0, 96.0))
    told, placed = said(Scene((RED, RED)), (RED,) * 3, centres)
    assert told == {"two": 0, "red": 1, "circles": 1}
    assert placed == {}  # no single place
    assert said(Scene((RED,) * 3), (RED,) * 3, centres)[0]["three"] == 1


def test_what_the_queries_are_told():
    counts, places = query_labels([((RED, RED, BLUE), ((32.0, 64.0), (96.0, 96.0), (0.0, 128.0)))])
    red, blue = (list(COLOURS).index(c) for c in ("red", "blue"))
    circle, square = (SHAPES.index(s) for s in ("circle", "square"))
    assert counts.shape == (1, len(COLOURS), len(SHAPES))
    assert counts.sum() == 3 and counts[0, red, circle] == 2 and counts[0, blue, square] == 1
    assert places[0, red, circle].tolist() == [0.0, 0.25]
    assert torch.equal(places[0, blue, square], torch.tensor([-1.0, 1.0]))
