"""The methods on the parts of a diffusers pipeline (Stable Diffusion family with a UNet)."""

from collections.abc import Callable

import torch


class GuidedUNet:
    """A UNet2DConditionModel with classifier-free guidance as the core's Denoiser.

    Args:
        unet: predicts eps or v. alphas_cumprod: [T] of the training schedule, e.g. ``scheduler.alphas_cumprod``.
        positive, negative: text-encoder states [B or 1, L, D].
        cfg: guidance scale. v_prediction: what the UNet predicts.
    """

    def __init__(self, unet, alphas_cumprod, positive, negative, cfg: float, v_prediction: bool = False):
        self.unet, self.cfg, self.v_prediction = unet, cfg, v_prediction
        self.positive, self.negative = positive, negative
        alphas_cumprod = alphas_cumprod.double()
        self.alphas, self.sigmas = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()

    def noise_levels(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.alphas[t], self.sigmas[t]

    @torch.no_grad()
    def __call__(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        t = (self.sigmas[None] - sigma.cpu().double()[:, None]).abs().argmin(dim=1)
        dtype, timesteps = self.unet.dtype, t.to(x.device).repeat(2)
        context = torch.cat([c.expand(len(x), -1, -1) for c in (self.negative, self.positive)]).to(dtype)
        uncond, cond = self.unet(x.repeat(2, 1, 1, 1).to(dtype), timesteps, context).sample.to(x.dtype).chunk(2)
        predicted = uncond + self.cfg * (cond - uncond)
        alpha, sigma = (v[t].to(x).view(-1, 1, 1, 1) for v in (self.alphas, self.sigmas))
        return alpha * x - sigma * predicted if self.v_prediction else (x - sigma * predicted) / alpha


def decoder(vae) -> Callable[[torch.Tensor], torch.Tensor]:
    """A differentiable DEC from an AutoencoderKL: latents in the diffusion model's scale -> images nominally in [0, 1]."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0

    def decode(z: torch.Tensor) -> torch.Tensor:
        latent = (z / vae.config.scaling_factor + shift).to(vae.dtype)
        return vae.decode(latent).sample.float() / 2 + 0.5

    return decode
