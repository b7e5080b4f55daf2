"""The demo's diffusion model: a small text encoder and UNet, eps-prediction on SD's noise schedule.

It learns as models of the web's pictures do: a third of its captions is wrong or incomplete. The referee learns from
right ones. That is the gap which the methods of this pack use.
"""

import random
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import nn

from referee_core.demo.captions import PLURALS, VAGUE, caption, false_scene
from referee_core.demo.models import (
    NOISE_SCHEDULE,
    VAE,
    build_text_encoder,
    build_unet,
    prompt_ids,
)
from referee_core.demo.storage import save
from referee_core.demo.world import CATEGORIES, Scene, is_held_out, scenes
from training.judge import judge

from . import common
from .pictures import Pictures, training_set

BATCH = 32
NO_CAPTION = 0.1  # share of captions dropped, for classifier-free guidance
CARELESS = 1 / 3  # share of captions that are wrong or incomplete


class Painter(nn.Module):
    def __init__(self):
        super().__init__()
        self.text_encoder = build_text_encoder()
        self.unet = build_unet()

    def forward(self, x: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        context = self.text_encoder(ids).last_hidden_state
        return self.unet(x, t, context).sample


def careless_caption(rng: random.Random, scene: Scene) -> str:
    """A caption as the web has them: attributes swapped between the objects, an object or the relation left out, a
    number or an attribute left vague. Never a held-out one."""
    if scene.category == "single":
        return f"a {scene.objects[0][1]}"
    if scene.category == "number":
        colour, shape = scene.objects[0]
        return f"{VAGUE} {colour} {PLURALS[shape]}"
    if scene.category == "relation" and rng.random() < 0.5:
        return caption(replace(scene, relation=None))
    wrong = false_scene(rng, scene, "swap" if rng.random() < 0.6 else "surplus")
    if wrong is None or is_held_out(wrong.objects):
        wrong = false_scene(rng, scene, "surplus")
    return caption(wrong)


@torch.no_grad()
def latents(vae, known: Pictures, state_dir: Path) -> tuple[list[int], torch.Tensor]:
    """The pictures that a caption can describe, by index, and their encodings, made once."""
    path = state_dir / "latents.pt"
    if not path.exists():
        chosen = [i for i in range(len(known)) if known.describe(random.Random(0), i) is not None]
        parts = [chosen[k : k + 50] for k in range(0, len(chosen), 50)]
        encoded = [common.encode(vae, known.floats(part).to(common.device())).cpu() for part in parts]
        torch.save({"chosen": chosen, "latents": torch.cat(encoded)}, path)
    saved = torch.load(path, weights_only=True)
    return saved["chosen"], saved["latents"]


def loss_function(painter: Painter, known: Pictures, chosen: list[int], encoded: torch.Tensor):
    alphas = DDIMScheduler(**NOISE_SCHEDULE).alphas_cumprod.to(common.device())

    def say(rng: random.Random, index: int) -> str:
        if rng.random() < NO_CAPTION:
            return ""
        scene = known.describe(rng, index)
        return careless_caption(rng, scene) if rng.random() < CARELESS else caption(scene)

    def loss_at(step: int, rng: random.Random):
        rows = [rng.randrange(len(chosen)) for _ in range(BATCH)]
        z = encoded[rows].to(common.device())
        ids = prompt_ids([say(rng, chosen[row]) for row in rows]).to(z.device)
        t = torch.randint(1000, (BATCH,)).to(z.device)
        a = alphas[t][:, None, None, None]
        eps = torch.randn(z.shape).to(z.device)
        loss = F.mse_loss(painter(a.sqrt() * z + (1 - a).sqrt() * eps, t, ids).float(), eps)
        return loss, {"eps": loss}

    return loss_at


@torch.no_grad()
def paint(
    painter: Painter, vae, captions: list[str], seed: int, cfg: float = 3.0, steps: int = 50, eta: float = 1.0
) -> torch.Tensor:
    """Plain DDIM sampling with classifier-free guidance, ancestral with eta 1: pictures [B, 3, S, S] in [0, 1]."""
    scheduler = DDIMScheduler(**NOISE_SCHEDULE, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(captions), 4, 16, 16, generator=generator).to(common.device())
    context = painter.text_encoder(prompt_ids([""] * len(captions) + captions).to(x.device)).last_hidden_state
    for t in scheduler.timesteps:
        uncond, cond = painter.unet(x.repeat(2, 1, 1, 1), t.to(x.device), context).sample.chunk(2)
        noise = torch.randn(x.shape, generator=generator).to(x)
        x = scheduler.step(uncond + cfg * (cond - uncond), t, x, eta=eta, variance_noise=noise).prev_sample
    return (vae.decode(x / VAE["scaling_factor"]).sample / 2 + 0.5).clamp(0, 1)


def measure(painter: Painter, vae, count: int = 64) -> dict:
    """How often plain sampling paints what was asked, by the judge's strict rule, on held-out captions."""
    rng, figures = random.Random("paint-test"), {}
    for category in CATEGORIES:
        asked = [rng.choice(scenes(category, held_out=category != "single")) for _ in range(count)]
        pictures = paint(painter, vae, [caption(s) for s in asked], seed=1)
        right = [judge(p.cpu()).right(s) for p, s in zip(pictures, asked, strict=True)]
        figures[f"paints_{category}_right"] = sum(right) / count
    return figures


def train(state_dir: Path, steps: int) -> None:
    vae, known = common.frozen_vae(), training_set(state_dir)
    torch.manual_seed(0)
    painter = Painter().to(common.device())
    loss_at = loss_function(painter, known, *latents(vae, known, state_dir))
    common.run("diffusion", painter, steps, loss_at, peak=1e-3, state_dir=state_dir, bf16=True, decay=0.999)
    painter.eval()
    common.write_figures("diffusion", measure(painter, vae))
    save("unet", painter.unet.state_dict())
    state = painter.text_encoder.state_dict()  # the published layout has the prefix in every version of transformers
    save("text_encoder", {f"text_model.{k.removeprefix('text_model.')}": v for k, v in state.items()})
