"""The demo's KL autoencoder: 128x128 pictures to 4x16x16 latents with SD 1.5's scale."""

import math
import random
from pathlib import Path

import torch
import torch.nn.functional as F

from referee_core.demo.models import VAE, build_vae
from referee_core.demo.storage import save
from training.judge import judge

from . import common
from .pictures import Pictures, paint, training_set

KL_WEIGHT = 1e-6
LATENT_NOISE = 0.1  # of the latent's own spread: a decoder that shrugs at noise is easy to optimise through


def loss_function(vae, known: Pictures):
    def loss_at(step: int, rng: random.Random):
        pictures = known.floats([rng.randrange(len(known)) for _ in range(16)]).to(common.device())
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
def normalise_latents(vae, pictures: torch.Tensor) -> None:
    """Fold a scale and shift into the two 1x1 convolutions so that latents have mean 0 and spread 1/0.18215."""
    z = vae.encode(pictures.to(common.device()) * 2 - 1).latent_dist.mean
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
    """PSNR and the judge's accuracy on held-out pictures and their reconstructions, relations included."""
    rng = random.Random("vae-test")
    known = paint(rng, count, held_out=True, shares={"pair": 1, "relation": 1, "three": 1, "number": 1})
    figures = {"psnr_db": 0.0, "judge_on_pictures": 0.0, "judge_on_reconstructions": 0.0}
    squared = 0.0
    for i in range(count):
        picture = known.floats([i]).to(common.device())
        decoded = (vae.decode(vae.encode(picture * 2 - 1).latent_dist.mode()).sample / 2 + 0.5).clamp(0, 1)
        squared += (decoded - picture).square().mean().item()
        scene = known.describe(rng, i)
        figures["judge_on_pictures"] += judge(picture[0]).right(scene) / count
        figures["judge_on_reconstructions"] += judge(decoded[0]).right(scene) / count
    return figures | {"psnr_db": -10 * math.log10(squared / count)}


def train(state_dir: Path, steps: int) -> None:
    torch.manual_seed(0)
    vae = build_vae().to(common.device())
    known = training_set(state_dir)
    common.run("vae", vae, steps, loss_function(vae, known), peak=1.5e-3, state_dir=state_dir, bf16=True)
    vae.eval()
    normalise_latents(vae, known.floats(list(range(256))))
    common.write_figures("vae", measure(vae))
    save("vae", vae.state_dict())
