"""The demo world's language: captions of scenes, scenes of captions, and captions that are wrong."""

import random
import re

from .world import COLOURS, MOST_ALIKE, MOST_NAMED, OBJECTS, RELATIONS, SHAPES, Object, Point, Scene, relation_between

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4}
VAGUE = "some"
PLURALS = {shape: "crosses" if shape == "cross" else f"{shape}s" for shape in SHAPES}
PHRASES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
MARGIN = 1.5  # pictures that show a relation, or lack it, do so clearly


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _name(thing: Object) -> str:
    colour, shape = thing
    return f"{_article(colour)} {colour} {shape}"


def caption(scene: Scene) -> str:
    """Such as "a red circle, a blue square and a green cross", "a red circle to the left of a blue square" or "three
    green crosses"."""
    names = [_name(o) for o in scene.objects]
    if scene.relation:
        return f"{names[0]} {PHRASES[scene.relation]} {names[1]}"
    if scene.category == "number":
        colour, shape = scene.objects[0]
        number = next(word for word, n in NUMBERS.items() if n == len(scene.objects))
        return f"{number} {colour} {PLURALS[shape]}"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def parse(text: str) -> Scene:
    """The scene a caption names.

    Raises ValueError when the text names no object of this world, or more than it can show.
    """
    text = text.lower()
    shapes = "|".join([*PLURALS.values(), *SHAPES])
    found = re.findall(rf"\b(?:({'|'.join(NUMBERS)})\s+)?({'|'.join(COLOURS)})\s+({shapes})\b", text)
    objects = []
    for number, colour, shape in found:
        singular = next(s for s in SHAPES if shape in (s, PLURALS[s]))
        objects += [(colour, singular)] * NUMBERS.get(number, 1)
    relation = next((r for r in RELATIONS if re.search(rf"\b{r}\b", text)), None)
    kinds, alike = len(set(objects)), len(set(objects)) == 1
    if not objects or kinds not in (1, len(objects)) or len(objects) > (MOST_ALIKE if alike else MOST_NAMED):
        raise ValueError(
            f"The demo world shows one to three different objects or up to four of the same, each a colour "
            f"({', '.join(COLOURS)}) and a shape ({', '.join(SHAPES)}); found {len(objects)} in {text!r}. Try 'a red "
            "circle and a blue square', 'a red circle above a blue square' or 'three green crosses'."
        )
    return Scene(tuple(objects), relation if len(objects) == 2 and not alike else None)


def describe(rng: random.Random, objects: tuple[Object, ...], centres: tuple[Point, ...]) -> Scene | None:
    """A random scene that is true of a picture; None if there is none ('crowd' of world.random_objects)."""
    kinds = len(set(objects))
    if kinds not in (1, len(objects)) or kinds > MOST_NAMED or len(objects) > MOST_ALIKE:
        return None
    order = rng.sample(range(len(objects)), len(objects))
    named = tuple(objects[i] for i in order)
    relation = None
    if len(named) == kinds == 2 and rng.random() < 0.6:
        first, second = (centres[i] for i in order)
        relation = relation_between(first, second, MARGIN)
    return Scene(named, relation)


def _swap(rng: random.Random, scene: Scene) -> Scene | None:
    """The colours of two objects exchanged."""
    if len(scene.objects) < 2:
        return None
    objects = list(scene.objects)
    i, j = rng.sample(range(len(objects)), 2)
    objects[i], objects[j] = (objects[j][0], objects[i][1]), (objects[i][0], objects[j][1])
    return Scene(tuple(objects), scene.relation)


def _replace(rng: random.Random, scene: Scene, attribute: int) -> Scene:
    """Another colour (0) or shape (1) of one object, or of all if they are alike."""
    colour, shape = old = rng.choice(scene.objects)
    new = (rng.choice(list(COLOURS)), shape) if attribute == 0 else (colour, rng.choice(SHAPES))
    return Scene(tuple(new if o == old else o for o in scene.objects), scene.relation)


def _turn(rng: random.Random, scene: Scene) -> Scene | None:
    """Another relation; the opposite one every other time."""
    if not scene.relation:
        return None
    others = [r for r in RELATIONS if r != scene.relation]
    return Scene(scene.objects, RELATIONS[scene.relation] if rng.random() < 0.5 else rng.choice(others))


def _add(rng: random.Random, scene: Scene) -> Scene | None:
    """One object more than there is: another one, or one more of the same."""
    if scene.category == "number" or (scene.category == "single" and rng.random() < 0.5):
        return Scene((*scene.objects, scene.objects[0])) if len(scene.objects) < MOST_ALIKE else None
    others = [o for o in OBJECTS if o not in scene.objects]
    return Scene((*scene.objects, rng.choice(others))) if len(scene.objects) < MOST_NAMED else None


def _drop(rng: random.Random, scene: Scene) -> Scene | None:
    """One object less than there is."""
    if len(scene.objects) < 2:
        return None
    left_out = rng.randrange(len(scene.objects))
    return Scene(tuple(o for i, o in enumerate(scene.objects) if i != left_out))


def _recount(rng: random.Random, scene: Scene) -> Scene | None:
    """Another number of the same."""
    if len(set(scene.objects)) > 1:
        return None
    return Scene((scene.objects[0],) * rng.randint(1, MOST_ALIKE))


MISTAKES = {
    "swap": _swap,
    "colour": lambda rng, scene: _replace(rng, scene, 0),
    "shape": lambda rng, scene: _replace(rng, scene, 1),
    "relation": _turn,
    "number": _recount,
    "missing": _add,
    "surplus": _drop,
}
"""Kinds of wrong captions, by what is wrong with the picture: it is missing an object that the caption names, or has a
surplus one that it does not."""


def false_scene(rng: random.Random, scene: Scene, kind: str, attempts: int = 10) -> Scene | None:
    """A scene that says something else than ``scene`` in the way of ``MISTAKES``; None where there is no such way."""
    for _ in range(attempts):
        wrong = MISTAKES[kind](rng, scene)
        if wrong is None:
            continue
        if sorted(wrong.objects) != sorted(scene.objects) or wrong.relation != scene.relation:
            return wrong
        if wrong.relation and wrong.objects != scene.objects and set(wrong.objects) == set(scene.objects):
            return wrong  # the two objects have changed places
    return None
