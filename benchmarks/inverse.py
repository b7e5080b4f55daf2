"""Is a restored picture nearer the original, and by what? On the demo's models, resumable.

    python -m benchmarks.inverse run [--pictures 30] [--part 0/2]   # held-out pictures
    python -m benchmarks.inverse report                             # tables, beside the rows

Each picture is measured in five ways and restored by bicubic enlargement (or what stands for it), LDPS, LDPS with the
prompt tuned, LDPS with projection, P2L, projection alone, and FMRG. All begin from the encoded first guess with noise,
and take the same steps. The settings were chosen on four development pictures.
"""

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F

from referee_core.demo.captions import caption
from referee_core.demo.components import load_components
from referee_core.demo.storage import path
from referee_core.hosts.diffusers import GuidedUNet
from referee_core.kernels import motion_kernel
from referee_core.measurements import Measurement, residual_rms
from referee_core.methods.p2l import P2LSettings, Restoration, p2l
from referee_core.operators import GaussianBlur, Inpainting, KernelBlur, SuperResolution, box_mask
from referee_core.plots import strip, to_image
from referee_core.randomness import generators, randn_like
from referee_core.referees.blip2.weights import load
from referee_core.referees.pixels import normalise
from referee_core.sampling import spaced_levels
from training.drawing import render

from .obedience.curve import paired
from .obedience.play import gather, rows
from .obedience.prompts import CATEGORIES, prompts

RESULTS = Path(__file__).parent / "results" / "inverse.jsonl"
SIDE, STEPS, BATCH = 128, 24, 5
NOISE = 0.005  # 0.01 for pictures in [-1, 1]
TASKS: dict[str, tuple[Measurement, float]] = {  # and the share of the noise from which a restoration begins
    "super-resolution x4": (SuperResolution(4, sigma=NOISE), 0.5),
    "super-resolution x8": (SuperResolution(8, sigma=NOISE), 0.5),
    "Gaussian blur": (GaussianBlur(3.0, 3.0, sigma=NOISE), 0.5),
    "motion blur": (KernelBlur(motion_kernel(31, 0.5, torch.Generator().manual_seed(1)), sigma=NOISE), 0.5),
    "box": (Inpainting(box_mask(SIDE, SIDE, 48, 48), sigma=NOISE), 0.7),
}
P2L = P2LSettings(prompt_steps=1, prompt_lr=1e-3, rho=2.0, project_every=4, lam=0.01)
METHODS = {
    "LDPS": replace(P2L, prompt_steps=0, project_every=0),
    "LDPS + prompt": replace(P2L, project_every=0),
    "LDPS + projection": replace(P2L, prompt_steps=0),
    "P2L": P2L,
    "projection alone": P2LSettings(prompt_steps=0, project_every=1, lam=0.01, through_model=False, data_steps=0),
    "FMRG": P2LSettings(prompt_steps=0, project_every=0, through_model=False, data_steps=3, rho=1.0),
}
GUESS, TRIP, GUESS_TRIP = "first guess", "original through the VAE", "first guess through the VAE"
PLAIN = (GUESS, TRIP, GUESS_TRIP)
MEASURES = {"psnr": "PSNR, dB", "ssim": "SSIM", "distance": "distance"}


class World:
    def __init__(self) -> None:
        self.models, self.referee = load_components(), load(path("referee"))
        self.decode, self.null = self.models.decoder(), self.models.encode("")

    @torch.no_grad()
    def encode(self, picture: torch.Tensor) -> torch.Tensor:
        return self.models.vae.encode(picture * 2 - 1).latent_dist.mean * self.models.vae.config.scaling_factor

    def condition(self, prompts):
        return GuidedUNet(self.models.unet, self.models.scheduler.alphas_cumprod, prompts[0], self.null, 1.0)

    @torch.no_grad()
    def distance(self, made: torch.Tensor, original: torch.Tensor) -> list[float]:
        """1 - the mean cosine of what the referee's vision tower says of each place."""
        net = self.referee.network
        one, other = (net.vision_norm(net.vision(normalise(self.referee.prepare(x)))) for x in (made, original))
        return (1 - F.cosine_similarity(one, other, dim=-1).mean(1)).tolist()

    @torch.no_grad()
    def plain(self, method: str, A: Measurement, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        picture = x if method == TRIP else A.first_guess(y)
        return picture if method == GUESS else self.decode(self.encode(picture.clamp(0, 1)))

    def restore(
        self, A: Measurement, y: torch.Tensor, settings: P2LSettings, begin: float, seeds: list[int]
    ) -> torch.Tensor:
        levels = spaced_levels(self.models.guided(""), STEPS)[-round(begin * STEPS) :]
        streams = generators(seeds, ("start", "fresh"))
        z = self.encode(A.first_guess(y).clamp(0, 1))
        x = levels[0].alpha * z + levels[0].sigma * randn_like(z, streams["start"])
        task = Restoration(A, y, self.condition, self.decode, self.encode, levels)
        *_, last = p2l(task, x, [self.null.expand(len(x), -1, -1)], settings, streams["fresh"])
        with torch.no_grad():
            return self.decode(last.z).clamp(0, 1)


def pictures(count: int, held_out: bool = True) -> list[tuple[str, torch.Tensor]]:
    """Drawn pictures of prompts, by category in turn."""
    each = -(-count // len(CATEGORIES))
    scenes = [scene for i in range(each) for scene in (prompts(c, each, held_out)[i] for c in CATEGORIES)][:count]
    return [(caption(scene), render(scene, random.Random(f"inverse {i}"))) for i, scene in enumerate(scenes)]


def measured(world: World, made: torch.Tensor, A: Measurement, y: torch.Tensor, x: torch.Tensor) -> list[dict]:
    from kornia.metrics import ssim

    made = made.clamp(0, 1)
    psnr = (-10 * (made - x).square().flatten(1).mean(1).log10()).tolist()
    similar = ssim(made, x, 11).flatten(1).mean(1).tolist()
    left = residual_rms(A, made, y).tolist()
    columns = zip(psnr, similar, world.distance(made, x), left, strict=True)
    return [dict(zip(("psnr", "ssim", "distance", "residual"), row, strict=True)) for row in columns]


def play(count: int, part: str) -> None:
    torch.set_num_threads(1)
    index, parts = map(int, part.split("/"))
    own = RESULTS.with_suffix(f".{index}.jsonl")
    known = {(row["task"], row["method"], row["picture"]) for row in rows(RESULTS) + rows(own)}
    world, all_of_them = World(), pictures(count)
    batches = [range(i, min(i + BATCH, count)) for i in range(0, count, BATCH)]
    jobs = [(batch, task, method) for batch in batches for task in TASKS for method in (*PLAIN, *METHODS)]
    for batch, task, method in jobs[index::parts]:
        if (task, method, batch[0]) in known:
            continue
        A, begin = TASKS[task]
        x = torch.stack([all_of_them[i][1] for i in batch])
        y = A.degrade(x, generators(list(batch), ("measurement",))["measurement"])
        if method in PLAIN:
            made = world.plain(method, A, y, x)
        else:
            made = world.restore(A, y, METHODS[method], begin, list(batch))
        with own.open("a") as file:
            for i, numbers in zip(batch, measured(world, made, A, y, x), strict=True):
                file.write(json.dumps({"task": task, "method": method, "picture": i, **numbers}) + "\n")
        print(f"{task}, {method}, pictures {batch[0]} to {batch[-1]}", flush=True)


def report(found: list[dict]) -> str:
    """A table for each task, and how the methods differ from LDPS."""
    lines = []
    for task in TASKS:
        some = [row for row in found if row["task"] == task]
        if not some:
            continue
        count = len({row["picture"] for row in some})
        lines += [f"**{task}**, {count} held-out pictures", ""]
        lines += ["| | " + " | ".join(MEASURES.values()) + " | residual | PSNR against LDPS | distance against LDPS |"]
        lines += ["|---|---|---|---|---|---|---|"]
        by_method = {m: {(r["picture"],): r for r in some if r["method"] == m} for m in (*PLAIN, *METHODS)}
        for method, own in by_method.items():
            if not own:
                continue
            numbers = {name: mean(r[name] for r in own.values()) for name in (*MEASURES, "residual")}
            gains = []
            for name, digits in (("psnr", 2), ("distance", 4)):
                if method == "LDPS":
                    gains.append("")
                    continue
                one, other = ({k: r[name] for k, r in rs.items()} for rs in (own, by_method["LDPS"]))
                difference, half, _ = paired(one, other)
                gains.append(f"{difference:+.{digits}f} ± {half:.{digits}f}")
            psnr, ssim, distance, left = (numbers[n] for n in ("psnr", "ssim", "distance", "residual"))
            row = [f"{psnr:.2f}", f"{ssim:.3f}", f"{distance:.4f}", f"{left:.4f}", *gains]
            lines.append(f"| {method} | " + " | ".join(row) + " |")
        lines.append("")
    return "\n".join(lines)


def show() -> None:
    """A picture of what came of the first held-out picture."""
    world, (_, x) = World(), pictures(1)[0]
    shown = []
    for task, (A, begin) in TASKS.items():
        y = A.degrade(x[None], generators([0], ("measurement",))["measurement"])
        shown += [("original", x), (task, A.first_guess(y)[0].clamp(0, 1))]
        for method in ("LDPS", "LDPS + projection", "P2L", "projection alone"):
            shown.append((method, world.restore(A, y, METHODS[method], begin, [0])[0]))
    to_image(strip(shown, 6, SIDE)).save(RESULTS.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--part", default="0/1")
    args = parser.parse_args()
    if args.what == "run":
        play(args.pictures, args.part)
        return
    found = gather(RESULTS)
    RESULTS.with_suffix(".md").write_text(report(found), encoding="utf-8")
    print(report(found))
    show()


if __name__ == "__main__":
    main()
