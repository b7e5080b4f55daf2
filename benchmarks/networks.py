"""The networks of a step with random weights, at the published sizes or at those of the pack's small models, and what
the machine can do."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from referee_core.demo import models as demo
from referee_core.hosts.diffusers import GuidedUNet, decoder
from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.model import Blip2
from referee_core.referees.blip2.referee import Blip2Referee
from referee_core.referees.blip2.text import SPECIAL

PROMPT = "a green bench and a blue bowl"


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Fill an uninitialised module from one block of random numbers."""
    numbers = torch.randn(2**22, generator=torch.Generator().manual_seed(0))
    for name, p in module.state_dict(keep_vars=True).items():
        values = numbers.repeat(-(-p.numel() // len(numbers)))[: p.numel()].view(p.shape)
        spread = p[0].numel() ** -0.5 if p.ndim > 1 else 0.02
        p.data.copy_(values * spread + (p.ndim == 1 and name.endswith("weight")))
    return module.eval().requires_grad_(False)


def build(make: Callable[[], torch.nn.Module], device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    with torch.device("meta"):
        module = make()
    return randomise(module.to(dtype).to_empty(device=device))


@dataclass(frozen=True)
class Networks:
    """What a step asks of the networks.

    Attributes:
        decode: latents -> pictures, differentiable. denoiser: the guided UNet. referee: BLIP-2, bound to no text.
        vae: the autoencoder behind ``decode``. latent: a start [1, 4, h, w].
    """

    vae: torch.nn.Module
    denoiser: GuidedUNet
    referee: Blip2Referee
    latent: torch.Tensor

    @property
    def decode(self) -> Callable[[torch.Tensor], torch.Tensor]:
        return decoder(self.vae)


def full_size(device: torch.device, size: int) -> Networks:
    """SD 1.5's UNet and autoencoder in bf16, BLIP-2 with its ViT-g in bf16, for pictures of size x size."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    kl = dict(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    unet = build(lambda: UNet2DConditionModel(cross_attention_dim=768), device, torch.bfloat16)
    vae = build(lambda: AutoencoderKL(**kl), device, torch.bfloat16)
    referee = _referee(Blip2Config(), device)
    referee.network.vision.to(torch.bfloat16)
    return _networks(vae, unet, referee, size)


def small(device: torch.device) -> Networks:
    """The sizes of the pack's own small models, in fp32."""
    vae, unet = (build(make, device, torch.float32) for make in (demo.build_vae, demo.build_unet))
    return _networks(vae, unet, _referee(demo.REFEREE, device), demo.REFEREE.image_size)


def _referee(config: Blip2Config, device: torch.device) -> Blip2Referee:
    words = list(dict.fromkeys([*SPECIAL, *PROMPT.split()]))
    words += [f"word{i}" for i in range(config.vocab_size - len(words))]
    return Blip2Referee(build(lambda: Blip2(config), device, torch.float32), words)


def _networks(vae, unet, referee: Blip2Referee, size: int) -> Networks:
    from diffusers import DDIMScheduler

    alphas = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    context = torch.randn(1, 77, unet.config.cross_attention_dim, device=unet.device)
    latent = torch.randn(1, 4, size // 8, size // 8, generator=torch.Generator().manual_seed(1)).to(unet.device)
    return Networks(vae, GuidedUNet(unet, alphas, context, context, cfg=30.0), referee, latent)


def matrix_rate(device: torch.device) -> float:
    """Operations a second of the machine's own matrix product: bf16 on a card, fp32 on a CPU."""
    on_card = device.type == "cuda"
    size, repeats, dtype = (8192, 20, torch.bfloat16) if on_card else (1024, 10, torch.float32)
    wait = torch.cuda.synchronize if on_card else lambda: None
    a = torch.randn(size, size, device=device, dtype=dtype)
    for counted in (False, True):
        wait()
        began = time.perf_counter()
        for _ in range(repeats if counted else 3):
            a @ a
        wait()
    return repeats * 2 * size**3 / (time.perf_counter() - began)
