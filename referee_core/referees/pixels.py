"""What a referee reads of a picture: range, size, statistics."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ..views import at_least_single

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def clamp_straight_through(x: torch.Tensor) -> torch.Tensor:
    """x clamped to [0, 1] whose gradient is that of x: pixels out of range can still come back."""
    return x + (x.clamp(0, 1) - x).detach()


def square(images: torch.Tensor, size: int, pooled: bool = False) -> torch.Tensor:
    """Images [N, 3, H, W], nominally in [0, 1], as [N, 3, size, size] in [0, 1], in fp32 or better; the aspect ratio is
    not kept, as in BLIP-2's own processor. Every pixel has a gradient, also one that was out of range before or after
    the resize.

    pooled: mean of average and maximum pooling, as in the authors' code; otherwise antialiased bicubic.
    """
    images = clamp_straight_through(at_least_single(images))
    if pooled:
        return (_pooled(images, size, torch.Tensor.sum) + _pooled(images, size, torch.Tensor.amax)) / 2
    if images.shape[-2:] == (size, size):
        return images
    resized = F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return clamp_straight_through(resized)


def _pooled(images: torch.Tensor, size: int, over: Callable[..., torch.Tensor]) -> torch.Tensor:
    """Adaptive average (over sum) or maximum (over amax) pooling, [N, C, H, W] -> [N, C, size, size]: row i reads rows
    floor(i H / size) to ceil((i + 1) H / size). PyTorch's own knows only divisors of H on Apple's MPS."""
    for dim in (2, 3):
        length, i = images.shape[dim], torch.arange(size, device=images.device)[:, None]
        start, end = i * length // size, -(-(i + 1) * length // size)
        pixel = start + torch.arange(int((end - start).max()), device=images.device)  # [size, most in a window]
        windows = images.index_select(dim, pixel.minimum(end - 1).flatten()).unflatten(dim, pixel.shape)
        if over is torch.Tensor.sum:
            share = (pixel < end).to(images) / (end - start)
            windows = windows * share.view(*share.shape, *[1] * (3 - dim))
        images = over(windows, dim=dim + 1)
    return images


def normalise(images: torch.Tensor) -> torch.Tensor:
    """CLIP's pixel statistics: [B, 3, H, W] in [0, 1] -> what the vision tower was trained on."""
    mean, std = (images.new_tensor(v)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std
