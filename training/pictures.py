"""Pictures of the demo world to train on, drawn once, with all that is in them."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from referee_core.demo.captions import describe
from referee_core.demo.models import REFEREE
from referee_core.demo.world import OBJECTS, SIZE, Object, Point, Scene, random_objects
from training.drawing import draw

COUNT = 30_000
SHARES = {"single": 0.08, "pair": 0.14, "relation": 0.22, "three": 0.24, "number": 0.16, "crowd": 0.16}

UNKNOWN = ("some", "thing")  # stands among a picture's objects for what is none of this world


@dataclass(frozen=True)
class Pictures:
    """Pictures and what is in each of them.

    Attributes:
        pixels: uint8 [N, 3, SIZE, SIZE].
        objects, centres: see drawing.Drawing.
        cover: float16 [N, patches, 1 + len(OBJECTS)]: how much of each of the referee's patches is background and how
            much each object; all 0 where that is not known.
        asked: what each picture was made for, where a network made it.
    """

    pixels: torch.Tensor
    objects: list[tuple[Object, ...]]
    centres: list[tuple[Point, ...]]
    cover: torch.Tensor
    asked: list[Scene] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def floats(self, chosen: list[int]) -> torch.Tensor:
        """[B, 3, SIZE, SIZE] in [0, 1]."""
        return self.pixels[chosen].float() / 255

    def describe(self, rng: random.Random, index: int) -> Scene | None:
        """A true scene of a picture, or None; see captions.describe."""
        objects = self.objects[index]
        return None if UNKNOWN in objects or not objects else describe(rng, objects, self.centres[index])

    def judged(self, index: int, scene: Scene) -> bool:
        """Whether a scene is true of a picture."""
        return scene.true_of(self.objects[index], self.centres[index])

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        asked = self.asked and [(s.objects, s.relation) for s in self.asked]
        torch.save(vars(self) | {"asked": asked}, part)
        part.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Pictures":
        saved = torch.load(path, weights_only=True, mmap=True)
        objects = [tuple(map(tuple, o)) for o in saved["objects"]]
        asked = saved.get("asked") and [Scene(tuple(map(tuple, o)), r) for o, r in saved["asked"]]
        return cls(saved["pixels"], objects, saved["centres"], saved["cover"], asked)

    @classmethod
    def joined(cls, parts: list["Pictures"]) -> "Pictures":
        """One after the other; parts that networks made."""
        objects, centres, asked = (
            [kept for part in parts for kept in getattr(part, name)] for name in ("objects", "centres", "asked")
        )
        return cls(torch.cat([p.pixels for p in parts]), objects, centres, torch.cat([p.cover for p in parts]), asked)


def cover_of(owner: torch.Tensor) -> torch.Tensor:
    """Share of each patch that each object covers: [S, S] of drawing.Drawing.owner -> [patches, 1 + len(OBJECTS)]."""
    shares = F.avg_pool2d(F.one_hot(owner, 1 + len(OBJECTS)).movedim(-1, 0).float(), REFEREE.patch_size)
    return shares.flatten(1).T


def no_cover(count: int) -> torch.Tensor:
    return torch.zeros(count, (SIZE // REFEREE.patch_size) ** 2, 1 + len(OBJECTS), dtype=torch.float16)


def as_bytes(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures * 255).round().to(torch.uint8)


def paint(rng: random.Random, count: int, held_out: bool = False, shares: dict[str, float] = SHARES) -> Pictures:
    """Random pictures, their categories in the given shares."""
    pixels = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    cover = no_cover(count)
    objects, centres = [], []
    for i in range(count):
        (category,) = rng.choices(list(shares), shares.values())
        drawing = draw(rng, random_objects(rng, category, held_out))
        pixels[i], cover[i] = as_bytes(drawing.picture), cover_of(drawing.owner)
        objects.append(drawing.objects)
        centres.append(drawing.centres)
    return Pictures(pixels, objects, centres, cover)


def training_set(state_dir: Path) -> Pictures:
    """The pictures that every stage trains on, drawn on first use."""
    path = state_dir / "pictures.pt"
    if not path.exists():
        paint(random.Random("pictures"), COUNT).save(path)
    return Pictures.load(path)
