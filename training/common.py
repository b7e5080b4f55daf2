"""What the three trainings share: batches of the demo world, a resumable loop, the average of the weights."""

import json
import math
import random
import time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel  # the plain one is the fastest for so few tokens

from referee_core.demo.models import VAE, build_vae
from referee_core.demo.storage import FOLDER, load


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def frozen_vae():
    """The demo's trained autoencoder."""
    vae = build_vae().eval().requires_grad_(False)
    vae.load_state_dict(load("vae"))
    return vae.to(device())


@torch.no_grad()
def encode(vae, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures [B, 3, S, S] in [0, 1] -> latents [B, 4, S/8, S/8] in the diffusion model's scale."""
    with torch.autocast(device().type, torch.bfloat16):
        return vae.encode(pictures * 2 - 1).latent_dist.mean.float() * VAE["scaling_factor"]


@torch.no_grad()
def decode(vae, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of ``encode``."""
    with torch.autocast(device().type, torch.bfloat16):
        return (vae.decode(latents / VAE["scaling_factor"]).sample.float() / 2 + 0.5).clamp(0, 1)


class Average:
    """Exponential moving average of a module's parameters, the weights that are kept."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for k, v in module.state_dict().items():
            self.state[k].lerp_(v, 1 - decay) if v.is_floating_point() else self.state[k].copy_(v)


def cosine_lr(optimizer: torch.optim.Optimizer, step: int, steps: int, peak: float, warmup: int = 100) -> None:
    lr = peak * min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = max(lr, peak * 0.01)


def run(
    name: str,
    module: torch.nn.Module,
    steps: int,
    loss_at,
    *,
    peak: float,
    state_dir: Path,
    bf16: bool,
    decay: float = 0.998,
):
    """Train ``module``: ``loss_at(step, rng) -> (loss, figures)``. Saves its state every minute and goes on from it.

    Returns the averaged state dict. A run that is stopped and resumed sees the same batches: the generator of a step is
    seeded by the step.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    checkpoint = state_dir / f"{name}.pt"
    optimizer = torch.optim.AdamW(module.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    average = Average(module, decay)
    start = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device())
        module.load_state_dict(saved["module"])
        optimizer.load_state_dict(saved["optimizer"])
        average.state, start = saved["average"], saved["step"]
        print(f"{name}: resumed at step {start}", flush=True)

    def save(step: int) -> None:
        part = checkpoint.with_suffix(".part")
        torch.save(
            {
                "module": module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state,
                "step": step,
            },
            part,
        )
        part.replace(checkpoint)

    saved_at = began = time.monotonic()
    module.train()
    for step in range(start, steps):
        torch.manual_seed(step)
        cosine_lr(optimizer, step, steps, peak)
        with torch.autocast(device().type, torch.bfloat16, enabled=bf16), sdpa_kernel(SDPBackend.MATH):
            loss, figures = loss_at(step, random.Random(f"{name}-{step}"))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        average.update(module, step)
        if step % 50 == 0 or step == steps - 1:
            shown = " ".join(f"{k} {v.item():.4f}" for k, v in figures.items())
            print(f"{name} {step}/{steps} {time.monotonic() - began:.0f}s {shown}", flush=True)
        if time.monotonic() - saved_at > 60:
            save(step + 1)
            saved_at = time.monotonic()
    save(steps)
    module.load_state_dict(average.state)
    return average.state


def write_figures(name: str, figures: dict) -> None:
    """Write a stage's measured figures beside the weights."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / "figures.json"
    everything = json.loads(path.read_text()) if path.exists() else {}
    everything[name] = {k: round(v, 4) for k, v in figures.items()}
    path.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n")
    print(name, everything[name], flush=True)
