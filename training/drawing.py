"""Pictures of the demo world, anti-aliased, from signed distance functions."""

import math
import random
from dataclasses import dataclass

import torch

from referee_core.demo.captions import MARGIN
from referee_core.demo.world import COLOURS, OBJECTS, SIZE, Object, Point, Scene, relation_between

RADIUS = (14.0, 21.0)  # pixels
TILT = math.radians(12)


@dataclass(frozen=True)
class Drawing:
    """A picture and what is in it.

    Attributes:
        picture: [3, SIZE, SIZE] in [0, 1].
        objects: what it shows. centres: where, in pixels.
        owner: [SIZE, SIZE]; 0 for background, 1 + index in OBJECTS where an object covers the pixel.
    """

    picture: torch.Tensor
    objects: tuple[Object, ...]
    centres: tuple[Point, ...]
    owner: torch.Tensor


def signed_distance(shape: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Signed distance (negative inside) of a shape of about unit radius; x to the right, y down."""
    if shape == "circle":
        return torch.hypot(x, y) - 0.95
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.85
    if shape == "triangle":
        slope = 0.866 * x.abs() - 0.5 * y
        return torch.maximum(slope, y) - 0.6
    if shape == "cross":
        a, b = x.abs(), y.abs()
        return torch.minimum(torch.maximum(a - 1.0, b - 0.34), torch.maximum(a - 0.34, b - 1.0))
    raise ValueError(f"unknown shape {shape!r}")


def coverage(shape: str, cx: float, cy: float, radius: float, tilt: float, size: int = SIZE) -> torch.Tensor:
    """How much of each pixel a shape covers: [size, size] in [0, 1]."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    dx, dy = (x - cx) / radius, (y - cy) / radius
    cos, sin = math.cos(tilt), math.sin(tilt)
    distance = signed_distance(shape, cos * dx + sin * dy, cos * dy - sin * dx)
    return (0.5 - distance * radius).clamp(0, 1)


def random_layout(rng: random.Random, count: int, relation: str | None = None) -> list[tuple[float, float, float]]:
    """Centres and radii (pixels) of ``count`` shapes that neither touch each other nor leave the picture.

    Args:
        relation: where the first lies as seen from the second. Two shapes lie clearly in one direction or another, or
            clearly in this one.
    """
    while True:
        places: list[tuple[float, float, float]] = []
        while len(places) < count:
            radius = rng.uniform(*RADIUS)
            margin = 1.25 * radius + 2
            place = (rng.uniform(margin, SIZE - margin), rng.uniform(margin, SIZE - margin), radius)
            if any(math.hypot(x - place[0], y - place[1]) <= 1.15 * (r + radius) + 4 for x, y, r in places):
                break
            places.append(place)
        if len(places) < count:
            continue
        if count == 2:
            found = relation_between(places[0][:2], places[1][:2], MARGIN)
            if found is None or (relation and found != relation):
                continue
        return places


def draw(rng: random.Random, objects: tuple[Object, ...], relation: str | None = None) -> Drawing:
    """A random picture of objects; ``relation`` as in ``random_layout``."""
    grey = rng.uniform(0.30, 0.58)
    background = torch.tensor([grey + rng.uniform(-0.03, 0.03) for _ in range(3)])
    picture = background[:, None, None].expand(3, SIZE, SIZE)
    owner = torch.zeros(SIZE, SIZE, dtype=torch.long)
    places = random_layout(rng, len(objects), relation)
    for (colour, shape), (cx, cy, radius) in zip(objects, places, strict=True):
        alpha = coverage(shape, cx, cy, radius, rng.uniform(-TILT, TILT))
        paint = torch.tensor([c + rng.uniform(-0.04, 0.04) for c in COLOURS[colour]]).clamp(0, 1)
        picture = picture + alpha * (paint[:, None, None] - picture)
        owner[alpha > 0.5] = 1 + OBJECTS.index((colour, shape))
    return Drawing(picture, objects, tuple(place[:2] for place in places), owner)


def render(scene: Scene, rng: random.Random) -> torch.Tensor:
    """A random picture of a scene: [3, SIZE, SIZE] in [0, 1]."""
    return draw(rng, scene.objects, scene.relation).picture
