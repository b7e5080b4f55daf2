"""A ComfyUI VAE as a differentiable decoder."""

from typing import Any

import torch


class Decoder:
    """DEC of a 4-dimensional image VAE: latents in the VAE's own scale -> images [B, 3, H, W], nominally in [0, 1].

    ``VAE.decode`` is not used: it clamps, and on out-of-memory it falls back to a path without gradients.

    Attributes:
        patcher: what to load; module: what gradients pass through.
    Raises:
        ValueError: the VAE decodes video, audio or something other than RGB.
    """

    def __init__(self, vae: Any):
        if vae.first_stage_model is None:
            raise ValueError("The input 'vae' is empty: the checkpoint it comes from holds no VAE. Use Load VAE.")
        if vae.latent_dim != 2 or vae.output_channels != 3:
            raise ValueError(
                "The input 'vae' is not an image VAE (it decodes video or audio latents). Connect the VAE of SD 1.5, SDXL, "
                "SD3 or Flux."
            )
        self.latent_channels = vae.latent_channels
        if vae.patcher.is_dynamic() or vae.vae_dtype == torch.float16:
            vae = self._private_copy(vae)
        self.patcher, self.module, self.dtype = vae.patcher, vae.first_stage_model, vae.vae_dtype
        self._memory_used = vae.memory_used_decode
        low, high = vae.process_output(torch.tensor([0.0, 0.5])).tolist()
        self.scale, self.shift = (high - low) / 0.5, low

    @staticmethod
    def _private_copy(vae: Any) -> Any:
        """The same VAE in ordinary memory and never in fp16, whose range its gradients leave. Under dynamic VRAM the weights
        are pages that may go between forward and backward."""
        import comfy.model_management
        import comfy.model_patcher
        import comfy.sd

        dtype = vae.vae_dtype
        if dtype == torch.float16:
            bf16 = comfy.model_management.should_use_bf16(vae.device)
            dtype = torch.bfloat16 if bf16 else torch.float32
        copy = comfy.sd.VAE(sd={k: v.clone() for k, v in vae.get_sd().items()}, dtype=dtype)
        copy.first_stage_model.to(dtype)  # its weights may have kept the file's type
        old = copy.patcher
        copy.patcher = comfy.model_patcher.ModelPatcher(copy.first_stage_model, old.load_device, old.offload_device)
        return copy

    def check_latent(self, samples: torch.Tensor) -> None:
        """Raise a ValueError unless the latent is one this VAE can decode."""
        if samples.ndim != 4:
            raise ValueError(
                f"The input 'latent_image' has {samples.ndim} dimensions {tuple(samples.shape)}: video and audio latents are "
                "not supported. Connect an image latent, for example from Empty Latent Image or VAE Encode."
            )
        if samples.shape[1] != self.latent_channels:
            raise ValueError(
                f"The input 'latent_image' has {samples.shape[1]} channels and the VAE decodes {self.latent_channels}. Use the "
                "latent node that belongs to this model family (Empty Latent Image for SD 1.5 and SDXL)."
            )

    def memory_required(self, shape: torch.Size, checkpointing: bool) -> float:
        """Bytes for one decode with its backward pass.

        SD's autoencoder keeps 365 thousand numbers for each latent pixel, 90 thousand when its blocks are checkpointed (and
        one block at work); ComfyUI counts 139 thousand for the decode alone.
        """
        return (1.5 if checkpointing else 3) * self._memory_used(shape, self.dtype)

    def __call__(self, latent: torch.Tensor) -> torch.Tensor:
        decoded = self.module.decode(latent.to(self.patcher.load_device, self.dtype)).float()
        return decoded.to(latent.device) * self.scale + self.shift
