"""Pictures as networks make them: decoded from noised latents."""

import random
from functools import cache
from pathlib import Path

import torch

from . import common
from .pictures import Pictures, as_bytes, training_set

NOISED = 8000
MOST_NOISE = 1.2  # radians; the latent is cos z + sin eps


@cache
def noised(state_dir: Path) -> Pictures:
    """Training pictures on their way from noise to an image, made on first use."""
    path = state_dir / "noised.pt"
    if not path.exists():
        known, vae, rng = training_set(state_dir), common.frozen_vae(), random.Random("noised")
        generator = torch.Generator().manual_seed(1)
        chosen = rng.sample(range(len(known)), NOISED)
        pixels = torch.empty(NOISED, *known.pixels.shape[1:], dtype=torch.uint8)
        for start in range(0, NOISED, 50):
            z = common.encode(vae, known.floats(chosen[start : start + 50]).to(common.device()))
            angle = MOST_NOISE * torch.rand(len(z), 1, 1, 1, generator=generator)
            noise = torch.randn(z.shape, generator=generator)
            z = angle.cos().to(z) * z + (angle.sin() * noise).to(z)
            pixels[start : start + 50] = as_bytes(common.decode(vae, z)).cpu()
        objects, centres = ([kept[i] for i in chosen] for kept in (known.objects, known.centres))
        Pictures(pixels, objects, centres, known.cover[chosen]).save(path)
    return Pictures.load(path)
