"""A ComfyUI VAE as a differentiable decoder."""

from contextlib import ExitStack

import comfy.model_management
import torch
from comfy.sd import VAE

from ....referee_core.frozen import Frozen
from .checkpointing import checkpoint_blocks

CHECKPOINTED = ("ResnetBlock", "AttnBlock", "Upsample", "ResidualBlock", "AttentionBlock")  # in ComfyUI's autoencoders


def decode_pictures(vae: VAE, samples: torch.Tensor) -> torch.Tensor:
    """Latents in the VAE's scale as ComfyUI decodes them: [B, H, W, 3] in [0, 1]. Of a video VAE the one frame; without
    the transparency that some VAEs add (Qwen-Image 2.1)."""
    image = vae.decode(samples)
    return image.reshape(-1, *image.shape[-3:])[..., :3]


class Decoder:
    """DEC of a VAE for images: latents in the VAE's own scale -> images [B, 3, H, W], nominally in [0, 1].

    The latents are [B, C, h, w], or [B, C, 1, h, w] where the VAE knows video (Wan, Qwen-Image, Cosmos).
    ``VAE.decode`` is not used: it clamps, and on out-of-memory it falls back to a path without gradients.

    Attributes:
        patcher, precision: see Passage in block.py. module: what gradients pass through. dtype: of its computations.
    Raises:
        ValueError: the VAE decodes audio, several frames at once, or something other than RGB or RGBA.
    """

    writes_in_place: bool = False

    def __init__(self, vae: VAE):
        if vae.first_stage_model is None:
            raise ValueError("The input 'vae' is empty: the checkpoint it comes from holds no VAE. Use Load VAE.")
        self.video = vae.latent_dim == 3
        frames = vae.upscale_ratio[0](1) if self.video and isinstance(vae.upscale_ratio, tuple) else 1
        if vae.latent_dim not in (2, 3) or vae.output_channels not in (3, 4) or frames != 1:
            raise ValueError(
                "The input 'vae' does not decode RGB images (but audio or whole clips). "
                "Connect the VAE of an image model, such as SD 1.5, SDXL, SD3, Flux or Qwen-Image."
            )
        self.latent_channels = vae.latent_channels
        self.precision = _precise(vae.device) if vae.vae_dtype == torch.float16 else None
        self.patcher, self.module, self.dtype = vae.patcher, vae.first_stage_model, self.precision or vae.vae_dtype
        self._memory_used = vae.memory_used_decode
        low, high = vae.process_output(torch.tensor([0.0, 0.5])).tolist()
        self.scale, self.shift = (high - low) / 0.5, low

    def check_latent(self, samples: torch.Tensor) -> None:
        """Raise a ValueError unless the latent is one this VAE can decode."""
        if samples.ndim not in (4, 5) or (samples.ndim == 5 and samples.shape[2] != 1):
            raise ValueError(
                f"The input 'latent_image' has the shape {tuple(samples.shape)}: only images are supported, no "
                "audio and no video of more than one frame. Connect an image latent, as from Empty Latent Image "
                "or VAE Encode, or set the length of a video latent to 1."
            )
        if samples.shape[1] != self.latent_channels:
            raise ValueError(
                f"The input 'latent_image' has {samples.shape[1]} channels and the VAE decodes {self.latent_channels}. "
                "Use the latent node that belongs to this model family (Empty Latent Image for SD 1.5 and SDXL)."
            )

    def memory_required(self, shape: torch.Size, checkpointing: bool) -> float:
        """Bytes for one decode with its backward pass.

        SD's autoencoder keeps 365 thousand numbers for each latent pixel, 90 thousand when its blocks are checkpointed
        (and one block at work); ComfyUI counts 139 thousand for the decode alone.
        """
        one_frame = (*shape[:2], *(1,) * self.video, *shape[-2:])
        return (1.5 if checkpointing else 3) * self._memory_used(one_frame, self.dtype)

    def checkpoint(self, undo: ExitStack) -> None:
        checkpoint_blocks((m for m in self.module.modules() if type(m).__name__ in CHECKPOINTED), undo)

    def __call__(self, latent: torch.Tensor) -> torch.Tensor:
        image = latent[:, :, 0] if latent.ndim == 5 else latent
        image = image.to(self.patcher.load_device, self.dtype)
        with Frozen():
            decoded = self.module.decode(image[:, :, None] if self.video else image).float()
        decoded = (decoded[:, :, 0] if decoded.ndim == 5 else decoded)[:, :3]
        return decoded.to(latent.device) * self.scale + self.shift


class Autoencoder(Decoder):
    """The same with its encoder, which gives no gradients."""

    def __init__(self, vae: VAE):
        super().__init__(vae)
        low, high = vae.process_input(torch.tensor([0.0, 1.0])).tolist()
        self._range, self._low, self._transparent = high - low, low, vae.output_channels == 4

    @torch.no_grad()
    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        """Pictures [B, 3, H, W] in [0, 1] -> latents in the VAE's own scale, the mean of what it says."""
        image = picture * self._range + self._low
        if self._transparent:
            image = torch.cat([image, torch.full_like(image[:, :1], self._range + self._low)], 1)
        image = image.to(self.patcher.load_device, self.dtype)
        return self.module.encode(image[:, :, None] if self.video else image).float().to(picture.device)


def _precise(device: torch.device) -> torch.dtype:
    """Instead of fp16, whose range a VAE's gradients leave."""
    return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32
