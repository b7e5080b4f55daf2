"""The maps that make a view of a picture: one resampling, a change of colours, an erased box.

Nothing here is random, and nothing is drawn: all parameters are given, in the conventions of kornia's RandomAffine,
RandomPerspective, ColorJitter and RandomErasing, whose pictures these are (tests/core/test_views.py). Kornia's own
functions are used where they are as fast: a resampling for each map, hue by way of HSV and its saturation are not.
Geometry is told backwards: a matrix [N, 3, 3] leads from each view's pixels to those of what it shows, in homogeneous
pixels counted from the middle, x to the right and y down.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from .optimisation import TINY

LUMA = (0.299, 0.587, 0.114)
CORNERS = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def at_least_single(images: torch.Tensor) -> torch.Tensor:
    """In fp32 where they are fp16 or bf16, in which neither a pixel's place nor a chroma near 0 can be told."""
    return images.to(torch.promote_types(images.dtype, torch.float32))


def build_affine(linear: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """The matrix of x -> linear x + offset, [N, 2, 2] and [N, 2] -> [N, 3, 3]."""
    matrix = torch.eye(3, dtype=linear.dtype).repeat(len(linear), 1, 1)
    matrix[:, :2, :2], matrix[:, :2, 2] = linear, offset
    return matrix


def invert_motion(degrees: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Back from pictures turned clockwise about their middle [N], then shifted by pixels [N, 2]."""
    cos, sin = torch.deg2rad(degrees).cos(), torch.deg2rad(degrees).sin()
    back = torch.stack([cos, sin, -sin, cos], dim=-1).view(-1, 2, 2)
    return build_affine(back, -(back @ shift[:, :, None])[:, :, 0])


def invert_tilt(inward: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Back from pictures whose corners were drawn inward by pixels [N, 4, 2]; size: [2], width and height."""
    signs = torch.tensor(CORNERS, dtype=size.dtype)
    (u, v), (x, y) = (signs * (size - 1) / 2).T, (signs * ((size - 1) / 2 - inward)).unbind(-1)
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    # u = (a x + b y + c) / (g x + h y + 1) and v = (d x + e y + f) / (g x + h y + 1) at the four corners
    equations = torch.cat(
        [
            torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1),
            torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1),
        ],
        dim=1,
    )
    found = torch.linalg.solve(equations, torch.cat([u, v]).expand(len(x), -1))
    return torch.cat([found, one[:, :1]], dim=1).view(-1, 3, 3)


def resample(images: torch.Tensor, framed: Sequence[torch.Tensor], zoom: torch.Tensor | None = None) -> torch.Tensor:
    """Views of images [N, 3, H, W] through all maps at once, by one bilinear interpolation.

    Args:
        framed: maps back, the last one first. What each of them shows is a picture of the same size, black outside.
        zoom: the map of the picture itself, which shows nothing but its inside.
    """
    maps = [*framed] if zoom is None else [*framed, zoom]
    if not maps:
        return images
    given, images = images.dtype, at_least_single(images)
    count, _, height, width = images.shape
    x, y = (torch.arange(n, dtype=images.dtype, device=images.device) - (n - 1) / 2 for n in (width, height))
    points = torch.stack([x.repeat(height), y.repeat_interleave(width), torch.ones_like(x).repeat(height)])
    size = torch.tensor([[width], [height]]).to(points)
    back, inside = torch.eye(3, dtype=maps[0].dtype), None
    for index, one in enumerate(maps):
        back = one @ back
        place = back.to(points) @ points
        place = place[:, :2] / place[:, 2:]
        if index < len(framed):
            share = ((size + 1) / 2 - place.abs()).clamp(0, 1)  # the last pixel fades out over the next one's width
            inside = share.prod(1) if inside is None else inside * share.prod(1)
    grid = (2 * place / size).mT.view(count, height, width, 2)
    seen = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return (seen if inside is None else seen * inside.view(count, 1, height, width)).to(given)


def grey(images: torch.Tensor) -> torch.Tensor:
    """Brightness [N, 1, H, W]."""
    return (images * torch.tensor(LUMA).to(images).view(3, 1, 1)).sum(1, keepdim=True)


def saturate(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Distances from each pixel's grey times the factor [N, 1, 1, 1], kept in [0, 1]."""
    return torch.lerp(grey(images), images, factor).clamp(0, 1)


def shift_hue(images: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """The hue of HSV moved by so many turns of the colour circle [N, 1, 1, 1], exactly; saturation and value stay.

    A channel is the value less the chroma times a trapezium of the hue, and within a sixth of the circle the hue is a
    difference of two channels by the chroma: no conversion to HSV and back. Grey has no hue and stays.
    """
    given, images = images.dtype, at_least_single(images)
    value = images.amax(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    with torch.no_grad():
        red, green = images[:, :1] == value, images[:, 1:2] == value
        red, green = red.to(images), (green & ~red).to(images)
        blue = 1 - red - green
        others = torch.cat([blue - green, red - blue, green - red], dim=1)  # the next less the one after, on the circle
        start = 2 * green + 4 * blue + 6 * turns + torch.tensor([5, 3, 1]).to(images).view(3, 1, 1)
    sixths = start + (others * images).sum(1, keepdim=True) / chroma.clamp(min=TINY)
    return (value - chroma * (2 - (sixths % 6 - 2).abs()).clamp(0, 1)).to(given)


def change_colours(images: torch.Tensor, factors: Sequence[torch.Tensor], order: Sequence[int]) -> torch.Tensor:
    """Brightness, contrast, saturation and hue (0 to 3) in the given order, each with its own factor [N, 1, 1, 1]."""
    from kornia.enhance import adjust_brightness_accumulative, adjust_contrast_with_mean_subtraction

    changes = (adjust_brightness_accumulative, adjust_contrast_with_mean_subtraction, saturate, shift_hue)

    def all_changes(images: torch.Tensor) -> torch.Tensor:
        for index in order:
            images = changes[index](images, factors[index])
        return images

    # Computed again on the way back: a dozen pictures a view would be kept otherwise.
    return checkpoint(all_changes, images, use_reentrant=False, preserve_rng_state=False)


def erase(images: torch.Tensor, corner: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """Images [N, 3, H, W], black in a box; its left upper corner (x, y) and sides in pixels, [N or 1, 2]."""

    def within(axis: int, length: int) -> torch.Tensor:
        first, pixel = corner[:, axis, None], torch.arange(length)
        return ((pixel >= first) & (pixel < first + sides[:, axis, None])).to(images.device)

    box = within(1, images.shape[2])[:, :, None] & within(0, images.shape[3])[:, None, :]
    return images * ~box[:, None]
