"""Where the groups of a graph go, so that a window shows them as large as possible."""

from typing import NamedTuple

WINDOW = 1200, 750
"""Pixels, of a window of 1600 x 1000, into which the editor fits a template as it opens it."""
SPACE = 26


class Layout(NamedTuple):
    """How wide and high some groups are together, and where each is (x, y)."""

    width: float
    height: float
    places: list[tuple[float, float]]

    def beside(self, other: "Layout") -> "Layout":
        x = self.width + SPACE
        moved = [(x + a, b) for a, b in other.places]
        return Layout(x + other.width, max(self.height, other.height), self.places + moved)

    def above(self, other: "Layout") -> "Layout":
        y = self.height + SPACE
        moved = [(a, y + b) for a, b in other.places]
        return Layout(max(self.width, other.width), y + other.height, self.places + moved)


def scale_of(width: float, height: float) -> float:
    """The zoom at which the window shows all of it."""
    return min(WINDOW[0] / width, WINDOW[1] / height)


def arrange(sizes: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A place (x, y) for each group (width, height), in reading order: to the right or down."""
    return max(_layouts(sizes), key=lambda layout: scale_of(layout.width, layout.height)).places


def _layouts(sizes: list[tuple[float, float]]) -> list[Layout]:
    """All ways to halve the groups again and again, each half beside the other or above it."""
    if len(sizes) == 1:
        return [Layout(*sizes[0], [(0, 0)])]
    found = []
    for cut in range(1, len(sizes)):
        halves = [(one, other) for one in _layouts(sizes[:cut]) for other in _layouts(sizes[cut:])]
        found += [one.beside(other) for one, other in halves] + [one.above(other) for one, other in halves]
    return found
