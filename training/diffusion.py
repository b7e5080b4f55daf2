"""The demo's diffusion model: a small text encoder and UNet, eps-prediction on SD's noise schedule."""

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import nn

from referee_core.demo.judge import judge
from referee_core.demo.models import (
    NOISE_SCHEDULE,
    VAE,
    build_text_encoder,
    build_unet,
    prompt_ids,
)
from referee_core.demo.storage import save
from referee_core.demo.world import OBJECTS, caption, two_object_scenes

from . import common

PICTURES = 24_000
BATCH = 32
NO_CAPTION = 0.1  # share of captions dropped, for classifier-free guidance
CFG, SAMPLING_STEPS = 5.0, 25


class Painter(nn.Module):
    def __init__(self):
        super().__init__()
        self.text_encoder = build_text_encoder()
        self.unet = build_unet()

    def forward(self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        context = self.text_encoder(ids).last_hidden_state
        return self.unet(x, t, context).sample


@torch.no_grad()
def latents(vae, state_dir: Path) -> tuple[list, torch.Tensor]:
    """Scenes and their encoded pictures, made once."""
    path = state_dir / "latents.pt"
    if not path.exists():
        scenes, encoded = [], []
        rng = random.Random("latents")
        while len(scenes) < PICTURES:
            named, pictures, _ = common.batch(rng, 100)
            scenes += named
            encoded.append(common.encode(vae, pictures).cpu())
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"scenes": scenes, "latents": torch.cat(encoded)}, path)
    saved = torch.load(path, weights_only=True)
    return [tuple(tuple(o) for o in s) for s in saved["scenes"]], saved["latents"]


def loss_function(painter: Painter, scenes: list, encoded: torch.Tensor):
    alphas = DDIMScheduler(**NOISE_SCHEDULE).alphas_cumprod.to(common.device())

    def loss_at(step: int, rng: random.Random):
        chosen = [rng.randrange(len(scenes)) for _ in range(BATCH)]
        z = encoded[chosen].to(common.device())
        captions = [caption(tuple(rng.sample(scenes[i], len(scenes[i])))) for i in chosen]
        captions = ["" if rng.random() < NO_CAPTION else c for c in captions]
        t = torch.randint(1000, (BATCH,)).to(z.device)
        a = alphas[t][:, None, None, None]
        eps = torch.randn(z.shape).to(z.device)
        ids = prompt_ids(captions).to(z.device)
        loss = F.mse_loss(painter(a.sqrt() * z + (1 - a).sqrt() * eps, t, ids).float(), eps)
        return loss, {"eps": loss}

    return loss_at


@torch.no_grad()
def paint(painter: Painter, vae, captions: list[str], seed: int, cfg: float = CFG) -> torch.Tensor:
    """Plain DDIM sampling with classifier-free guidance: pictures [B, 3, S, S] in [0, 1]."""
    scheduler = DDIMScheduler(**NOISE_SCHEDULE, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing")
    scheduler.set_timesteps(SAMPLING_STEPS)
    x = torch.randn(len(captions), 4, 16, 16, generator=torch.Generator().manual_seed(seed)).to(common.device())
    ids = torch.cat([prompt_ids([""] * len(captions)), prompt_ids(captions)]).to(x.device)
    for t in scheduler.timesteps:
        uncond, cond = painter(x.repeat(2, 1, 1, 1), t.to(x.device), ids).chunk(2)
        x = scheduler.step(uncond + cfg * (cond - uncond), t, x).prev_sample
    return (vae.decode(x / VAE["scaling_factor"]).sample / 2 + 0.5).clamp(0, 1)


def measure(painter: Painter, vae) -> dict:
    """How often plain sampling paints what was asked, by the judge's strict rule."""
    singles = [(o,) for o in OBJECTS] * 2
    pairs = random.Random("paint-test").sample(two_object_scenes(held_out=True), 64)
    rates = {}
    for name, scenes in (("single", singles), ("pair", pairs)):
        pictures = paint(painter, vae, [caption(s) for s in scenes], seed=1)
        rates[f"paints_{name}_right"] = sum(
            judge(p.cpu()).right(s) for p, s in zip(pictures, scenes, strict=True)
        ) / len(scenes)
    return rates


def train(state_dir: Path, steps: int) -> None:
    vae = common.frozen_vae()
    scenes, encoded = latents(vae, state_dir)
    torch.manual_seed(0)
    painter = Painter().to(common.device())
    loss_at = loss_function(painter, scenes, encoded)
    common.run("diffusion", painter, steps, loss_at, peak=1e-3, state_dir=state_dir, bf16=True, decay=0.999)
    painter.eval()
    common.write_figures("diffusion", measure(painter, vae))
    save("unet", painter.unet.state_dict())
    state = painter.text_encoder.state_dict()  # the published layout has the prefix in every version of transformers
    save("text_encoder", {f"text_model.{k.removeprefix('text_model.')}": v for k, v in state.items()})
