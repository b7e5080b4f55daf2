"""What the rows of a run say: the share of right pictures against cost, with intervals, paired by prompt."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)


def wilson(right: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's score; ``right`` may be an expected number."""
    p, n = right / count, count
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def best_of(pictures: Sequence[dict], n: int) -> float:
    """How likely the picture that the referee likes best among ``n`` random ones of these is right."""
    ranked = sorted(pictures, key=lambda row: (row["loss"] is None, row["loss"]))
    chosen = math.comb(len(ranked), n)
    return sum(row["right"] * math.comb(len(ranked) - 1 - i, n - 1) for i, row in enumerate(ranked)) / chosen


def spend(pictures: Sequence[dict], n: float) -> float:
    """``best_of`` for what n pictures cost on average: the whole number below n now, the one above it then."""
    below = math.floor(n)
    share = n - below
    return (1 - share) * best_of(pictures, below) + (share and share * best_of(pictures, below + 1))


def until(attempts: Sequence[dict], stop_at: float) -> tuple[bool, Sequence[dict]]:
    """How a search through these attempts, in this order, ends: whether its picture is right, and which it made."""
    for made, row in enumerate(attempts, start=1):
        if row["match"] is not None and row["match"] >= stop_at:
            return row["right"], attempts[:made]
    return best_of(attempts, len(attempts)) > 0, attempts


def by_prompt(rows: Iterable[dict]) -> dict[tuple[str, str], list[dict]]:
    """The pictures of each (category, prompt), in the order of their seeds."""
    found = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["seed"]):
        found[row["category"], row["prompt"]].append(row)
    return dict(found)


def paired(one: dict[tuple, float], other: dict[tuple, float]) -> tuple[float, float, int]:
    """Mean difference of two methods over the prompts that both have, half its 95 % interval, and their number."""
    differences = [one[key] - other[key] for key in one.keys() & other.keys()]
    n = len(differences)
    mean = sum(differences) / n
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / max(n - 1, 1))
    return mean, Z * spread / math.sqrt(n), n
