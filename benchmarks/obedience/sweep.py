"""A plot of what Referee Guidance's strength and end do."""

from pathlib import Path

from .methods import Guiding
from .report import OVERALL

USUAL = Guiding()


def plot(found: list[dict], swept: dict[str, Guiding], path: Path) -> None:
    """found: points of one picture a prompt, among them those of the methods ``swept`` and of plain sampling."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = {p["method"]: p for p in found if p["category"] == OVERALL}
    (plain,) = (p for name, p in points.items() if name not in swept)
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for colour, gradient in enumerate(dict.fromkeys(g.gradient for g in swept.values())):
        own = [(g, points[name]) for name, g in swept.items() if g.gradient == gradient and name in points]
        middle = next(g.share for g, _ in own if g.end != USUAL.end)
        by_share = sorted((g.share, p) for g, p in own if g.end == USUAL.end)
        by_end = sorted((g.end, p) for g, p in own if g.share == middle)
        for axis, line in zip(axes, (by_share, by_end), strict=True):
            x, y = [x for x, _ in line], [100 * p["right"] for _, p in line]
            axis.plot(x, y, marker="o", color=f"C{colour}", label=f"{gradient} (share {middle:g} on the right)")
            low, high = ([100 * p[k] for _, p in line] for k in ("low", "high"))
            axis.fill_between(x, low, high, color=f"C{colour}", alpha=0.12)
    for axis, label in zip(axes, ("strength: share", "end_percent"), strict=True):
        axis.axhline(100 * plain["right"], color="grey", linestyle="--", label="plain sampling")
        axis.set(xlabel=label, ylim=(0, 100))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("right pictures, %")
    axes[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
