"""From which noise level on does the referee rank predicted pictures rightly? What a search may give up early.

    python -m benchmarks.previews [--prompts 10] [--seeds 16] [--steps 20]

Samples the demo's development prompts, lets the referee judge the prediction after every tenth of the steps, and plays
searches with and without pruning from these verdicts, at equal cost.
"""

import argparse
import random
from functools import partial

import torch

from referee_core.demo.captions import caption
from referee_core.demo.components import load_components
from referee_core.demo.storage import path
from referee_core.losses import bind
from referee_core.methods.search import VIEWS, better_half, judge_views
from referee_core.randomness import generators, randn_like
from referee_core.referees.blip2.weights import load
from referee_core.sampling import ddim, spaced_levels
from training.judge import judge

from .obedience.cost import Calls
from .obedience.prompts import CATEGORIES, prompts

CFG = 3.0
SHARES = [k / 10 for k in range(1, 10)]
LOOK = Calls(decodes=1, views=VIEWS.count).tflop
ORDERS = 200  # random orders of the seeds in which a search meets them


def verdicts(models, referee, scene, seeds: range, steps: int) -> tuple[list[list[float]], list[bool]]:
    """The loss of each seed after each share of the steps and at the end, and whether the exact judge agrees."""
    text = caption(scene)
    loss, decode = bind(referee, text, itm=1.0, caption=1.0), models.decoder()
    streams = generators(list(seeds), ("noise", "views"))
    x = randn_like(torch.zeros(len(seeds), 4, 16, 16), streams["noise"])
    denoiser, draw, seen = models.guided(text, cfg=CFG), partial(randn_like, streams=streams["noise"]), []
    with torch.no_grad():
        for done, z in enumerate(ddim(denoiser, x, spaced_levels(denoiser, steps), 1.0, draw), start=1):
            if done * 10 % steps == 0:
                images = decode(z).clamp(0, 1)
                seen.append([
                    judge_views(loss, image[None], VIEWS, generator).rank
                    for image, generator in zip(images, streams["views"], strict=True)
                ])  # fmt: skip
    return list(map(list, zip(*seen, strict=True))), [judge(image).right(scene) for image in images]


def ranked_rightly(losses: list[float], right: list[bool]) -> float | None:
    """How often a right picture has the lower loss of a right and a wrong one; None where there are no such two."""
    pairs = [
        (a, b)
        for a, ok in zip(losses, right, strict=True)
        if ok
        for b, is_right in zip(losses, right, strict=True)
        if not is_right
    ]
    return sum((a < b) + 0.5 * (a == b) for a, b in pairs) / len(pairs) if pairs else None


def found(rows: list[list[float]], right: list[bool], look: int | None, sample: float, budget: float, rng) -> float:
    """The share of searches, over random orders of the seeds, whose best picture within the budget is right.

    sample, budget: in TFLOP, of a whole attempt without its judgement and of the search.
    """
    wins = 0
    for _ in range(ORDERS):
        spent, earlier, finished = 0.0, [], []
        for i in rng.sample(range(len(rows)), len(rows)):
            goes_on = True
            if look is not None:
                goes_on = better_half(rows[i][look], earlier)
                earlier.append(rows[i][look])
            share = SHARES[look] if look is not None and not goes_on else 1.0
            spent += share * sample + LOOK * (goes_on + (look is not None))
            if spent > budget and finished:
                break
            if goes_on:
                finished.append(i)
        wins += right[min(finished, key=lambda i: rows[i][-1])]
    return wins / ORDERS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=10, help="of each category")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, choices=range(10, 110, 10), metavar="10|20|...")
    parser.add_argument("--budget", type=float, default=4, help="in whole attempts")
    args = parser.parse_args()
    models, referee, rng = load_components(), load(path("referee")), random.Random("previews")
    scenes = [scene for category in CATEGORIES for scene in prompts(category, args.prompts, held_out=False)]
    played = []
    for done, scene in enumerate(scenes, start=1):
        played.append(verdicts(models, referee, scene, range(args.seeds), args.steps))
        print(f"{done}/{len(scenes)} {caption(scene)}: {sum(played[-1][1])} of {args.seeds} right", flush=True)
    sample = Calls(pairs=args.steps).tflop
    budget = args.budget * (sample + LOOK)
    plain = sum(found(rows, right, None, sample, budget, rng) for rows, right in played) / len(played)
    print(f"| judged after | right before wrong | right, search of {budget:.0f} TFLOP |\n|---|---|---|")
    for look, share in enumerate([*SHARES, 1.0]):
        rates = [r for rows, right in played if (r := ranked_rightly([row[look] for row in rows], right)) is not None]
        searched = plain
        if share < 1:
            searched = sum(found(rows, right, look, sample, budget, rng) for rows, right in played) / len(played)
        name = f"{share:.0%}" if share < 1 else "the end (no pruning)"
        print(f"| {name} | {sum(rates) / len(rates):.1%} | {searched:.1%} |")


if __name__ == "__main__":
    main()
