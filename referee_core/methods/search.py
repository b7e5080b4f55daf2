"""Search until it obeys: sample seed after seed, let the referee judge each picture, stop at the first that matches.

Rejection sampling, or best of N where nothing matches: the oldest way to make a sampler obey, and the rival by which
every other method is measured. The attempts are independent of each other; attempt i has the seed ``seed + i`` for all
its randomness, so it comes out as it would alone.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from ..augment import PAPER, Augmentation
from ..losses import MicroBatch, RefereeLoss, expected_loss
from ..randomness import generators

PURPOSES = ("finished", "predicted")  # each judgement of an attempt has views of its own
OWN_SEEDS = 2**62  # added to the seeds of the views: the same seed may draw views inside the sampler too


VIEWS = replace(PAPER, count=8, rotation=10.0, translation=0.05, perspective=0.1, colour=0.05, erasing=0.0)
"""Views for judging: enough of them to leave no hold for specks, each gentle enough that a right picture matches in it.
Of the demo's 5120 plain held-out pictures, 1305 of 1733 right ones and 91 of 3387 wrong ones matched with 0.9 over them
(`python -m benchmarks.obedience`). The paper's views hide parts of a picture, so that few right ones match."""


@dataclass(frozen=True)
class SearchSettings:
    """When the search ends, and what it gives up.

    Attributes:
        attempts: seeds tried, at most.
        keep: how many of the best keep their pictures.
        stop_at: end as soon as one matches with this probability; 0: never.
        prune_at: share of an attempt's steps after which its predicted picture is judged, and the attempt given up
            unless it is worth to go on with; 0: never.
    """

    attempts: int = 8
    keep: int = 1
    stop_at: float = 0.9
    prune_at: float = 0.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.keep < 1:
            raise ValueError(f"attempts and keep must be at least 1, got {self.attempts} and {self.keep}")
        if not (0 <= self.stop_at <= 1 and 0 <= self.prune_at < 1):
            raise ValueError("stop_at must lie between 0 and 1, and prune_at from 0 to below 1")

    def looks_after(self, steps: int) -> int:
        """After how many of an attempt's steps its predicted picture is judged; 0: never."""
        return min(max(1, round(self.prune_at * steps)), steps - 1) if self.prune_at else 0


@dataclass(frozen=True)
class Verdict:
    """What the referee says of a picture: the loss (not finite where the picture is not), its unweighted terms by name,
    and the probability of a match, None where the loss has no such term."""

    loss: float
    terms: dict[str, float]
    match: float | None

    def obeys(self, stop_at: float) -> bool:
        """Whether it matches with this probability; 0 is no goal."""
        return stop_at > 0 and self.match is not None and self.match >= stop_at

    @property
    def rank(self) -> float:
        """The loss, infinite where it is not finite: lower is better."""
        return self.loss if math.isfinite(self.loss) else math.inf


@dataclass
class Attempt:
    """One seed.

    Attributes:
        index: counted from 0. predicted: the verdict on the way, if there was one.
        verdict: of the finished picture; None where the attempt was given up.
        picture: as the sampler made it; of the best ``keep`` so far only.
    """

    index: int
    seed: int
    predicted: Verdict | None = None
    verdict: Verdict | None = None
    picture: Any = None


class Tried(list[Attempt]):
    """All attempts so far, in their order.

    Attributes:
        best: the finished ones that keep their pictures, best first (see ``ranking``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.best: list[Attempt] = []

    def rank(self, attempt: Attempt, stop_at: float, keep: int) -> None:
        """Take in a finished attempt; who is no longer among the best loses its picture."""
        insort(self.best, attempt, key=lambda a: _order(a, stop_at))
        for worse in self.best[keep:]:
            worse.picture = None
        del self.best[keep:]


GoesOn = Callable[[Any], bool]


class Sample(Protocol):
    def __call__(self, seeds: Sequence[int], goes_on: GoesOn | None) -> Generator[Any, None, None]:
        """The finished pictures of these seeds in their order, as they become ready; what is not asked for any more
        need not be made.

        goes_on: if there is one, to be asked with the predicted picture of the attempt that is next to come out. Where
            it says no, the attempt may end at once, and None takes the picture's place.
        """


Judge = Callable[[Any, torch.Generator], Verdict]


def better_half(predicted: float, earlier: Sequence[float]) -> bool:
    """Whether to go on with an attempt: its predicted picture's loss is in the better half of those seen so far, itself
    included. The first always goes on, and so does each that is the best so far; in the long run every second.

    earlier: in rising order."""
    return bisect_left(earlier, predicted) <= len(earlier) // 2


def search(
    sample: Sample,
    judge: Judge,
    settings: SearchSettings,
    seed: int,
    worth: Callable[[float, Sequence[float]], bool] = better_half,
) -> Iterator[Tried]:
    """Yield all attempts so far, each time one more is done.

    Args:
        judge: of a picture, with the generator of its random views.
        worth: the rule for giving up, from the predicted pictures' losses: this attempt's, and the earlier ones' in
            rising order. With one that always says yes, ``predicted`` beside ``verdict`` shows what a rule could know.
    """
    tried = Tried()
    predicted: list[float] = []
    seeds = [(seed + i) % 2**64 for i in range(settings.attempts)]

    def own_views(attempt: Attempt, purpose: str) -> torch.Generator:
        return generators([attempt.seed + OWN_SEEDS], PURPOSES)[purpose][0]

    def goes_on(picture: Any) -> bool:
        this = tried[-1]
        this.predicted = judge(picture, own_views(this, "predicted"))
        worthy = worth(this.predicted.rank, predicted)
        insort(predicted, this.predicted.rank)
        return worthy

    with closing(sample(seeds, goes_on if settings.prune_at else None)) as pictures:
        for index, own in enumerate(seeds):
            this = Attempt(index, own)
            tried.append(this)
            this.picture = next(pictures)
            if this.picture is not None:
                this.verdict = judge(this.picture, own_views(this, "finished"))
                tried.rank(this, settings.stop_at, settings.keep)
            yield tried
            if obeys(this, settings.stop_at):
                return


def obeys(attempt: Attempt, stop_at: float) -> bool:
    return attempt.verdict is not None and attempt.verdict.obeys(stop_at)


def ranking(attempts: Sequence[Attempt], stop_at: float) -> list[Attempt]:
    """The finished attempts, best first: the one that the search stopped at, then by loss; what is not finite last."""
    return sorted((a for a in attempts if a.verdict), key=lambda a: _order(a, stop_at))


def _order(attempt: Attempt, stop_at: float) -> tuple[bool, float, int]:
    rank = math.inf if attempt.verdict is None else attempt.verdict.rank
    return not obeys(attempt, stop_at), rank, attempt.index


def judge_views(
    loss: RefereeLoss, image: torch.Tensor, augmentation: Augmentation, generator: torch.Generator, at_once: int = 0
) -> Verdict:
    """The verdict on an image [1, 3, H, W] in [0, 1]: the mean over random views, ``at_once`` of them at a time (0: all
    together). An image that is not finite is not judged."""
    if not image.isfinite().all():
        return Verdict(math.nan, {}, None)
    total, terms = expected_loss(loss, image, augmentation, [generator], MicroBatch(at_once), gradients=False)
    found = loss.match(terms)
    match = float(found) if found is not None and found.isfinite() else None
    return Verdict(float(total), {name: float(value) for name, value in terms.items()}, match)
