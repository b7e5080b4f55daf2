"""The demo's KL autoencoder: 128x128 pictures to 4x16x16 latents with SD 1.5's scale."""

import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F

from referee_core.demo.judge import judge
from referee_core.demo.models import VAE, build_vae
from referee_core.demo.storage import save

from . import common

KL_WEIGHT = 1e-6
LATENT_NOISE = 0.1  # of the latent's own spread: a decoder that shrugs at noise is easy to optimise through


def loss_function(vae):
    def loss_at(step: int, rng: random.Random):
        pictures = common.batch(rng, 16)[1]
        if step % 4:  # three steps of four on quarter pictures: four times cheaper, the network is convolutional
            y, x = rng.randrange(0, 65, 8), rng.randrange(0, 65, 8)
            pictures = pictures[:, :, y : y + 64, x : x + 64]
        pictures = pictures * 2 - 1
        posterior = vae.encode(pictures).latent_dist
        z = posterior.sample()
        z = z + LATENT_NOISE * z.detach().std() * torch.randn_like(z)
        decoded = vae.decode(z).sample
        mse, l1 = F.mse_loss(decoded.float(), pictures), F.l1_loss(decoded.float(), pictures)
        kl = posterior.kl().mean()
        return mse + 0.2 * l1 + KL_WEIGHT * kl, {"mse": mse, "l1": l1, "kl": kl}

    return loss_at


@torch.no_grad()
def normalise_latents(vae, rng: random.Random) -> None:
    """Fold a scale and shift into the two 1x1 convolutions so that latents have mean 0 and spread 1/0.18215."""
    z = vae.encode(common.batch(rng, 256)[1] * 2 - 1).latent_dist.mean
    mean = z.mean(dim=(0, 2, 3))
    scale = 1 / (VAE["scaling_factor"] * z.std(dim=(0, 2, 3)))
    channels = VAE["latent_channels"]
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] *= scale[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) * scale
    quant.bias[channels:] += 2 * scale.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight /= scale[None, :, None, None]


@torch.no_grad()
def measure(vae, count: int = 400) -> dict:
    """PSNR and the judge's accuracy on held-out pictures and their reconstructions."""
    rng = random.Random("vae-test")
    squared, right, right_decoded = 0.0, 0, 0
    for _ in range(count // 50):
        scenes, pictures, _ = common.batch(rng, 50, held_out=True)
        decoded = (vae.decode(vae.encode(pictures * 2 - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)
        squared += (decoded - pictures).square().mean().item()
        right += sum(judge(p).right(s) for p, s in zip(pictures, scenes, strict=True))
        right_decoded += sum(judge(p).right(s) for p, s in zip(decoded, scenes, strict=True))
    return {
        "psnr_db": -10 * math.log10(squared / (count // 50)),
        "judge_on_pictures": right / count,
        "judge_on_reconstructions": right_decoded / count,
    }


def train(state_dir: Path, steps: int) -> None:
    torch.manual_seed(0)
    vae = build_vae().to(common.device())
    common.run("vae", vae, steps, loss_function(vae), peak=1.5e-3, state_dir=state_dir, bf16=True)
    vae.eval()
    normalise_latents(vae, random.Random("vae-scale"))
    common.write_figures("vae", measure(vae))
    save("vae", vae.state_dict())
