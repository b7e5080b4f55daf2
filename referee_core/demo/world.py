"""The demo world: one or two coloured shapes on a plain background, and the words for them.

A scene is a tuple of one or two objects, an object is a pair (colour, shape). Scenes are named by
captions such as "a red circle and a blue square" and rendered as anti-aliased 128x128 pictures from
signed distance functions. Every random choice comes from the generator that is passed in.
"""

import itertools
import math
import random
import re

import torch

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
RADIUS = (18.0, 29.0)  # pixels
TILT = math.radians(12)

Object = tuple[str, str]
Scene = tuple[Object, ...]


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def caption(scene: Scene) -> str:
    return " and ".join(f"{article(colour)} {colour} {shape}" for colour, shape in scene)


def parse(text: str) -> Scene:
    """The scene a caption names.

    Raises ValueError when the text names no object of this world, or more than two.
    """
    pattern = rf"\b({'|'.join(COLOURS)})\s+({'|'.join(SHAPES)})\b"
    scene = tuple(re.findall(pattern, text.lower()))
    if not 1 <= len(scene) <= 2:
        raise ValueError(
            f"The demo world has one or two objects, each a colour ({', '.join(COLOURS)}) and a shape "
            f"({', '.join(SHAPES)}); found {len(scene)} in {text!r}. Try 'a red circle and a blue square'."
        )
    return scene


def is_held_out(scene: Scene) -> bool:
    """Whether no training picture or caption shows this pair of objects (about a fifth of all pairs)."""
    if len(scene) < 2:
        return False
    low, high = sorted(OBJECTS.index(o) for o in scene)
    return (high - low) % 5 == 0


def two_object_scenes(held_out: bool) -> list[Scene]:
    """All pairs that differ in both colour and shape, so that swapping the colours makes a wrong caption."""
    pairs = itertools.combinations(OBJECTS, 2)
    return [p for p in pairs if p[0][0] != p[1][0] and p[0][1] != p[1][1] and is_held_out(p) == held_out]


def random_scene(rng: random.Random, held_out: bool = False, single: float = 0.25) -> Scene:
    """A random scene: one object with probability ``single``, else a pair that differs in both attributes
    three times out of four."""
    if rng.random() < single:
        return (rng.choice(OBJECTS),)
    while True:
        pair = tuple(rng.sample(OBJECTS, 2))
        differs = pair[0][0] != pair[1][0] and pair[0][1] != pair[1][1]
        if is_held_out(pair) == held_out and (differs or rng.random() < 0.25):
            return pair


def swap_colours(scene: Scene) -> Scene:
    (c0, s0), (c1, s1) = scene
    return ((c1, s0), (c0, s1))


def false_scene(rng: random.Random, scene: Scene, kind: str) -> Scene:
    """A wrong description of ``scene``: 'swap' exchanges the colours of two objects, 'colour' and 'shape' replace
    one attribute. Falls back to 'colour' where a swap would change nothing."""
    if kind == "swap":
        if len(scene) == 2 and scene[0][0] != scene[1][0] and scene[0][1] != scene[1][1]:
            return swap_colours(scene)
        kind = "colour"
    while True:
        wrong = list(scene)
        i = rng.randrange(len(scene))
        colour, shape = scene[i]
        wrong[i] = (rng.choice(list(COLOURS)), shape) if kind == "colour" else (colour, rng.choice(SHAPES))
        if sorted(wrong) != sorted(scene):
            return tuple(wrong)


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


def random_layout(rng: random.Random, count: int) -> list[tuple[float, float, float]]:
    """Centres and radii (pixels) of ``count`` shapes that neither touch each other nor leave the picture."""
    while True:
        places = []
        for _ in range(count):
            radius = rng.uniform(*RADIUS)
            margin = 1.25 * radius + 2
            places.append((rng.uniform(margin, SIZE - margin), rng.uniform(margin, SIZE - margin), radius))
        pairs = itertools.combinations(places, 2)
        if all(math.hypot(x0 - x1, y0 - y1) > 1.15 * (r0 + r1) + 4 for (x0, y0, r0), (x1, y1, r1) in pairs):
            return places


def render(scene: Scene, rng: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
    """A random picture of a scene.

    Returns (picture [3, SIZE, SIZE] in [0, 1], owner [SIZE, SIZE]: 0 for background, 1 + index in OBJECTS where an
    object covers the pixel).
    """
    grey = rng.uniform(0.30, 0.58)
    background = torch.tensor([grey + rng.uniform(-0.03, 0.03) for _ in range(3)])
    picture = background[:, None, None].expand(3, SIZE, SIZE)
    owner = torch.zeros(SIZE, SIZE, dtype=torch.long)
    for (colour, shape), (cx, cy, radius) in zip(scene, random_layout(rng, len(scene)), strict=True):
        alpha = coverage(shape, cx, cy, radius, rng.uniform(-TILT, TILT))
        paint = torch.tensor([c + rng.uniform(-0.04, 0.04) for c in COLOURS[colour]]).clamp(0, 1)
        picture = picture + alpha * (paint[:, None, None] - picture)
        owner[alpha > 0.5] = 1 + OBJECTS.index((colour, shape))
    return picture, owner
