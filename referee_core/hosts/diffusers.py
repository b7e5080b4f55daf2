"""The methods on the components of a diffusers pipeline (Stable Diffusion family with a UNet)."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..frozen import Frozen
from ..interfaces import NoiseLevel
from ..prompt_tokens import NO_TOKENS, Inserted


@dataclass(frozen=True)
class Components:
    """What the methods need of a pipeline.

    Attributes:
        unet: UNet2DConditionModel. vae: AutoencoderKL. scheduler: the one of the training, e.g. DDIMScheduler.
        encode: a prompt -> text-encoder states [1, L, D].
    """

    unet: Any
    vae: Any
    scheduler: Any
    encode: Callable[[str], torch.Tensor]

    def guided(
        self,
        prompt: str,
        negative: str = "",
        cfg: float = 30.0,
        inserted: Inserted = NO_TOKENS,
    ) -> "GuidedUNet":
        """The UNet guided by a prompt, as the core's Denoiser. inserted: learned tokens around the prompt."""
        kind = self.scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise ValueError(f"the scheduler's prediction_type is {kind!r}; epsilon and v_prediction are known")
        v_prediction = kind == "v_prediction"
        positive = inserted(self.encode(prompt))
        return GuidedUNet(self.unet, self.scheduler.alphas_cumprod, positive, self.encode(negative), cfg, v_prediction)

    def decoder(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return decoder(self.vae)

    def noise(self, height: int, width: int, seed: int) -> torch.Tensor:
        """Where a run starts: N(0, I) of shape [1, C, height / f, width / f] from the CPU's generator, as in ComfyUI.

        Raises ValueError unless both sides are multiples of the autoencoder's factor f.
        """
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        if height % factor or width % factor:
            raise ValueError(f"height and width must be multiples of {factor}, got {height} and {width}")
        shape = (1, self.vae.config.latent_channels, height // factor, width // factor)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).to(
            self.unet.device
        )


def from_pipeline(pipeline: Any) -> Components:
    """The components of a StableDiffusionPipeline, frozen."""
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        module.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(prompt: str) -> torch.Tensor:
        states, _ = pipeline.encode_prompt(prompt, pipeline.device, 1, do_classifier_free_guidance=False)
        return states

    return Components(pipeline.unet, pipeline.vae, pipeline.scheduler, encode)


class GuidedUNet:
    """A UNet2DConditionModel with classifier-free guidance as the core's Denoiser.

    Args:
        unet: predicts eps or v. alphas_cumprod: [T] of the training schedule, e.g. ``scheduler.alphas_cumprod``.
        positive, negative: text-encoder states [B or 1, L, D].
        cfg: guidance scale; at 1 the negative prompt has no part and is not asked.
        v_prediction: whether the UNet predicts v instead of eps.
    """

    def __init__(
        self,
        unet: Any,
        alphas_cumprod: torch.Tensor,
        positive: torch.Tensor,
        negative: torch.Tensor,
        cfg: float,
        v_prediction: bool = False,
    ):
        self.unet, self.cfg, self.v_prediction = unet, cfg, v_prediction
        self.positive, self.negative = positive, negative
        alphas_cumprod = alphas_cumprod.double()
        self.alphas, self.sigmas = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()

    def noise_levels(self, t: torch.Tensor) -> NoiseLevel:
        return NoiseLevel(self.alphas[t], self.sigmas[t], level=t)

    def __call__(self, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        t = level.cpu().long()
        if self.cfg == 1:
            predicted = self._predict(x, t, self.positive)
        elif self.negative.shape[1] == self.positive.shape[1]:
            texts = torch.cat([c.expand(len(x), -1, -1) for c in (self.negative, self.positive)])
            uncond, cond = self._predict(x.repeat(2, 1, 1, 1), t.repeat(2), texts).chunk(2)
            predicted = uncond + self.cfg * (cond - uncond)
        else:
            uncond, cond = (self._predict(x, t, text) for text in (self.negative, self.positive))
            predicted = uncond + self.cfg * (cond - uncond)
        alpha, sigma = (v[t].to(x).view(-1, 1, 1, 1) for v in (self.alphas, self.sigmas))
        return alpha * x - sigma * predicted if self.v_prediction else (x - sigma * predicted) / alpha

    def _predict(self, x: torch.Tensor, t: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """What the UNet says, in x's precision. text: [B or 1, L, D]."""
        dtype = self.unet.dtype
        text = text.expand(len(x), -1, -1).to(dtype)
        return self.unet(x.to(dtype), t.to(x.device), text).sample.to(x.dtype)


def decoder(vae: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """A differentiable DEC from an AutoencoderKL: latents in the diffusion model's scale -> images nominally [0, 1]."""
    shift = getattr(vae.config, "shift_factor", None) or 0.0

    def decode(z: torch.Tensor) -> torch.Tensor:
        latent = (z / vae.config.scaling_factor + shift).to(vae.dtype)
        with nullcontext() if vae.is_gradient_checkpointing else Frozen():
            return vae.decode(latent).sample.float() / 2 + 0.5

    return decode
