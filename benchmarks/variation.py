"""Does noise on the prompt help a search where the seeds hardly differ? On the demo's models.

    python -m benchmarks.variation [--prompts 10]    # held-out prompts of each category

A stand-in for distilled models: the starting noises of a prompt's attempts differ by a twentieth only. Each search
keeps the first of eight pictures that the referee matches with 0.9, or the best; the exact judge says whether it is
right.
"""

import argparse
from functools import partial
from statistics import mean

import torch

from referee_core.demo.captions import caption
from referee_core.demo.components import load_components
from referee_core.demo.storage import path
from referee_core.demo.world import Scene
from referee_core.hosts.diffusers import Components
from referee_core.interfaces import Referee
from referee_core.losses import bind
from referee_core.methods.search import VIEWS as GENTLE
from referee_core.methods.search import SearchSettings, Verdict, judge_views, search
from referee_core.randomness import generators, randn_like
from referee_core.referees.blip2.weights import load
from referee_core.sampling import spaced_levels, step
from referee_core.variation import UNTIL, vary
from training.judge import judge

from .obedience.curve import paired
from .obedience.prompts import CATEGORIES, prompts

STEPS, CFG, ATTEMPTS = 10, 3.0, 8
ALIKE = 0.05  # the share of a starting noise that differs
VARIATIONS = (0.0, 0.5, 1.0, 2.0)
ORDINARY = "ordinary seeds"


def draw(models: Components, text: str, noise: torch.Tensor, variation: float, seed: int) -> torch.Tensor:
    """A picture [1, 3, H, W] whose first steps read the varied prompt."""
    plain = models.guided(text, cfg=CFG)
    varied = models.guided(text, cfg=CFG)
    varied.positive = vary(plain.positive, variation, seed)
    levels, x = spaced_levels(plain, STEPS), noise
    with torch.no_grad():
        for i, now in enumerate(levels):
            after = levels[i + 1] if i + 1 < STEPS else None
            x, _ = step(varied if i < UNTIL * STEPS else plain, x, now, after)
        return models.decoder()(x).clamp(0, 1)


def finds(models: Components, referee: Referee, scene: Scene, variation: float, share: float) -> dict:
    """What a search finds."""
    text, loss = caption(scene), bind(referee, caption(scene), itm=1.0, caption=1.0)
    noise = partial(randn_like, torch.zeros(1, 4, 16, 16))
    (base,) = generators([10_000], ("noise",))["noise"]
    common = noise(streams=[base])

    def sample(seeds, goes_on):
        for seed in seeds:
            own = noise(streams=generators([seed], ("noise",))["noise"])
            yield draw(models, text, (1 - share**2) ** 0.5 * common + share * own, variation, seed)

    def verdict(image: torch.Tensor, generator: torch.Generator) -> Verdict:
        return judge_views(loss, image, GENTLE, generator)

    *_, tried = search(sample, verdict, SearchSettings(ATTEMPTS), seed=0)
    return {"attempts": len(tried), "right": judge(tried.best[0].picture[0]).right(scene)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=10, help="of each category")
    args = parser.parse_args()
    torch.set_num_threads(1)
    models, referee = load_components(), load(path("referee"))
    ways = {f"variation {v:g}": (v, ALIKE) for v in VARIATIONS} | {ORDINARY: (0.0, 1.0)}
    found: dict[str, list[dict]] = {name: [] for name in ways}
    scenes = [(c, i, scene) for c in CATEGORIES for i, scene in enumerate(prompts(c, args.prompts, held_out=True))]
    for category, i, scene in scenes:
        for name, (variation, share) in ways.items():
            found[name].append(finds(models, referee, scene, variation, share) | {"prompt": (category, i)})
        print(caption(scene), {name: rows[-1]["right"] for name, rows in found.items()}, flush=True)
    rates = {name: {row["prompt"]: float(row["right"]) for row in rows} for name, rows in found.items()}
    print(f"\n| {len(scenes)} held-out prompts | right | attempts | against 0, 95 % interval |\n|---|---|---|---|")
    base = rates[f"variation {VARIATIONS[0]:g}"]
    for name, rate in rates.items():
        difference, half, _ = paired(rate, base)
        attempts = mean(row["attempts"] for row in found[name])
        gain = f"{100 * difference:+.1f} ± {100 * half:.1f}" if rate is not base else ""
        print(f"| {name} | {100 * mean(rate.values()):.1f} % | {attempts:.1f} | {gain} |")


if __name__ == "__main__":
    main()
