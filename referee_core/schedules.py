"""Numbers as functions of progress."""

import math
from dataclasses import dataclass

KINDS = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """A value that goes from ``start`` to ``end`` while progress goes from 0 to 1.

    Attributes:
        kind: 'cosine' (half a period), 'linear' or 'constant' (stays at ``start``).
    """

    start: float
    end: float
    kind: str = "cosine"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"schedule kind must be one of {', '.join(KINDS)}, got {self.kind!r}")

    @property
    def is_zero(self) -> bool:
        """Whether the value is 0 in every step."""
        return self.start == 0 and (self.kind == "constant" or self.end == 0)

    def at(self, progress: float) -> float:
        """The value when this share of the run, in [0, 1], is done."""
        share = {"cosine": 0.5 + 0.5 * math.cos(math.pi * progress), "linear": 1 - progress, "constant": 1.0}[self.kind]
        return self.end + (self.start - self.end) * share


def constant(value: float) -> Schedule:
    return Schedule(value, value, "constant")
