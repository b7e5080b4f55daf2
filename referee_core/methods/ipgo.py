"""IPGO: tokens around a prompt that a referee writes (Ye, Wedel, Zhang, *Indirect Prompt Gradient Optimization*, arXiv
2503.21812), for one prompt or, as IPGO+, for many.

The gradient goes from the referee through the decoder and the last K of N sampling steps to the tokens' parameters
(prompt_tokens.py); prompt and diffusion model stay as they are. What comes out is chosen on noises that were not
trained, and no tokens at all are among the candidates.
"""

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import mean, stdev
from typing import NamedTuple

import torch

from ..augment import Augmentation
from ..interfaces import NoiseLevel
from ..losses import MicroBatch, RefereeLoss, expected_loss, loss_gradient
from ..optimisation import checked_norm
from ..prompt_tokens import NO_TOKENS, Form, Inserted, PromptTokens, conformity
from ..randomness import generators, randn_like
from ..record import LOSS, NORM, SCHEDULE, Step
from ..sampling import Path, Predict

PURPOSES = ("parameters", "views", "held-out views")


@dataclass(frozen=True)
class Subject:
    """A prompt that the tokens are for.

    Attributes:
        prompt: encoded [1, L, d]. loss: the referee's, for its text.
        condition: the diffusion model under this prompt with tokens around it, with classifier-free guidance; gradients
            pass from its predictions to the tokens.
    """

    prompt: torch.Tensor
    loss: RefereeLoss
    condition: Callable[[Inserted], Predict]


@dataclass(frozen=True)
class Sampling:
    """How pictures are made. levels: of each step. last: K. ancestral: with fresh noise after each step."""

    levels: Sequence[NoiseLevel]
    last: int = 2
    ancestral: bool = False

    def path(self, predict: Predict, start: "Start", last: int) -> Path:
        return Path(predict, start.x, self.levels, last, start.fresh if self.ancestral else None)


@dataclass(frozen=True)
class Start:
    """Where pictures begin: noise x [B, ...] of the first level, and the fresh noise after each step."""

    x: torch.Tensor
    fresh: Sequence[torch.Tensor]

    @classmethod
    def draw(cls, noise: torch.Tensor, sampling: Sampling, streams: Sequence[torch.Generator]) -> "Start":
        """From normal noise [B, ...]; image i's fresh noise from streams[i]."""
        first = sampling.levels[0]
        count = len(sampling.levels) - 1 if sampling.ancestral else 0
        return cls(first.sigma.to(noise) * noise, [randn_like(noise, streams) for _ in range(count)])


@dataclass(frozen=True)
class IPGOSettings:
    """How the tokens are learned; the paper's numbers.

    Attributes:
        rounds: of Adam, each with all pictures of one subject. lr: falls by ``decay`` every ``period`` rounds.
        clip: the gradient's greatest length. conformity: the weight of P.
        check_every: rounds between looks at pictures of other noises. patience: looks without a better one before the
            end; 0: never. stop_at: the match of those pictures, in the mean, that ends the run; 0: never.
    """

    rounds: int = 50
    lr: float = 1e-3
    decay: float = 0.9
    period: int = 10
    clip: float = 1.0
    conformity: float = 1e-3
    check_every: int = 10
    patience: int = 0
    stop_at: float = 0.0
    micro_batch: int = 0


class Look(NamedTuple):
    """What the referee says of pictures of other noises: the loss of each, its match if it has one; and those of the
    first subject [B, 3, H, W]."""

    losses: list[float]
    matches: list[float]
    x: torch.Tensor


@dataclass(frozen=True)
class Candidate:
    """Tokens as they were after so many rounds, and what the referee says of pictures that were not trained: of each
    the loss, and its match if it has one."""

    rounds: int
    inserted: Inserted
    losses: Sequence[float]
    matches: Sequence[float]

    @property
    def loss(self) -> float:
        return mean(self.losses)

    @property
    def match(self) -> float | None:
        return mean(self.matches) if self.matches else None

    @property
    def scores(self) -> Sequence[float]:
        """Of each picture, higher is better: the match, whose mean says how many are right. Without it the loss, whose
        mean says more of how wrong the wrong ones are."""
        return self.matches or [-loss for loss in self.losses]

    def beats(self, other: "Candidate") -> bool:
        """Whether it is better by more than one standard error of the paired differences."""
        differences = [a - b for a, b in zip(self.scores, other.scores, strict=True)]
        error = stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
        return mean(differences) > error


@dataclass
class Learned:
    """What a run has found so far.

    Attributes:
        candidates: each look, the first without tokens. best: of those that beat the plain prompt the one with the
            highest mean score; the plain prompt where none does.
        plain_x, x: the pictures [B, 3, H, W] of the look without tokens, of the best one; of the first subject.
    """

    candidates: list[Candidate] = field(default_factory=list)
    plain_x: torch.Tensor | None = None
    x: torch.Tensor | None = None

    def add(self, rounds: int, inserted: Inserted, look: "Look") -> None:
        self.candidates.append(Candidate(rounds, inserted, look.losses, look.matches))
        self.plain_x = look.x if self.plain_x is None else self.plain_x
        self.x = look.x if self.best is self.candidates[-1] else self.x

    @property
    def plain(self) -> Candidate:
        return self.candidates[0]

    @property
    def best(self) -> Candidate:
        able = [self.plain, *(one for one in self.candidates[1:] if one.beats(self.plain))]
        return max(able[1:] or able, key=lambda one: mean(one.scores))

    @property
    def stale(self) -> int:
        """Looks since the best one."""
        return len(self.candidates) - 1 - self.candidates.index(self.best)


def ipgo(
    trained: Sequence[Subject],
    held_out: Sequence[Subject],
    starts: Sequence[Start],
    looks: Sequence[Start],
    sampling: Sampling,
    decode: Callable[[torch.Tensor], torch.Tensor],
    augmentation: Augmentation,
    form: Form,
    settings: IPGOSettings,
    seed: int,
    learned: Learned,
) -> Generator[Step, None, None]:
    """Learn tokens for the trained subjects, in turn; yields each round. ``learned`` takes down the candidates.

    Args:
        held_out: subjects of the looks, for one prompt the same. starts: the trained noises, one batch
            a round in turn. looks: the noises of each look, in batches.
    """
    s, device = settings, looks[0].x.device
    streams = generators([seed], PURPOSES)
    (parameters,), (views,), (others,) = (streams[name] for name in PURPOSES)
    tokens = PromptTokens(trained[0].prompt, form, parameters).to(device)
    adam = torch.optim.Adam(tokens.parameters(), lr=s.lr)
    schedule = torch.optim.lr_scheduler.StepLR(adam, s.period, s.decay)
    micro_batch = MicroBatch(s.micro_batch)
    examine = partial(_examine, held_out, looks, sampling, decode, augmentation, others.get_state(), micro_batch)
    learned.add(0, NO_TOKENS, examine(NO_TOKENS))
    end, ending = s.rounds, _reached(learned, s)
    for i in range(end):
        if ending:
            return
        subject = trained[i % len(trained)]
        inserted = tokens()
        start = starts[i // len(trained) % len(starts)]
        path = sampling.path(subject.condition(inserted.detach()), start, sampling.last)
        per_image = generators([int(torch.randint(2**62, (), generator=views)) + k for k in range(len(path.z))], ("",))
        loss, terms, g, x = loss_gradient(decode, path.z, subject.loss, augmentation, per_image[""], micro_batch)
        path.backward(partial(_predict, subject, tokens), g / len(g))
        prompt = subject.prompt.to(device)
        (s.conformity * conformity(prompt, tokens()(prompt))).backward()
        length = torch.nn.utils.clip_grad_norm_(tokens.parameters(), s.clip)
        step = Step(i, end, _flat(inserted), x.detach, match=subject.loss.match(terms))
        step.scalars[LOSS] = {"loss": loss, **terms}
        step.add(NORM, "referee", checked_norm(length.view(1, 1), "the referee", i, must_move=i == 0))
        step.add(SCHEDULE, "learning rate", schedule.get_last_lr()[0])
        step.views_at_once = micro_batch.fits(augmentation.count * len(g))
        adam.step()
        adam.zero_grad()
        schedule.step()
        if (i + 1) % s.check_every == 0 or i + 1 == end:
            inserted = tokens().detach()
            learned.add(i + 1, inserted, examine(inserted))
            step.add(LOSS, "other noises", learned.candidates[-1].loss)
            ending = _reached(learned, s)
            step.ending, step.marked = ending, learned.best is learned.candidates[-1]
            step.steps = i + 1 if ending else end
        yield step


def _predict(subject: Subject, tokens: PromptTokens, x: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    return subject.condition(tokens())(x, level)


def _examine(
    subjects: Sequence[Subject],
    looks: Sequence[Start],
    sampling: Sampling,
    decode: Callable[[torch.Tensor], torch.Tensor],
    augmentation: Augmentation,
    state: torch.Tensor,
    micro_batch: MicroBatch,
    inserted: Inserted,
) -> Look:
    """What the referee says of pictures that are not trained, by the same views in each look."""
    losses: list[float] = []
    matches: list[float] = []
    shown: list[torch.Tensor] = []
    views = torch.Generator()
    views.set_state(state)
    for subject in subjects:
        for start in looks:
            z = sampling.path(subject.condition(inserted), start, last=0).z
            own = generators([int(torch.randint(2**62, (), generator=views)) for _ in range(len(z))], ("",))[""]
            with torch.no_grad():
                x = decode(z)
            if subject is subjects[0]:
                shown.append(x.float().cpu())
            loss, terms = expected_loss(subject.loss, x, augmentation, own, micro_batch, gradients=False)
            losses += loss.tolist()
            match = subject.loss.match(terms)
            matches += [] if match is None else match.tolist()
    return Look(losses, matches, torch.cat(shown))


def _reached(learned: Learned, s: IPGOSettings) -> str:
    """Why the run has reached what it can, in a word; "" if it has not."""
    last = learned.candidates[-1]
    if s.stop_at > 0 and last.match is not None and last.match >= s.stop_at:
        return "other noises match" if last.rounds else "the prompt alone matches"
    return f"no better for {learned.stale} looks" if 0 < s.patience <= learned.stale else ""


def _flat(inserted: Inserted) -> torch.Tensor:
    return torch.cat([t.detach() for t in inserted.tokens.values()])[None]
