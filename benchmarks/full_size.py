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
from referee_core.losses import bind
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.priors.sds import SDS
from referee_core.referees.blip2.config import Blip2Config

from .networks import PROMPT, full_size, matrix_rate


def referee_flops(config: Blip2Config) -> float:
    """Multiplications and additions of one view, forward and backward: the tower's share, with frozen weights."""
    tokens = 1 + (config.image_size // config.patch_size) ** 2
    linear = 2 * tokens * config.vision_dim * (4 * config.vision_dim + 2 * config.vision_mlp_dim)
    attention = 4 * tokens**2 * config.vision_dim
    return 2 * config.vision_depth * (linear + attention)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--views", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--micro-batch", type=int, default=10)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    on_card = device.type == "cuda"

    nets = full_size(device, arguments.size)
    referee, vae = nets.referee, nets.vae
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
            nets.latent,
            nets.decode,
            loss,
            SDS(nets.denoiser),
            Augmentation(count=views),
            EMARestart(),
            LoopSettings(steps=arguments.steps + 1, tail=0, micro_batch=arguments.micro_batch),
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
