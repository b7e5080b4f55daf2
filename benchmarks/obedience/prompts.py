"""Which prompts a method is tuned on, and which it is measured on."""

import random

from referee_core.demo.world import Scene, scenes

CATEGORIES = ("pair", "three", "relation", "number")


def prompts(category: str, count: int, held_out: bool) -> list[Scene]:
    """Random scenes of a category, the first ones of a fixed order, in which objects and their order vary.

    Args:
        held_out: those that no network has seen, which methods are measured on; otherwise those for development.
    Raises ValueError where there are not so many.
    """
    rng = random.Random(f"obedience-{category}-{held_out}")
    known = scenes(category, held_out)
    if count > len(known):
        raise ValueError(f"there are {len(known)} prompts of the category {category!r}, fewer than {count}")
    chosen = rng.sample(known, len(known))[:count]
    return [Scene(tuple(rng.sample(s.objects, len(s.objects))), s.relation) for s in chosen]
