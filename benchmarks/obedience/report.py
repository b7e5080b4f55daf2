"""Tables and a plot of a run.

Beside each method as it is, a plan may search with it, or try the baseline first.
"""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from .curve import best_of, by_prompt, paired, spend, until, wilson
from .prompts import CATEGORIES

OVERALL = "all"
STOP_AT = 0.9  # as RefereeSearch does unless told otherwise
BEST, SEARCH, AFTER = WAYS = ("best of", "search, at most", "after a search of at most")
LINES = {BEST: "--", SEARCH: "-", AFTER: ":"}


class Plan(NamedTuple):
    """A way to spend attempts.

    Attributes:
        way: one of WAYS, with ``n`` attempts.
        outcomes: of each (category, prompt): how likely its picture is right, and the pictures made for it.
    """

    method: str
    way: str
    n: int
    outcomes: dict[tuple[str, str], tuple[float, list[dict]]]

    def mean(self, what: str) -> float:
        """Of a prompt's pictures together."""
        return sum(row[what] for _, made in self.outcomes.values() for row in made) / len(self.outcomes)

    @property
    def right(self) -> dict[tuple[str, str], float]:
        return {key: float(right) for key, (right, _) in self.outcomes.items()}

    def only(self, category: str) -> "Plan":
        return self._replace(outcomes={k: v for k, v in self.outcomes.items() if category in (k[0], OVERALL)})


def doublings(most: int) -> list[int]:
    return [2**k for k in range(most.bit_length())]


def pools(rows: Iterable[dict]) -> dict[str, dict[tuple[str, str], list[dict]]]:
    """The pictures of each prompt, by method; as many for each prompt."""
    rows, found = list(rows), {}
    for name in dict.fromkeys(row["method"] for row in rows):
        own = by_prompt(row for row in rows if row["method"] == name)
        fewest = min(map(len, own.values()))
        found[name] = {key: pictures[:fewest] for key, pictures in own.items()}
    return found


def plans(known: dict[str, dict[tuple[str, str], list[dict]]], first: str) -> Iterator[Plan]:
    """What can be told of each method: best of 1, 2, 4 ..., a search with as many attempts at most, and the method for
    what such a search by the first does not find."""
    baseline = known[first]
    for name, own in known.items():
        most = len(next(iter(own.values())))
        for n in doublings(most):
            yield Plan(name, BEST, n, {key: (best_of(p, n), p[:n]) for key, p in own.items()})
        for n in doublings(most)[1:]:
            yield Plan(name, SEARCH, n, {key: until(p[:n], STOP_AT) for key, p in own.items()})
        if own is not baseline:
            both = own.keys() & baseline.keys()
            for n in doublings(len(next(iter(baseline.values())))):
                tried = {key: until(baseline[key][:n] + own[key], STOP_AT) for key in own if key in both}
                yield Plan(name, AFTER, n, tried)


def points(rows: Iterable[dict], baseline: str) -> list[dict]:
    """Each plan in each category and over all: the share of right pictures, and how much more that is than the best of
    as many pictures of the baseline as cost the same (of all there are, where the plan costs more)."""
    known, found = pools(rows), []
    rivals = known[baseline]
    one = next(iter(rivals.values()))
    for plan in plans(known, baseline):
        for category in (*CATEGORIES, OVERALL):
            own = plan.only(category)
            if not own.outcomes:
                continue
            count, right = len(own.outcomes), sum(own.right.values())
            same = min(len(one), max(1, own.mean("tflop") / one[0]["tflop"]))
            rival = {key: spend(p, same) for key, p in rivals.items() if category in (key[0], OVERALL)}
            gain, half, _ = paired(own.right, rival)
            low, high = wilson(right, count)
            found.append({
                "method": plan.method, "way": plan.way, "n": plan.n, "category": category, "prompts": count,
                "right": right / count, "low": low, "high": high, "gain": gain, "gain_half": half, "rival": same,
                "tflop": own.mean("tflop"),
            })  # fmt: skip
    return found


def markdown(found: list[dict]) -> str:
    """One line a plan; shares and gains in per cent, with 95 % intervals."""
    head = ("method", "attempts", "TFLOP", *CATEGORIES, OVERALL, "more than best of N at equal cost")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for key in dict.fromkeys((p["method"], p["way"], p["n"]) for p in found):
        own = {p["category"]: p for p in found if (p["method"], p["way"], p["n"]) == key}
        shares = [
            f"{100 * p['right']:.0f} ({100 * p['low']:.0f}–{100 * p['high']:.0f})" if p else ""
            for p in map(own.get, (*CATEGORIES, OVERALL))
        ]
        every = own[OVERALL]
        gain = f"{round(100 * every['gain']):+d} ± {100 * every['gain_half']:.0f} (N = {every['rival']:.1f})"
        cells = (key[0], f"{key[1]} {key[2]}", f"{every['tflop']:.0f}", *shares, gain)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(by_size: dict[str, list[dict]], path: Path, baseline: str) -> None:
    """The baseline's best of n, and a search with each method; after a search, those of one picture a prompt. A row of
    plots a size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = next(iter(by_size.values()))
    searched = {p["method"] for p in found if p["way"] == SEARCH}
    lines = [
        (baseline, BEST),
        *((name, SEARCH) for name in dict.fromkeys(p["method"] for p in found) if name in searched),
    ]
    lines += [(name, AFTER) for name in dict.fromkeys(p["method"] for p in found) if name not in searched]
    shown = [c for c in (OVERALL, *CATEGORIES) if any(p["category"] == c for p in found)]
    figure, axes = plt.subplots(
        len(by_size), len(shown), figsize=(14, 1 + 3 * len(by_size)), sharey=True, layout="constrained", squeeze=False
    )
    places = [(line, column) for line in range(len(by_size)) for column in range(len(shown))]
    for line, column in places:
        axis, size, category = axes[line][column], list(by_size)[line], shown[column]
        found = by_size[size]
        for colour, (name, way) in enumerate(lines):
            # a search of one attempt is the best of one
            own = [p for p in found if (p["method"], p["category"]) == (name, category)]
            own = [p for p in own if p["way"] == way or (way, p["way"], p["n"]) == (SEARCH, BEST, 1)]
            x, *ys = ([p[k] for p in own] for k in ("tflop", "right", "low", "high"))
            y, low, high = ([100 * value for value in values] for values in ys)
            label = f"{'plain sampling' if name == baseline else name}, {way} n"
            axis.plot(x, y, label=label, color=f"C{colour}", linestyle=LINES[way], marker="o", markersize=4)
            axis.fill_between(x, low, high, color=f"C{colour}", alpha=0.08)
        axis.set(title="" if line else category, xscale="log", xlabel="TFLOP a picture", ylim=(0, 102))
        ticks = [t for t in (30, 100, 300, 1000, 3000, 10000, 30000) if axis.get_xlim()[0] < t < axis.get_xlim()[1]]
        axis.set_xticks(ticks, list(map(str, ticks)))
        axis.set_xticks([], minor=True)
        axis.set_ylabel("" if column else f"{size}\nright pictures, %", fontsize=8)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def alone(found: list[dict]) -> list[dict]:
    """Of these points those of one picture a prompt, the best method first."""
    one = [p for p in found if (p["way"], p["n"]) == (BEST, 1)]
    total = {p["method"]: p["right"] for p in one if p["category"] == OVERALL}
    return sorted(one, key=lambda p: -total[p["method"]])


def write(by_size: dict[str, list[dict]], stem: Path) -> None:
    """stem.csv and stem.md, a table a size; prints the tables."""
    points = [{"size": size, **p} for size, found in by_size.items() for p in found]
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, points[0])
        writer.writeheader()
        writer.writerows(points)
    table = "\n".join(f"## {size}\n\n{markdown(found)}" for size, found in by_size.items())
    stem.with_suffix(".md").write_text(table)
    print(table)
