"""What a referee reads of a picture: range, size, statistics."""

import torch
import torch.nn.functional as F

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def clamp_straight_through(x: torch.Tensor) -> torch.Tensor:
    """x clamped to [0, 1] whose gradient is that of x: pixels out of range can still come back."""
    return x + (x.clamp(0, 1) - x).detach()


def resize(images: torch.Tensor, size: int, pooled: bool) -> torch.Tensor:
    """Images as the referee sees them, [N, 3, size, size]; aspect ratio is not kept, as in BLIP-2's own processor.

    pooled: mean of average and maximum pooling, as in the authors' code; otherwise antialiased bicubic.
    """
    if pooled:
        return (F.adaptive_avg_pool2d(images, size) + F.adaptive_max_pool2d(images, size)) / 2
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """CLIP's pixel statistics: [B, 3, H, W] in [0, 1] -> what the vision tower was trained on."""
    mean, std = (images.new_tensor(v)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std
