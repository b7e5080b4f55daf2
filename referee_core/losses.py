"""What is minimised: referees bound to their texts and weights, in expectation over augmented views."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from .augment import Augmentation
from .interfaces import Referee
from .optimisation import gradient
from .out_of_memory import is_out_of_memory
from .views import at_least_single


@dataclass(frozen=True, eq=False)
class Together:
    """Statements of one text, whose worst counts once more.

    Attributes:
        worst: the weight of the worst one's loss beside the mean of all. weight: of the whole.
    """

    worst: float
    weight: float = 1.0


@dataclass(frozen=True)
class Bound:
    """A referee bound to a text: one referee, one encoded text, and the weight of each of the referee's losses.

    together: the statements that this one belongs to, if any.
    """

    referee: Referee
    text: Any
    weights: dict[str, float]
    together: Together | None = None

    @property
    def active(self) -> dict[str, float]:
        """The weights that are not 0."""
        return {term: weight for term, weight in self.weights.items() if weight}


@dataclass(frozen=True)
class RefereeLoss:
    """A weighted sum of referees' losses: L_y(x) = sum of weight x loss over all that are bound."""

    bound: tuple[Bound, ...]

    def by_referee(self) -> list[tuple[Referee, list[int]]]:
        """Each referee with the indices of its texts, so that it looks at an image once for all its texts."""
        groups: dict[int, tuple[Referee, list[int]]] = {}
        for index, one in enumerate(self.bound):
            groups.setdefault(id(one.referee), (one.referee, []))[1].append(index)
        return list(groups.values())

    def texts(self) -> list[str]:
        """What images are judged against, as the referees read it."""
        return [getattr(one.text, "text", str(one.text)) for one in self.bound]

    def names(self) -> list[str]:
        return [name for i in range(len(self.bound)) for name in self.term_names(i)]

    def term_names(self, index: int) -> list[str]:
        """Names of the active terms; numbered when there are several."""
        prefix = f"{index + 1}." if len(self.bound) > 1 else ""
        return [prefix + term for term in self.bound[index].active]

    def probabilities(self) -> list[str]:
        """The terms that a probability could come from, whatever their weights."""
        return list(dict.fromkeys(p.referee.probability for p in self.bound if p.referee.probability))

    def matching(self) -> list[str]:
        """Names of the terms that give a probability and are to become small; a negative weight pushes away instead."""
        found = []
        for index, one in enumerate(self.bound):
            names = dict(zip(one.active, self.term_names(index), strict=True))
            found += [name for term, name in names.items() if term == one.referee.probability and one.weights[term] > 0]
        return found

    def check_probability(self, stop_at: float) -> None:
        """Raises ValueError if ``stop_at`` asks for a probability that this loss does not give."""
        if stop_at and not self.matching():
            names = " or ".join(f"'{name}'" for name in self.probabilities()) or "another loss"
            raise ValueError(
                f"'stop_at' needs the probability of a match: give {names} a weight above 0, or set it to 0."
            )

    def match(self, terms: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Probability exp(-L) that each image matches its text [B], the least of several; None without such a term."""
        matching = [terms[name] for name in self.matching()]
        return torch.stack(matching).amax(0).neg().exp() if matching else None


def bind(referee: Referee, text: str, **weights: float) -> RefereeLoss:
    """The loss of one referee against one text, e.g. ``bind(blip2, "a red cat", itm=1.0, caption=1.0)``.

    Raises ValueError for an empty text, a term the referee lacks (unless its weight is 0), or when all weights are
    zero.
    """
    unknown = {term for term, weight in weights.items() if weight} - set(referee.terms)
    if unknown:
        raise ValueError(f"this referee has no loss {', '.join(sorted(unknown))}; it offers {', '.join(referee.terms)}")
    if not any(weights.values()):
        raise ValueError(
            "Every weight of this referee loss is 0: give at least one of them a value, or remove the loss."
        )
    return RefereeLoss((Bound(referee, referee.encode(text), dict(weights)),))


def bind_statements(referee: Referee, statements: Sequence[str], worst: float) -> RefereeLoss:
    """The mean of one referee's losses against each statement, and ``worst`` times the largest of them."""
    term = referee.probability or referee.terms[0]
    together, weights = Together(worst), {term: 1 / len(statements)}
    return RefereeLoss(tuple(Bound(referee, referee.encode(text), weights, together) for text in statements))


def combine(losses: Sequence[RefereeLoss], weights: Sequence[float]) -> RefereeLoss:
    """The weighted sum of losses; a loss of weight 0 is left out."""
    bound = []
    for loss, weight in zip(losses, weights, strict=True):
        if weight:
            own = {t: t and replace(t, weight=weight * t.weight) for t in (p.together for p in loss.bound)}
            bound += [
                replace(p, weights={k: weight * w for k, w in p.weights.items()}, together=own[p.together])
                for p in loss.bound
            ]
    if not bound:
        raise ValueError("Every combined referee loss has weight 0: give at least one of them a value.")
    return RefereeLoss(tuple(bound))


Judgement = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""(weighted losses [N], unweighted terms [terms, N], d(sum of losses)/d(views), where gradients are wanted) of what is
bound to one referee."""


@dataclass
class MicroBatch:
    """How many views go through a referee together; 0: all. Halved for the rest of the run when memory runs out."""

    size: int = 0

    def fits(self, views: int) -> int:
        return min(self.size or views, views)


def expected_loss(
    loss: RefereeLoss,
    images: torch.Tensor,
    augmentation: Augmentation,
    generators: Sequence[torch.Generator],
    micro_batch: MicroBatch,
    gradients: bool = True,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L~_y(x) and its backward pass: adds d(sum over images of L~)/d(images) to ``images.grad``.

    Each referee gets its own random views and looks at them once for all its texts, some at a time; their gradients are
    summed at the image, so the result does not depend on how many beyond rounding.

    Args:
        images: [B, 3, H, W], a leaf that requires grad; values outside [0, 1] are clamped straight through.
        generators: one CPU generator an image.
        gradients: False leaves the backward pass out.
    Returns: (L~ [B], each unweighted term's mean over views [B] by name), detached.
    """
    total = at_least_single(images.new_zeros(len(images)))
    terms: dict[str, torch.Tensor] = {}
    for referee, indices in loss.by_referee():
        seen = referee.prepare(images, augmentation.pooled_resize)
        views = torch.cat(
            [augmentation(x.expand(augmentation.count, -1, -1, -1), g) for x, g in zip(seen, generators, strict=True)]
        )
        bound = [loss.bound[i] for i in indices]
        if 0 < augmentation.keep < augmentation.count:
            scores, _, _ = _judge(bound, views.detach(), micro_batch, gradients=False)
            views = views[_hardest(scores, augmentation)]
        kept = len(views) // len(images)
        weighted, values, slopes = _judge(bound, views.detach(), micro_batch, gradients)
        if slopes is not None:
            views.backward(slopes / kept)
        total += weighted.view(len(images), kept).mean(1)
        means = values.view(-1, len(images), kept).mean(2)
        terms.update(zip((name for i in indices for name in loss.term_names(i)), means, strict=True))
    return total, {name: terms[name] for name in loss.names()}


class Slope(NamedTuple):
    """A loss at latents, and the way up.

    Attributes:
        loss: [B]. terms: the unweighted terms [B] by name. g: dL/dz [B, C, ...]. x: the picture [B, 3, H, W].
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]
    g: torch.Tensor
    x: torch.Tensor


def loss_gradient(
    decode: Callable[[torch.Tensor], torch.Tensor],
    z: torch.Tensor,
    loss: RefereeLoss,
    augmentation: Augmentation,
    streams: Sequence[torch.Generator],
    micro_batch: MicroBatch,
) -> Slope:
    """The expected loss of the pictures decoded from z [B, C, ...], and its gradient at z (see ``expected_loss``).

    The backward pass goes through the referee first and then, once, through the decoder: both graphs are never held
    beside those of more views than a micro-batch.
    """
    leaf = z.detach().requires_grad_()
    x = decode(leaf)
    seen = x.detach().requires_grad_()
    total, terms = expected_loss(loss, seen, augmentation, streams, micro_batch)
    return Slope(total, terms, gradient(x, leaf, seen.grad, through="the VAE"), seen.detach())


def _hardest(scores: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """Indices of the ``keep`` views of each image with the highest loss."""
    count, keep = augmentation.count, augmentation.keep
    hardest = scores.view(-1, count).topk(keep, dim=1).indices
    return (hardest + count * torch.arange(len(hardest), device=hardest.device)[:, None]).flatten()


def _weigh(bound: Sequence[Bound], views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted sum [N] over what is bound to one referee, and their unweighted active terms [terms, N]."""
    referee = bound[0].referee
    seen, total, values = referee.encode_images(views), views.new_zeros(()), []
    groups: dict[Together, list[torch.Tensor]] = {}
    found = referee.losses_of_all(seen, [one.text for one in bound], [tuple(one.active) for one in bound])
    for one, losses in zip(bound, found, strict=True):
        own = sum((weight * losses[term] for term, weight in one.active.items()), views.new_zeros(()))
        total = total + own
        values += [losses[term] for term in one.active]
        if one.together is not None:
            groups.setdefault(one.together, []).append(own)
    for group, shares in groups.items():
        each = torch.stack(shares) * (len(shares) / group.weight)
        total = total + group.weight * group.worst * each.amax(0)
    return total, torch.stack(values)


def _judge(bound: Sequence[Bound], views: torch.Tensor, micro_batch: MicroBatch, gradients: bool = True) -> Judgement:
    """The judgement on views, in micro-batches, which are halved when memory runs out."""
    rows = []
    done = 0
    while done < len(views):
        size = micro_batch.fits(len(views))
        row = _judge_at_once(bound, views[done : done + size], gradients, may_fail=size > 1)
        if row is None:
            micro_batch.size = size // 2
        else:
            rows.append(row)
            done += size
    weighted, values, slopes = zip(*rows, strict=True)
    return torch.cat(weighted), torch.cat(values, dim=1), torch.cat(slopes) if gradients else None


def _judge_at_once(bound: Sequence[Bound], views: torch.Tensor, gradients: bool, may_fail: bool) -> Judgement | None:
    """The same for one micro-batch; None if memory ran out. All that was held is free again on return."""
    try:
        with torch.set_grad_enabled(gradients):
            leaf = views.requires_grad_(gradients)
            weighted, values = _weigh(bound, leaf)
            slope = gradient(weighted.sum(), leaf, through="the referee") if gradients else None
        return weighted.detach(), values.detach(), slope
    except RuntimeError as error:
        if not (may_fail and is_out_of_memory(error)):
            raise
        return None


@torch.no_grad()
def plain_loss(loss: RefereeLoss, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L_y(x) of images [B, 3, H, W] in [0, 1] without augmentation: (total [B], terms by name [B])."""
    total = at_least_single(images.new_zeros(len(images)))
    terms: dict[str, torch.Tensor] = {}
    for referee, indices in loss.by_referee():
        weighted, values = _weigh([loss.bound[i] for i in indices], referee.prepare(images))
        total += weighted
        terms.update(zip((name for i in indices for name in loss.term_names(i)), values, strict=True))
    return total, {name: terms[name] for name in loss.names()}
