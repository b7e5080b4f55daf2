"""Forms of Referee Can Play against each other on the demo's development prompts, judged exactly.

    python -m benchmarks.candidates rows.jsonl --candidates bundled csd --categories pair three --prompts 10
    python -m benchmarks.candidates rows.jsonl --prompts 0          # only the table of what is there

One row a picture; rows that exist are not made again. Needs diffusers and transformers.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from referee_core.augment import Augmentation
from referee_core.averaging import EMARestart
from referee_core.demo import components, storage
from referee_core.demo.captions import caption, false_scene
from referee_core.demo.judge import judge
from referee_core.demo.world import CATEGORIES, SIZE, Scene, scenes
from referee_core.hosts.diffusers import Components
from referee_core.losses import RefereeLoss, bind, plain_loss
from referee_core.methods.referee_can_play import Settings, referee_can_play
from referee_core.priors.bridge import Bridge
from referee_core.priors.csd import CSD
from referee_core.priors.reward_sds import RewardSDS
from referee_core.priors.sdi import SDI
from referee_core.priors.sds import SDS
from referee_core.randomness import randn_like
from referee_core.referees.blip2 import weights
from referee_core.schedules import Schedule
from scripts.make_workflows import DEMO
from training.made import ddim

from .obedience.curve import wilson

LOOP, CFG, STEPS = DEMO["loop"], DEMO["prior"]["cfg"], DEMO["loop"]["steps"]
WEIGHT = Schedule(DEMO["prior"]["weight"], DEMO["prior"]["weight_end"])
BUNDLED = {"lr": Schedule(LOOP["lr"], LOOP["lr_end"]), "noise": LOOP["noise"], "stop_at": LOOP["stop_at"]}
VIEWS = Augmentation(**{name: value for name, value in DEMO["augmentation"].items() if name != "preset"})
MISTAKE = {"single": "colour", "pair": "swap", "three": "swap", "relation": "relation", "number": "number"}
TFLOP = {"pairs": 1.6, "decodes": 2.5, "gradient_decodes": 2.5, "views": 0.56, "gradient_views": 0.58}
"""Of each counted call, at the size of SD 1.5 and BLIP-2; what has a gradient counts under both names."""


@dataclass
class Job:
    models: Components
    loss: RefereeLoss
    scene: Scene
    text: str
    seed: int

    def sds(self, kind=SDS, cfg: float = CFG, weight: Schedule = WEIGHT, **fields) -> SDS:
        return kind(self.models.guided(self.text, cfg=cfg), weight, **fields)

    def csd(self, source: str) -> CSD:
        target, source = (self.models.guided(text, cfg=1.0) for text in (self.text, source))
        return CSD(target, WEIGHT, source=source, scale=CFG)

    def bridge(self) -> Bridge:
        wrong = false_scene(random.Random(self.text), self.scene, MISTAKE[self.scene.category])
        return Bridge(self.sds(), self.csd(caption(wrong) if wrong else ""))

    @torch.no_grad()
    def reward(self, z: torch.Tensor) -> torch.Tensor:
        return -plain_loss(self.loss, self.models.decoder()(z))[0]

    def play(self, prior, start: torch.Tensor | None = None, views: int = VIEWS.count, **settings) -> torch.Tensor:
        z = self.models.noise(SIZE, SIZE, self.seed) if start is None else start
        augmentation = replace(VIEWS, count=views)
        options = Settings(**BUNDLED | {"steps": STEPS} | settings)
        run = referee_can_play(
            z, self.models.decoder(), self.loss, prior, augmentation, EMARestart(), options, self.seed
        )
        return list(run)[-1].z

    def plain(self, seed: int, eta: float = 1.0) -> torch.Tensor:
        streams = [torch.Generator().manual_seed(seed)]
        x = randn_like(torch.zeros_like(self.models.noise(SIZE, SIZE, 0)), streams)
        *_, z = ddim(self.models.guided(self.text, cfg=CFG), x, 50, eta, streams)
        return z

    def best_of(self, count: int) -> torch.Tensor:
        """Of plain samples the one that the referee likes best over four views; the first is 'plain' itself."""
        found = [self.plain(self.seed + 1000 * k) for k in range(count)]
        return min(found, key=lambda z: float(self.judged(z, 4)[0]))

    @torch.no_grad()
    def judged(self, z: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss, and probability of a match, over random views."""
        views = VIEWS(self.models.decoder()(z).expand(count, -1, -1, -1), torch.Generator().manual_seed(self.seed))
        total, terms = plain_loss(self.loss, views)
        return total.mean(), self.loss.match({name: values.mean()[None] for name, values in terms.items()})


CANDIDATES = {
    "plain": lambda j: j.plain(j.seed),
    "best4": lambda j: j.best_of(4),
    "bundled": lambda j: j.play(j.sds()),
    "cfg5": lambda j: j.play(j.sds(cfg=5.0)),
    "views1": lambda j: j.play(j.sds(), views=1),
    "views16": lambda j: j.play(j.sds(), views=16),
    "short": lambda j: j.play(j.sds(), steps=60),
    "from-plain": lambda j: j.play(j.sds(t_max=500), j.plain(j.seed), steps=40, lr=Schedule(0.1, 0.05)),
    "descending": lambda j: j.play(j.sds(order="descending")),
    "weak-start": lambda j: j.play(j.sds(weight=Schedule(200.0, 2000.0, "linear"))),
    "sdi": lambda j: j.play(j.sds(SDI, inverter=j.models.guided(j.text, cfg=2 - CFG))),
    "csd": lambda j: j.play(j.csd("")),
    "bridge": lambda j: j.play(j.bridge()),
    "reward": lambda j: j.play(j.sds(RewardSDS, reward=j.reward)),
    "renew": lambda j: j.play(j.sds(), renew_below=0.5),
    "to-the-end": lambda j: j.play(j.sds(), stop_at=0.0),
    "from-best4": lambda j: j.play(j.sds(t_max=500), j.best_of(4), steps=40, lr=Schedule(0.1, 0.05)),
}
KEY = ("candidate", "category", "prompt", "seed")


def load(folder: Path, steps: int) -> None:
    """What a process begins with: the networks, and counters in them."""
    global MODELS, REFEREE, CALLS, STEPS
    torch.set_num_threads(1)
    storage.FOLDER, STEPS = folder, steps
    MODELS, REFEREE, CALLS = components.load_components(), weights.load(folder / "referee.safetensors"), {}

    def count(module: torch.nn.Module, name: str, share: float) -> None:
        def hook(_, inputs):
            for key in (name, f"gradient_{name}") if inputs[0].requires_grad else (name,):
                CALLS[key] += share * len(inputs[0])

        module.register_forward_pre_hook(hook)

    count(MODELS.unet, "pairs", 0.5)
    count(MODELS.vae.decoder, "decodes", 1)
    count(REFEREE.network.vision, "views", 1)


def paint(task: tuple[str, Scene, int]) -> dict:
    name, scene, seed = task
    CALLS.update(dict.fromkeys(TFLOP, 0))
    text, began = caption(scene), time.perf_counter()
    job = Job(MODELS, bind(REFEREE, text, itm=1.0, caption=1.0), scene, text, seed)
    z = CANDIDATES[name](job)
    with torch.no_grad():
        picture = MODELS.decoder()(z)[0].clamp(0, 1)
    row = {"seconds": round(time.perf_counter() - began, 3), **CALLS}
    row |= {"right": judge(picture).right(scene), "match": round(float(job.judged(z, 16)[1]), 4)}
    return dict(zip(KEY, (name, scene.category, text, seed), strict=True)) | row


def table(rows: list[dict], names: list[str]) -> str:
    """Shares of right pictures and mean costs. Differences to the first candidate are paired by prompt and seed."""
    lines = ["| | category | right | 95 % | minus the first, points | seconds | TFLOP | match |", "|---" * 8 + "|"]
    first = {tuple(row[k] for k in KEY[1:]): row["right"] for row in rows if row["candidate"] == names[0]}
    for category, name in itertools.product(("all", *CATEGORIES), names):
        own = [r for r in rows if r["candidate"] == name and category in ("all", r["category"])]
        if not own:
            continue
        n, right = len(own), sum(row["right"] for row in own)
        low, high = wilson(right, n)
        gains = [row["right"] - first[key] for row in own if (key := tuple(row[k] for k in KEY[1:])) in first]
        m, gain = max(len(gains), 1), sum(gains)
        spread = 1.96 * math.sqrt(sum(d * d for d in gains) - gain**2 / m) / m
        tflop = sum(row[call] * price for row in own for call, price in TFLOP.items()) / n
        seconds, match = (sum(row[k] for row in own) / n for k in ("seconds", "match"))
        lines.append(
            f"| {name} | {category} | {right / n:.1%} ({right}/{n}) | {low:.0%}–{high:.0%} | {100 * gain / m:+.1f} ± "
            f"{100 * spread:.1f} ({len(gains)}) | {seconds:.1f} | {tflop:.0f} | {match:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=CANDIDATES)
    parser.add_argument("--categories", nargs="+", default=["pair", "three", "relation", "number"], choices=CATEGORIES)
    parser.add_argument("--prompts", type=int, default=10, help="of each category")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--weights", type=Path, default=storage.FOLDER)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=STEPS)
    a = parser.parse_args()
    text = a.rows.read_text() if a.rows.exists() else ""
    rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]  # a line cut short is made again
    a.rows.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = {tuple(row[k] for k in KEY) for row in rows}
    chosen = [s for c in a.categories for s in random.Random(c).sample(scenes(c, held_out=False), a.prompts)]
    tasks = [(name, scene, seed) for seed in range(a.seeds) for scene in chosen for name in a.candidates]
    tasks = [t for t in tasks if (t[0], t[1].category, caption(t[1]), t[2]) not in done]
    context, setup = multiprocessing.get_context("spawn"), (a.weights, a.steps)
    if tasks:
        with context.Pool(a.processes, load, setup) as pool, a.rows.open("a") as file:
            for row in pool.imap_unordered(paint, tasks):
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()
                print(f"{len(rows) - len(done)}/{len(tasks)}", *row.values(), flush=True)
    print(table(rows, a.candidates))


if __name__ == "__main__":
    main()
