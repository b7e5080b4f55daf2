"""Pictures as networks make them: decoded from noised latents, sampled, guided by the referee, optimised by it.

What the exact judge sees in them is what they show. A picture that an earlier referee takes for its prompt and the
judge does not is worth most: a referee that can be fooled limits every method.
"""

import os
import random
from collections.abc import Iterator
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import torch

from referee_core.augment import Augmentation
from referee_core.demo.captions import caption
from referee_core.demo.components import load_components
from referee_core.demo.storage import path as weights_path
from referee_core.demo.world import CATEGORIES, scenes
from referee_core.hosts.diffusers import Components
from referee_core.interfaces import Referee
from referee_core.losses import MicroBatch, RefereeLoss, bind, loss_gradient, plain_loss
from referee_core.methods.referee_can_play import LoopSettings, referee_can_play
from referee_core.optimisation import norm, of_length
from referee_core.priors.sds import SDS
from referee_core.randomness import generators, randn_like
from referee_core.referees.blip2.weights import load as load_referee
from referee_core.sampling import ddim, spaced_levels
from referee_core.schedules import Schedule
from training.judge import judge

from . import common
from .pictures import UNKNOWN, Pictures, as_bytes, no_cover, training_set

NOISED = 8000
MOST_NOISE = 1.2  # radians; the latent is cos z + sin eps
BATCH = 8  # pictures of one prompt at a time
FOOLED = 4  # copies of a picture that fools the referee
VIEWS = Augmentation(count=2, rotation=15, perspective=0.1, colour=0.04, erasing=0.06)


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


def sampled(models: Components, prompt: str, loss: RefereeLoss | None, rng: random.Random) -> torch.Tensor:
    """DDIM samples [B, 3, S, S] with random settings; with a loss, each step's prediction of the picture is moved down
    the loss's gradient by a share of the step, in the end too."""
    steps, eta = rng.choice([15, 25] if loss else [15, 25, 50]), rng.choice([0.0, 1.0])
    cfg, share = rng.uniform(1.5, 7), rng.uniform(0.03, 0.1)
    decode = models.decoder()
    streams = generators([rng.randrange(2**31) for _ in range(BATCH)], ("noise", "views"))

    def down(z: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        g = loss_gradient(decode, z, loss, VIEWS, streams["views"], MicroBatch()).g
        return z - of_length(g, share * norm(eps - z))

    x = randn_like(torch.zeros(BATCH, 4, 16, 16, device=common.device()), streams["noise"])
    denoiser = models.guided(prompt, cfg=cfg)
    draw = partial(randn_like, streams=streams["noise"])
    *_, z = ddim(denoiser, x, spaced_levels(denoiser, steps), eta, draw, down if loss else None)
    with torch.no_grad():
        return decode(z).clamp(0, 1)


def optimised(models: Components, prompt: str, loss: RefereeLoss, rng: random.Random) -> Iterator[torch.Tensor]:
    """Pictures [B, 3, S, S] on the way of the optimisation, from noise, alone or beside score distillation."""
    z = torch.randn(BATCH, 4, 16, 16, generator=torch.Generator().manual_seed(rng.randrange(2**31)))
    prior = SDS(models.guided(prompt, cfg=rng.uniform(3, 6)), Schedule(2000.0, 2000.0)) if rng.random() < 0.7 else None
    settings = LoopSettings(steps=40, tail=0, lr=Schedule(rng.uniform(0.1, 0.3), 0.05), noise=0.05, gradient_noise=0.0)
    run = referee_can_play(
        z.to(common.device()), models.decoder(), loss, prior, VIEWS, None, settings, rng.randrange(2**31)
    )
    for step in run:
        if step.index % 20 == 19:
            yield step.picture().clamp(0, 1)


@cache
def _networks() -> tuple[Components, Referee]:
    """What a process works with: the demo's networks as they are, and one thread."""
    torch.set_num_threads(1)
    models, referee = load_components(), load_referee(weights_path("referee"))
    for network in (models.unet, models.vae, referee.network):
        network.to(common.device())
    return models, referee


def _make(task: tuple[Path, str, bool]) -> Path:
    """The pictures of one random prompt, as a file."""
    path, kind, held_out = task
    models, referee = _networks()
    rng = random.Random(f"{path.parent.name}/{path.stem}")
    scene = rng.choice(scenes(rng.choice(CATEGORIES[held_out:]), held_out))
    prompt = caption(scene)
    loss = bind(referee, prompt, itm=1.0, caption=rng.choice([0.0, 1.0]))
    if kind == "optimised":
        made = torch.cat(list(optimised(models, prompt, loss, rng)))
    else:
        made = sampled(models, prompt, loss if kind == "guided" else None, rng)
    pixels, objects, centres = [], [], []
    match = loss.match(plain_loss(loss, made)[1])
    for picture, says in zip(made.cpu(), match.tolist(), strict=True):
        verdict = judge(picture)
        fooled = says > 0.5 and not verdict.right(scene)
        for _ in range(FOOLED if fooled and not held_out else 1):
            pixels.append(as_bytes(picture))
            objects.append(verdict.objects + (UNKNOWN,) * verdict.unknown)
            centres.append(verdict.centres + ((0.0, 0.0),) * verdict.unknown)
    Pictures(torch.stack(pixels), objects, centres, no_cover(len(pixels)), [scene] * len(pixels)).save(path)
    return path


def mined(folder: Path, count: dict[str, int], held_out: bool = False) -> Pictures:
    """Pictures of random prompts by the networks as they are: ``count`` prompts for 'sampled', 'guided' and
    'optimised'. ``asked`` of each is its prompt. One file a prompt; files that exist are not made again."""
    tasks = [
        (folder / f"{kind}-{k}{'-held-out' * held_out}.pt", kind, held_out)
        for kind, prompts in count.items()
        for k in range(prompts)
    ]
    missing = [task for task in tasks if not task[0].exists()]
    if missing:
        with get_context("spawn").Pool(os.cpu_count()) as pool:
            for done, path in enumerate(pool.imap_unordered(_make, missing), start=1):
                print(f"{path.stem}: {done}/{len(missing)}", flush=True)
    return Pictures.joined([Pictures.load(task[0]) for task in tasks])
