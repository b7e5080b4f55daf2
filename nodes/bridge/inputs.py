"""Checks of what comes in through a node's sockets; each error names the input."""

import torch


def check_finite(name: str, batch: torch.Tensor) -> None:
    """Raises ValueError if an image of the batch [B, ...] holds NaN or infinity."""
    bad = [str(i) for i, image in enumerate(batch, 1) if not image.isfinite().all()]
    if bad:
        which = f"image {', '.join(bad)} of {len(batch)}"
        raise ValueError(
            f"The input '{name}' holds numbers that are not finite (NaN or infinity) in {which}. They come from the "
            "node that made it, often a VAE or a model in fp16: start ComfyUI with --fp32-vae, or choose another "
            "precision where the model is loaded."
        )


def check_images(name: str, images: torch.Tensor) -> None:
    """Raises ValueError if this is no batch of RGB or RGBA images [B, H, W, C] with at least one image."""
    if images.ndim != 4 or images.shape[-1] not in (3, 4):
        raise ValueError(
            f"The input '{name}' must be a batch of images [B, H, W, 3 or 4], but its shape is {list(images.shape)}: "
            "connect an IMAGE."
        )
    if images.numel() == 0:
        raise ValueError(
            f"The input '{name}' holds no picture (its shape is {list(images.shape)}): connect at least one."
        )
