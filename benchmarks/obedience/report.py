"""Tables and a plot of a run."""

import csv
from collections.abc import Iterable
from pathlib import Path

from .curve import best_of, by_prompt, wilson
from .prompts import CATEGORIES

OVERALL = "all"


def points(rows: Iterable[dict]) -> list[dict]:
    """Best of 1, 2, 4 ... of every method, in each category and over all."""
    found, names = [], dict.fromkeys(row["method"] for row in rows)
    for name in names:
        prompts = by_prompt(row for row in rows if row["method"] == name)
        fewest = min(len(pictures) for pictures in prompts.values())
        example = next(iter(prompts.values()))[0]
        seconds = sum(p[0]["seconds"] for p in prompts.values()) / len(prompts)
        for category in (*CATEGORIES, OVERALL):
            own = [p for (c, _), p in prompts.items() if category in (c, OVERALL)]
            n = 1
            while own and n <= fewest:
                right = sum(best_of(pictures, n) for pictures in own)
                low, high = wilson(right, len(own))
                found.append({
                    "method": name, "best of": n, "category": category, "prompts": len(own),
                    "right": right / len(own), "low": low, "high": high,
                    "tflop": n * example["tflop"], "seconds": n * seconds,
                })  # fmt: skip
                n *= 2
    return found


def markdown(found: list[dict]) -> str:
    """One line a method and number of tries."""
    lines = [f"| method | best of | TFLOP | s | {' | '.join((*CATEGORIES, OVERALL))} |", "|---" * 9 + "|"]
    for key in dict.fromkeys((p["method"], p["best of"]) for p in found):
        own = {p["category"]: p for p in found if (p["method"], p["best of"]) == key}
        first = next(iter(own.values()))
        shares = [
            f"{100 * p['right']:.0f} ({100 * p['low']:.0f}–{100 * p['high']:.0f})" if p else ""
            for p in map(own.get, (*CATEGORIES, OVERALL))
        ]
        cost = f"{first['tflop']:.0f} | {first['seconds']:.1f}"
        lines.append(f"| {key[0]} | {key[1]} | {cost} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


def plot(found: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(CATEGORIES), figsize=(12, 3.2), sharey=True, layout="constrained")
    for axis, category in zip(axes, CATEGORIES, strict=True):
        for name in dict.fromkeys(p["method"] for p in found):
            own = [p for p in found if p["method"] == name and p["category"] == category]
            x, y = ([p[k] for p in own] for k in ("tflop", "right"))
            axis.plot(x, [100 * v for v in y], marker="o", markersize=4, label=name)
            low, high = ([100 * p[k] for p in own] for k in ("low", "high"))
            axis.fill_between(x, low, high, alpha=0.15)
        axis.set(title=category, xscale="log", xlabel="TFLOP a picture", ylim=(0, 102))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("right pictures, %")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(rows: list[dict], stem: Path) -> None:
    """stem.csv, stem.md and stem.png; prints the table."""
    if not rows:
        raise SystemExit(f"There are no rows for {stem.name} yet: run it first.")
    found = points(rows)
    with stem.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, found[0])
        writer.writeheader()
        writer.writerows(found)
    table = markdown(found)
    stem.with_suffix(".md").write_text(table)
    plot(found, stem.with_suffix(".png"))
    print(table)
