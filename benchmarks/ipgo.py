"""Is a prompt that the referee wrote worth its price? On the demo's models, resumable.

    python -m benchmarks.ipgo run [--prompts 10] [--part 0/2]   # held-out prompts of each category
    python -m benchmarks.ipgo ablate [--prompts 1] [--part 0/2] # the paper's parts, on development prompts
    python -m benchmarks.ipgo report                            # tables, beside the rows

Pictures of noises that had no part in learning, with and without the tokens, the exact judge's word on each, and what
learning costs in plain samples at the ruler's three sizes.
"""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

import torch

from referee_core.augment import Augmentation
from referee_core.demo.captions import caption
from referee_core.demo.components import load_components
from referee_core.demo.storage import path
from referee_core.demo.world import Scene
from referee_core.hosts.diffusers import Components
from referee_core.interfaces import Referee
from referee_core.losses import bind
from referee_core.methods.ipgo import IPGOSettings, Learned, Sampling, Start, Subject, ipgo
from referee_core.methods.search import VIEWS, judge_views
from referee_core.prompt_tokens import NO_TOKENS, PREFIX, SUFFIX, Form, Inserted
from referee_core.randomness import generators, randn_like
from referee_core.referees.blip2.weights import load
from referee_core.sampling import spaced_levels
from training.judge import judge

from .obedience.cost import SIZES, Calls
from .obedience.curve import paired, spend
from .obedience.play import gather, rows
from .obedience.prompts import CATEGORIES, prompts

RESULTS = Path(__file__).parent / "results" / "ipgo.jsonl"
STEPS, CFG = 10, 3.0  # of each picture
BATCH, NOISES, LOOK, JUDGED = 2, 8, 8, 16  # noises of a round, trained, of a look, of the measurement
FEW = replace(VIEWS, count=2)
PAPER = Form()
LEARNING = IPGOSettings(rounds=20, lr=0.1, check_every=10)
LAST = 6
BASE = "IPGO"
VARIANTS = {
    BASE: PAPER,
    "prefix only": Form(sides=(PREFIX,)),
    "suffix only": Form(sides=(SUFFIX,)),
    "without rotation": Form(rotated=False),
    "without range": Form(bounded=False),
    "without orthonormality": Form(orthonormal=False),
    "rank 16": Form(rank=16),
}
UNBOUND = "without conformity"


class World:
    """The demo's networks, and pictures of one scene."""

    def __init__(self) -> None:
        self.models: Components = load_components()
        self.referee: Referee = load(path("referee"))
        self.decode = self.models.decoder()

    def subject(self, scene: Scene) -> Subject:
        text = caption(scene)

        def condition(inserted: Inserted):
            return self.models.guided(text, cfg=CFG, inserted=inserted)

        return Subject(self.models.encode(text), bind(self.referee, text, itm=1.0, caption=1.0), condition)

    def sampling(self, last: int) -> Sampling:
        return Sampling(spaced_levels(self.models.guided(""), STEPS), last)

    def start(self, seeds: Iterable[int]) -> Start:
        streams = generators(list(seeds), ("noise",))["noise"]
        noise = randn_like(torch.zeros(len(streams), 4, 16, 16), streams)
        return Start.draw(noise, self.sampling(0), ())

    def judged(self, scene: Scene, inserted: Inserted, seeds: range) -> list[dict]:
        """The referee's loss and match and the exact judge's word on pictures of these seeds."""
        subject, made = self.subject(scene), []
        with torch.no_grad():
            images = self.decode(self.sampling(0).path(subject.condition(inserted), self.start(seeds), 0).z)
        for seed, image in zip(seeds, images.clamp(0, 1), strict=True):
            said = judge_views(subject.loss, image[None], VIEWS, torch.Generator().manual_seed(seed))
            made.append({"loss": said.rank, "match": said.match, "right": judge(image).right(scene)})
        return made

    def learn(self, scene: Scene, form: Form, settings: IPGOSettings, last: int, views: Augmentation) -> Learned:
        subject, learned = self.subject(scene), Learned()
        starts = [self.start(range(i, i + BATCH)) for i in range(0, NOISES, BATCH)]
        look, sampling = self.start(range(100, 100 + LOOK)), self.sampling(last)
        list(ipgo([subject], [subject], starts, [look], sampling, self.decode, views, form, settings, 1, learned))
        return learned


def learning_calls(settings: IPGOSettings, last: int, views: int) -> Calls:
    """Of learning one prompt: each round's pictures and the way back, and the looks."""
    rounds = settings.rounds * BATCH
    looks = (1 + settings.rounds // settings.check_every) * LOOK
    pairs = rounds * (STEPS + 2 * last) + looks * STEPS  # a step of the way back is computed anew, then back through it
    return Calls(pairs, rounds + looks, rounds, (rounds + looks) * views, rounds * views)


def measure(world: World, name: str, category: str, scene: Scene, form: Form, settings: IPGOSettings) -> dict:
    learned = world.learn(scene, form, settings, LAST, FEW)
    fresh, trained = range(1000, 1000 + JUDGED), range(NOISES)
    last, plain = learned.candidates[-1].inserted, world.judged(scene, NO_TOKENS, fresh)
    tokens = world.judged(scene, learned.best.inserted, fresh) if learned.best.rounds else plain
    return {
        "variant": name,
        "category": category,
        "prompt": caption(scene),
        "looks": [{"rounds": one.rounds, "loss": one.loss, "match": one.match} for one in learned.candidates],
        "chosen": learned.best.rounds,
        "plain": plain,
        "tokens": tokens,
        "last": tokens if last is learned.best.inserted else world.judged(scene, last, fresh),
        "trained plain": mean(row["loss"] for row in world.judged(scene, NO_TOKENS, trained)),
        "trained last": mean(row["loss"] for row in world.judged(scene, last, trained)),
        "calls": asdict(learning_calls(settings, LAST, FEW.count)),
    }


def play(tasks: list[tuple], part: str) -> None:
    """Measure what is not on file yet. part: "i/n", one of n processes."""
    torch.set_num_threads(1)
    index, count = map(int, part.split("/"))
    own = RESULTS.with_suffix(f".{index}.jsonl")
    known = {(row["variant"], row["prompt"]) for row in rows(RESULTS) + rows(own)}
    world = World()
    for name, category, scene, form, settings in tasks[index::count]:
        if (name, caption(scene)) in known:
            continue
        row = measure(world, name, category, scene, form, settings)
        with own.open("a") as file:
            file.write(json.dumps(row) + "\n")
        rates = [sum(one["right"] for one in row[key]) for key in ("plain", "tokens", "last")]
        print(f"{name}, {row['prompt']}: right {rates} of {JUDGED}, chosen after {row['chosen']}", flush=True)


def share(pictures: list[dict]) -> float:
    return mean(one["right"] for one in pictures)


def best_at(row: dict, n: float) -> float:
    """The share right of the best of n plain pictures, at most of those there are."""
    return spend(row["plain"], min(n, JUDGED - 1))


def report(found: list[dict]) -> str:
    """Tables in Markdown."""
    own = [row for row in found if row["variant"] == BASE]
    lines = [f"{len(own)} held-out prompts, {JUDGED} noises each that had no part in learning.", ""]
    fell = mean(row["trained last"] < row["trained plain"] for row in own)
    lines.append(f"The referee's loss on the trained noises fell for {100 * fell:.0f} % of the prompts.")
    lines += ["", "| prompts | plain | tokens as chosen | difference, 95 % interval | tokens of the last round |"]
    lines.append("|---|---|---|---|---|")
    for category in ("all", *CATEGORIES):
        some = [row for row in own if category in ("all", row["category"])]
        if not some:
            continue
        rates = [{(row["prompt"],): share(row[key]) for row in some} for key in ("plain", "tokens", "last")]
        difference, half, _ = paired(rates[1], rates[0])
        plain, tokens, last = (100 * mean(rate.values()) for rate in rates)
        interval = f"{100 * difference:+.1f} ± {100 * half:.1f}"
        lines.append(f"| {category} ({len(some)}) | {plain:.1f} % | {tokens:.1f} % | {interval} | {last:.1f} % |")
    lines += [
        "",
        "Price of learning, in plain samples, and from how many pictures of one prompt on the tokens give more",
    ]
    lines += ["right ones than the best of as many plain samples as they cost:", ""]
    lines += ["| size | learning | from |", "|---|---|---|"]
    plain_calls = Calls(pairs=STEPS, decodes=1)
    judging = Calls(views=VIEWS.count)
    rate = mean(share(row["tokens"]) for row in own)
    for size in SIZES:
        price = mean(Calls(**row["calls"]).price(size) for row in own) / plain_calls.price(size)
        each = (plain_calls + judging).price(size) / plain_calls.price(size)
        able = (
            m for m in range(1, 100_001) if rate > mean(best_at(row, max(1, (1 + price / m) / each)) for row in own)
        )
        first = next(able, None)
        lines.append(f"| {size.name} | {price:.0f} | {first or 'never'} |")
    variants = dict.fromkeys(row["variant"] for row in found if row["variant"].startswith(ABLATION))
    if variants:
        lines += ["", "Parts of the paper left out, development prompts:", ""]
        lines += ["| variant | prompts | plain | last round | referee's loss on other noises, last round |"]
        lines += ["|---|---|---|---|---|"]
    for name in variants:
        some = [row for row in found if row["variant"] == name]
        plain, last = (100 * mean(share(row[key]) for row in some) for key in ("plain", "last"))
        loss = mean(row["looks"][-1]["loss"] for row in some)
        label = name.removeprefix(ABLATION)
        lines.append(f"| {label} | {len(some)} | {plain:.0f} % | {last:.0f} % | {loss:.2f} |")
    return "\n".join(lines) + "\n"


ABLATION = "ablation: "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "ablate", "report"))
    parser.add_argument("--prompts", type=int, default=0, help="of each category; 0: 10 for a run, 1 for ablations")
    parser.add_argument("--part", default="0/1")
    args = parser.parse_args()
    if args.what == "report":
        found = gather(RESULTS)
        RESULTS.with_suffix(".md").write_text(report(found), encoding="utf-8")
        print(report(found))
        return
    held_out = args.what == "run"
    scenes = [(c, prompts(c, args.prompts or (10 if held_out else 1), held_out)) for c in CATEGORIES]
    by_turns = [(c, own[i]) for i in range(len(scenes[0][1])) for c, own in scenes]
    if held_out:
        tasks = [(BASE, c, scene, PAPER, LEARNING) for c, scene in by_turns]
    else:
        forms = {ABLATION + name: (form, LEARNING) for name, form in VARIANTS.items()}
        forms[ABLATION + UNBOUND] = (PAPER, replace(LEARNING, conformity=0.0))
        tasks = [(name, c, scene, *how) for c, scene in by_turns for name, how in forms.items()]
    play(tasks, args.part)


if __name__ == "__main__":
    main()
