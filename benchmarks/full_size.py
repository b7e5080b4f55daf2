"""Speed and memory of a step at the published sizes: BLIP-2 (ViT-g), SD 1.5's UNet and autoencoder, with
random weights.

    python -m benchmarks.full_size                                   # on a graphics card: 512x512, 10 and 30 views
    python -m benchmarks.full_size --size 64 --views 1 --steps 1     # anywhere: that the full-size referee plays at all

Prints a table: seconds a step, peak memory, and the share of the card's own bf16 matrix rate that the referee reaches.
Needs diffusers.
"""

import argparse
import itertools
import time

import torch

from referee_core.augment import Augmentation
from referee_core.averaging import EMARestart
from referee_core.hosts.diffusers import GuidedUNet, decoder
from referee_core.losses import bind
from referee_core.methods.referee_can_play import Settings, referee_can_play
from referee_core.priors.sds import SDS
from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.model import Blip2
from referee_core.referees.blip2.referee import Blip2Referee
from referee_core.referees.blip2.text import SPECIAL
from referee_core.schedules import Schedule

PROMPT = "a green bench and a blue bowl"


def randomise(module: torch.nn.Module) -> torch.nn.Module:
    """Fill an uninitialised module from one block of random numbers."""
    numbers = torch.randn(2**22, generator=torch.Generator().manual_seed(0))
    for name, p in module.state_dict(keep_vars=True).items():
        values = numbers.repeat(-(-p.numel() // len(numbers)))[: p.numel()].view(p.shape)
        spread = p[0].numel() ** -0.5 if p.ndim > 1 else 0.02
        p.data.copy_(values * spread + (p.ndim == 1 and name.endswith("weight")))
    return module.eval().requires_grad_(False)


def build(make, device: torch.device, dtype: torch.dtype) -> torch.nn.Module:
    with torch.device("meta"):
        module = make()
    return randomise(module.to(dtype).to_empty(device=device))


def load_referee(device: torch.device) -> Blip2Referee:
    config = Blip2Config()
    network = build(lambda: Blip2(config), device, torch.float32)
    network.vision.to(torch.bfloat16)
    words = [*SPECIAL, *PROMPT.split()]
    words = list(dict.fromkeys(words))
    return Blip2Referee(network, words + [f"word{i}" for i in range(config.vocab_size - len(words))])


def referee_flops(config: Blip2Config) -> float:
    """Multiplications and additions of one view, forward and backward: the tower's share, with frozen weights."""
    tokens = 1 + (config.image_size // config.patch_size) ** 2
    linear = 2 * tokens * config.vision_dim * (4 * config.vision_dim + 2 * config.vision_mlp_dim)
    attention = 4 * tokens**2 * config.vision_dim
    return 2 * config.vision_depth * (linear + attention)


def matrix_rate(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """The card's bf16 matrix product: operations a second."""
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    for counted in (False, True):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(repeats if counted else 3):
            a @ a
        torch.cuda.synchronize()
    return repeats * 2 * size**3 / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--views", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--micro-batch", type=int, default=10)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_card = device.type == "cuda"

    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    unet = build(lambda: UNet2DConditionModel(cross_attention_dim=768), device, torch.bfloat16)
    kl = dict(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    vae = build(lambda: AutoencoderKL(**kl), device, torch.bfloat16)
    referee = load_referee(device)
    context = torch.randn(1, 77, 768, device=device)
    alphas = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    rate = matrix_rate(device) if on_card else None
    loss = bind(referee, PROMPT, itm=1.0, caption=1.0)
    print(
        f"{torch.cuda.get_device_name() if on_card else 'CPU'}, {arguments.size}x{arguments.size}, bf16 tower, bf16 "
        f"UNet and VAE"
    )
    print(
        "| views | checkpointing | seconds a step | peak memory, GB | of the bf16 matrix rate |\n|---|---|---|---|---|"
    )
    for views, checkpointing in itertools.product(arguments.views, (False, True)):
        referee.checkpointing = checkpointing
        if checkpointing:
            vae.enable_gradient_checkpointing()
            vae.decoder.train()  # diffusers checkpoints only in training; there is no dropout
        times = []
        if on_card:
            torch.cuda.reset_peak_memory_stats()
        run = referee_can_play(
            torch.randn(1, 4, arguments.size // 8, arguments.size // 8, device=device),
            decoder(vae),
            loss,
            SDS(GuidedUNet(unet, alphas, context, context, 30.0), Schedule(800.0, 400.0)),
            Augmentation(count=views),
            EMARestart(),
            Settings(steps=arguments.steps + 1, tail=0, micro_batch=arguments.micro_batch),
        )
        began = time.perf_counter()
        for step in run:
            step.scalars["loss"]["loss"].cpu()
            times.append(time.perf_counter() - began)
            began = time.perf_counter()
        vae.disable_gradient_checkpointing()
        vae.decoder.eval()
        seconds = sum(times[1:]) / len(times[1:])
        peak = share = "–"
        if on_card:
            work = views * referee_flops(referee.network.config) * (1.5 if checkpointing else 1.0)
            peak, share = f"{torch.cuda.max_memory_allocated() / 1e9:.2f}", f"{work / seconds / rate:.0%}"
        print(f"| {views} | {'on' if checkpointing else 'off'} | {seconds:.3f} | {peak} | {share} |", flush=True)


if __name__ == "__main__":
    main()
