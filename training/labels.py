"""What the training-only heads of the referee are told about a picture."""

import math

import torch

from referee_core.demo.captions import NUMBERS, PLURALS
from referee_core.demo.models import VOCABULARY
from referee_core.demo.world import (
    COLOURS,
    MOST_ALIKE,
    MOST_NAMED,
    RELATIONS,
    SHAPES,
    SIZE,
    Object,
    Point,
    Scene,
    relation_between,
)

SHAPE_WORDS = {VOCABULARY.index(w) for w in (*SHAPES, *PLURALS.values())}
COLOUR_WORDS = {VOCABULARY.index(c) for c in COLOURS}
NUMBER_WORDS = {VOCABULARY.index(n) for n in NUMBERS}
RELATION_WORDS = {VOCABULARY.index(r) for r in RELATIONS}
ARRANGING = torch.tensor(sorted(NUMBER_WORDS | RELATION_WORDS))

Truth = tuple[tuple[Object, ...], tuple[Point, ...]]


def query_labels(truths: list[Truth]) -> tuple[torch.Tensor, torch.Tensor]:
    """How many objects of each colour and shape there are [B, colours, shapes], and where they are on average
    [B, colours, shapes, 2], from -1 to 1."""
    counts = torch.zeros(len(truths), len(COLOURS), len(SHAPES), dtype=torch.long)
    places = torch.zeros(*counts.shape, 2)
    for row, (objects, centres) in enumerate(truths):
        for (colour, shape), centre in zip(objects, centres, strict=True):
            if colour not in COLOURS:
                continue
            place = row, list(COLOURS).index(colour), SHAPES.index(shape)
            counts[place] += 1
            places[place] += torch.tensor(centre) / (SIZE / 2) - 1
    return counts.clamp(max=MOST_ALIKE), places / counts.clamp(min=1)[..., None]


def role_labels(named: list[Scene]) -> torch.Tensor:
    """Which of the different things that a caption names have each colour [N, colours, MOST_NAMED], 1 or 0."""
    roles = torch.zeros(len(named), len(COLOURS), MOST_NAMED)
    for row, scene in enumerate(named):
        for place, (colour, _) in enumerate(dict.fromkeys(scene.objects)):
            roles[row, list(COLOURS).index(colour), place] = 1
    return roles


def offset_labels(named: list[Scene], truths: list[Truth]) -> torch.Tensor:
    """How the first of the two things that a caption names lies, as seen from the second, in halves of the picture's
    side: for the queries of their colours [N, colours, 2]; NaN for the others, and where these two are not the one each
    in the picture."""
    offsets = torch.full((len(named), len(COLOURS), 2), math.nan)
    for row, (scene, (objects, centres)) in enumerate(zip(named, truths, strict=True)):
        if len(set(scene.objects)) == len(scene.objects) == 2 and all(objects.count(o) == 1 for o in scene.objects):
            first, second = (torch.tensor(centres[objects.index(o)]) for o in scene.objects)
            for colour, _ in scene.objects:
                offsets[row, list(COLOURS).index(colour)] = (first - second) / (SIZE / 2)
    return offsets


def word_labels(ids: torch.Tensor, named: list[Scene], truths: list[Truth]) -> torch.Tensor:
    """For each word that says something, 1 if it is so and 0 if not; -1 at every other token [N, L]. A colour or shape:
    the object is there. A number: there are as many. A relation: so the two lie."""
    labels = torch.full(ids.shape, -1)
    for row, (tokens, scene, (objects, centres)) in enumerate(zip(ids.tolist(), named, truths, strict=True)):
        things = iter(scene.objects)
        waiting = []  # colour words in front of their shape
        for column, token in enumerate(tokens):
            if token in COLOUR_WORDS:
                waiting.append(column)
            elif token in SHAPE_WORDS:
                thing = next(things)
                for place in (*waiting, column):
                    labels[row, place] = int(thing in objects)
                waiting = []
            elif token in NUMBER_WORDS:
                labels[row, column] = int(objects.count(scene.objects[0]) == len(scene.objects))
            elif token in RELATION_WORDS and all(objects.count(o) == 1 for o in scene.objects):
                first, second = (centres[objects.index(o)] for o in scene.objects)
                labels[row, column] = int(relation_between(first, second) == scene.relation)
    return labels.to(ids.device)
