"""The demo world: one to four coloured shapes on a plain background, and which scenes training never shows.

An object is a pair (colour, shape). A scene is what a caption says of a picture: its objects and, between two of them,
a relation. It is a miniature of T2I-CompBench (arXiv 2307.06350), in the categories of ``CATEGORIES``. Every random
choice comes from the generator that is passed in.
"""

import itertools
import random
from dataclasses import dataclass

SIZE = 128  # pixels
COLOURS = {
    "red": (0.86, 0.14, 0.14),
    "orange": (0.97, 0.55, 0.10),
    "yellow": (0.96, 0.90, 0.20),
    "green": (0.15, 0.62, 0.25),
    "cyan": (0.25, 0.82, 0.88),
    "blue": (0.15, 0.28, 0.88),
    "purple": (0.55, 0.20, 0.75),
    "white": (0.98, 0.98, 0.98),
}
SHAPES = ("circle", "square", "triangle", "cross")
OBJECTS = tuple(itertools.product(COLOURS, SHAPES))
RELATIONS = {"left": "right", "right": "left", "above": "below", "below": "above"}  # and their opposites
CATEGORIES = ("single", "pair", "three", "relation", "number")
MOST_NAMED, MOST_ALIKE = 3, 4  # different objects in a caption; objects of the same kind

Object = tuple[str, str]
Point = tuple[float, float]


@dataclass(frozen=True)
class Scene:
    """What a caption says.

    Attributes:
        objects: one to three different ones, or two to four of the same.
        relation: where the first of two different objects lies as seen from the second, or None.
    """

    objects: tuple[Object, ...]
    relation: str | None = None

    @property
    def category(self) -> str:
        if self.relation:
            return "relation"
        if len(self.objects) > 1 and len(set(self.objects)) == 1:
            return "number"
        return ("single", "pair", "three")[len(self.objects) - 1]

    def true_of(self, objects: tuple[Object, ...], centres: tuple[Point, ...]) -> bool:
        """Whether a picture with these objects at these centres (pixels; x to the right, y down) is as the scene says,
        with nothing else in it."""
        if sorted(objects) != sorted(self.objects):
            return False
        if not self.relation:
            return True
        first, second = (centres[objects.index(o)] for o in self.objects)
        return relation_between(first, second) == self.relation


def relation_between(first: Point, second: Point, margin: float = 1.0) -> str | None:
    """Where ``first`` lies as seen from ``second``: along the axis in which they are farther apart, by more than
    ``margin`` times the distance along the other one; None if neither is."""
    dx, dy = first[0] - second[0], first[1] - second[1]
    if abs(dx) > margin * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > margin * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def differ(objects: tuple[Object, ...]) -> bool:
    """Whether no two objects share a colour or a shape, so that exchanging attributes makes another scene."""
    return all(len({o[i] for o in objects}) == len(objects) for i in (0, 1))


def is_held_out(objects: tuple[Object, ...]) -> bool:
    """Whether no training caption has these objects, and no picture that the diffusion model learned from. A fifth of
    all pairs of different objects is held out, alone and among others, and three sevenths of the numbers of equal
    ones."""
    indices = sorted({OBJECTS.index(o) for o in objects})
    if len(indices) == 1:
        return len(objects) > 1 and (indices[0] + len(objects)) % 7 in (0, 2, 4)
    return any((high - low) % 5 == 0 for low, high in itertools.combinations(indices, 2))


def scenes(category: str, held_out: bool) -> list[Scene]:
    """All scenes of a category on one side of the split. The objects of a pair, a relation or three differ in both
    attributes; their order, which a caption is free to choose, counts in a relation only."""
    if category == "single":
        found = [Scene((o,)) for o in OBJECTS]
    elif category == "number":
        found = [Scene((o,) * n) for o in OBJECTS for n in range(2, MOST_ALIKE + 1)]
    elif category == "relation":
        pairs = itertools.combinations(OBJECTS, 2)
        found = [Scene(p, r) for p in pairs for r in RELATIONS if differ(p)]
    else:
        found = [Scene(c) for c in itertools.combinations(OBJECTS, 2 if category == "pair" else 3) if differ(c)]
    return [s for s in found if is_held_out(s.objects) == held_out]


def random_objects(rng: random.Random, category: str, held_out: bool = False) -> tuple[Object, ...]:
    """Objects for a picture of a category, or of 'crowd': up to four in which some are alike, of which no caption is
    true. Different objects that share a colour or a shape are drawn a quarter as often as the others."""
    while True:
        if category == "single":
            objects: tuple[Object, ...] = (rng.choice(OBJECTS),)
        elif category == "number":
            objects = (rng.choice(OBJECTS),) * rng.randint(2, MOST_ALIKE)
        elif category == "crowd":
            kinds = rng.sample(OBJECTS, rng.choice([2, 2, 3]))
            extra = rng.choices(kinds, k=rng.randint(1, 4 - len(kinds)))
            objects = tuple(kinds + extra)
        else:
            objects = tuple(rng.sample(OBJECTS, 3 if category == "three" else 2))
            if not differ(objects) and rng.random() < 0.75:
                continue
        if is_held_out(objects) == held_out or (category == "single" and held_out):
            return objects
