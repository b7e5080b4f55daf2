"""A referee is a frozen network that judges images against a text."""

import torch
import torch.nn.functional as F

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


def normalise(images: torch.Tensor) -> torch.Tensor:
    """CLIP's pixel statistics: [B, 3, H, W] in [0, 1] -> what the vision tower was trained on."""
    mean, std = (images.new_tensor(v)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    return (images - mean) / std
