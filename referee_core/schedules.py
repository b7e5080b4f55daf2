"""Numbers as functions of progress."""

import math
from dataclasses import dataclass

KINDS = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """A value that goes from ``start`` to ``end`` while progress goes from 0 to 1.

    Attributes:
        kind: 'cosine' (half a period), 'linear' or 'constant' (stays at ``start``).
        warmup: the first ``warmup`` steps rise linearly to the schedule's value.
    """

    start: float
    end: float
    kind: str = "cosine"
    warmup: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"schedule kind must be one of {', '.join(KINDS)}, got {self.kind!r}")

    @property
    def is_zero(self) -> bool:
        """Whether the value is 0 in every step."""
        return self.start == 0 and (self.kind == "constant" or self.end == 0)

    def at(self, step: int, steps: int) -> float:
        """The value in step ``step`` (counted from 0) of ``steps``."""
        progress = step / steps
        share = {"cosine": 0.5 + 0.5 * math.cos(math.pi * progress), "linear": 1 - progress, "constant": 1.0}[self.kind]
        value = self.end + (self.start - self.end) * share
        return value * min(1.0, (step + 1) / self.warmup) if self.warmup else value


def constant(value: float) -> Schedule:
    return Schedule(value, value, "constant")
