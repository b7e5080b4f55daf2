"""An exact judge of demo pictures, independent of every network: reads colours and shapes off the pixels.

Each pixel is named after the nearest of the background and the palette's colours (in CIE Lab); connected regions of
one colour are objects; a region's shape is the template of equal area, centre and best tilt that overlaps it most.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from kornia.color import rgb_to_lab
from scipy import ndimage

from referee_core.demo.world import COLOURS, SHAPES, SIZE, Object, Point, Scene

from .drawing import coverage

MIN_AREA = 120  # pixels of a 128x128 picture; the smallest object of the world covers about 360
MIN_OVERLAP = 0.70  # intersection over union with the template


@dataclass(frozen=True)
class Contents:
    """What the judge saw.

    Attributes:
        objects: the objects named. centres: where, in pixels of a 128x128 picture.
        unknown: how many regions fit no shape.
    """

    objects: tuple[Object, ...]
    centres: tuple[Point, ...]
    unknown: int

    def right(self, scene: Scene) -> bool:
        """True when the picture shows exactly the objects of the scene, in its relation, and nothing else."""
        return self.unknown == 0 and scene.true_of(self.objects, self.centres)

    def __str__(self) -> str:
        names = [f"{colour} {shape}" for colour, shape in self.objects] + ["something else"] * self.unknown
        return " + ".join(names) or "nothing"


@cache
def _unit_area(shape: str) -> float:
    return float(coverage(shape, 64, 64, 40, 0.0).sum()) / 40**2


def _lab(rgb: torch.Tensor) -> np.ndarray:
    return rgb_to_lab(rgb.clamp(0, 1)[None])[0].permute(1, 2, 0).numpy()


def _name_pixels(picture: torch.Tensor) -> np.ndarray:
    """[H, W] of 0 for background, 1 + index of the colour elsewhere."""
    lab = _lab(picture)
    edge = np.concatenate(
        [lab[:3].reshape(-1, 3), lab[-3:].reshape(-1, 3), lab[:, :3].reshape(-1, 3), lab[:, -3:].reshape(-1, 3)]
    )
    palette = _lab(torch.tensor(list(COLOURS.values())).T[:, None, :])[0]
    references = np.concatenate([np.median(edge, axis=0)[None], palette])
    distance = np.linalg.norm(lab[:, :, None, :] - references, axis=-1)
    return distance.argmin(-1)


def _shape_of(region: np.ndarray, cx: float, cy: float) -> str | None:
    area = region.sum()
    best, best_overlap = None, MIN_OVERLAP
    for shape in SHAPES:
        radius = math.sqrt(area / _unit_area(shape))
        # the triangle's centre of area is its centre of rotation, as for the other shapes: no offset is needed
        for tilt in np.radians(np.arange(-25, 26, 5)):
            template = coverage(shape, cx + 0.5, cy + 0.5, radius, float(tilt), region.shape[0]).numpy() > 0.5
            overlap = (region & template).sum() / (region | template).sum()
            if overlap > best_overlap:
                best, best_overlap = shape, overlap
    return best


def judge(picture: torch.Tensor) -> Contents:
    """Name the objects in a picture.

    Args:
        picture: [3, H, H] in [0, 1], square.
    """
    if picture.ndim != 3 or picture.shape[0] != 3 or picture.shape[1] != picture.shape[2]:
        raise ValueError(f"the judge reads one square picture [3, H, H], got {tuple(picture.shape)}")
    names = _name_pixels(picture.detach().float().cpu())
    scale = picture.shape[-1] / SIZE
    min_area = MIN_AREA * scale**2
    objects, centres, unknown = [], [], 0
    for index, colour in enumerate(COLOURS, start=1):
        mask = ndimage.binary_opening(names == index, iterations=2)
        regions, count = ndimage.label(mask)
        for i in range(1, count + 1):
            region = regions == i
            if region.sum() < min_area:
                continue
            cy, cx = ndimage.center_of_mass(region)
            shape = _shape_of(region, cx, cy)
            if shape is None:
                unknown += 1
            else:
                objects.append((colour, shape))
                centres.append((float(cx + 0.5) / scale, float(cy + 0.5) / scale))
    return Contents(tuple(objects), tuple(centres), unknown)
