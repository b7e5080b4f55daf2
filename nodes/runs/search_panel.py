"""What Referee Search shows on its node."""

import math
import time
from collections.abc import Sequence

from ...referee_core.methods.search import Attempt, obeys
from ..bridge.show.panel import UPDATES_A_SECOND, Panel, format_time


class SearchProgress(Panel):
    """Shows a search of ``attempts``, each of so many steps, for a match of ``stop_at`` (0: for the best); the match of
    each is a point of the chart."""

    def __init__(
        self,
        node_id: str | None,
        attempts: int,
        steps: int,
        stop_at: float,
        extra_pnginfo: dict | None,
        variation: float = 0.0,
    ):
        super().__init__(node_id, attempts, attempts * steps, extra_pnginfo)
        self.attempts, self.steps, self.stop_at, self.variation = attempts, steps, stop_at, variation
        self.tried, self.best, self.next_status = 0, None, 0.0

    def step(self, at_once: int, share: float) -> None:
        """So many attempts at once have made this share of their steps."""
        self.place = f"in attempt {self.tried + 1} of {self.attempts}"
        done, now = (self.tried + at_once * share) * self.steps, time.monotonic()
        if now >= self.next_status:
            self.show(self.status(at_once, done))
            self.next_status = now + 1 / UPDATES_A_SECOND
        self.move_bar(int(done), self.attempts * self.steps)

    def sampled(self, attempts: int) -> None:
        """So many attempts in all have been sampled."""
        self.tried = attempts

    def judged(self, attempt: Attempt, best: Attempt | None) -> None:
        """One more attempt is done."""
        self.unsent.append(make_attempt_row(attempt))
        news = best is not self.best
        self.best = best
        done = self.attempts * self.steps if attempt.index + 1 == self.attempts else self.tried * self.steps
        picture = best.picture.image.movedim(-1, 1) if news and best is not None else None
        self.show(self.status(1, done), picture)
        self.move_bar(done, self.attempts * self.steps, picture)

    def finish(self, tried: int, notes: Sequence[str]) -> None:
        """Leave a line: "done in 0:52 · match 0.94 (seed 3) · 5 of 8 attempts", or "no match in 8 attempts · best 0.85
        (seed 3) · 1:30" where the search was for a match and found none."""
        counted = "1 attempt" if tried == 1 else f"{tried} attempts"
        if self.stop_at and not obeys(self.best, self.stop_at):
            best = describe_best(self.best, self.variation).removeprefix("match ")
            text = f"no match in {counted} · best {best} · {format_time(time.monotonic() - self.began)}"
        else:
            text = (
                f"{self.closing()} · {describe_best(self.best, self.variation)} · {tried} of {self.attempts} attempts"
            )
        text += " · finished by hand" if self.finish_asked else ""
        self.show("\n".join(filter(None, [text, *notes])))
        self.move_bar(self.attempts * self.steps, self.attempts * self.steps)

    def status(self, at_once: int, done: float) -> str:
        """One line: "attempt 5/8 · best match 0.94 (seed 3) · 0:52 left"."""
        first, last = min(self.tried + 1, self.attempts), min(self.tried + at_once, self.attempts)
        parts = [f"attempt {first}/{self.attempts}" if first >= last else f"attempts {first}-{last}/{self.attempts}"]
        parts += [f"best {describe_best(self.best)}"] if self.best is not None else []
        return " · ".join([*parts, self.left(done, self.attempts * self.steps)])


def name_seed(seed: int, variation: float) -> str:
    """What makes an attempt's picture again: "seed 3", or "seed 3, variation 0.3"."""
    return f"seed {seed}, variation {variation:g}" if variation else f"seed {seed}"


def describe_best(attempt: Attempt, variation: float = 0.0) -> str:
    """As "match 0.94 (seed 3)", or its loss where there is no match."""
    verdict = attempt.verdict
    number = f"loss {verdict.loss:.2f}" if verdict.match is None else f"match {verdict.match:.2f}"
    return f"{number} ({name_seed(attempt.seed, variation)})"


def make_attempt_row(attempt: Attempt) -> dict:
    """An attempt for the chart: its match, or its loss where there is none; one that was given up is a mark."""
    verdict, scalars = attempt.verdict, {}
    if verdict is not None:
        name, value = ("loss", verdict.loss) if verdict.match is None else ("match", verdict.match)
        scalars = {name: {name: round(value, 4)}} if math.isfinite(value) else {}
    return {"step": attempt.index, "marked": verdict is None, "scalars": scalars}
