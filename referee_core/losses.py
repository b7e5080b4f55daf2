"""What is minimised: referees bound to their texts and weights, in expectation over augmented views."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from .augment import Augmentation
from .interfaces import Referee
from .memory import is_out_of_memory
from .referees.pixels import clamp_straight_through, resize


@dataclass(frozen=True)
class Part:
    """One referee, one encoded text, and the weight of each of the referee's losses."""

    referee: Referee
    text: Any
    weights: dict[str, float]


@dataclass(frozen=True)
class RefereeLoss:
    """A weighted sum of referees' losses: L_y(x) = sum of weight x loss over all parts."""

    parts: tuple[Part, ...]

    def names(self) -> list[str]:
        return [name for i in range(len(self.parts)) for name in self.term_names(i)]

    def term_names(self, index: int) -> list[str]:
        """Names of a part's active terms; numbered when there are several parts."""
        prefix = f"{index + 1}." if len(self.parts) > 1 else ""
        return [prefix + term for term, weight in self.parts[index].weights.items() if weight]

    def matching(self) -> list[str]:
        """Names of the matching terms that are to become small; a negative weight pushes away instead."""
        wanted = [i for i, part in enumerate(self.parts) if part.weights.get("itm", 0) > 0]
        return [name for i in wanted for name in self.term_names(i) if name.split(".")[-1] == "itm"]

    def match(self, terms: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Probability exp(-L_itm) that each image matches its text [B], the least of several; None without that term."""
        itm = [terms[name] for name in self.matching()]
        return torch.stack(itm).amax(0).neg().exp() if itm else None


def bind(referee: Referee, text: str, **weights: float) -> RefereeLoss:
    """The loss of one referee against one text, e.g. ``bind(blip2, "a red cat", itm=1.0, caption=1.0)``.

    Raises ValueError for an empty text, a term the referee lacks (unless its weight is 0), or when all weights are zero.
    """
    unknown = {term for term, weight in weights.items() if weight} - set(referee.terms)
    if unknown:
        raise ValueError(f"this referee has no loss {', '.join(sorted(unknown))}; it offers {', '.join(referee.terms)}")
    if not any(weights.values()):
        raise ValueError(
            "Every weight of this referee loss is 0: give at least one of them a value, or remove the loss."
        )
    return RefereeLoss((Part(referee, referee.encode(text), dict(weights)),))


def combine(losses: Sequence[RefereeLoss], weights: Sequence[float]) -> RefereeLoss:
    """The weighted sum of losses; a loss of weight 0 is left out."""
    parts = []
    for loss, weight in zip(losses, weights, strict=True):
        if weight:
            parts += [replace(p, weights={k: weight * w for k, w in p.weights.items()}) for p in loss.parts]
    if not parts:
        raise ValueError("Every combined referee loss has weight 0: give at least one of them a value.")
    return RefereeLoss(tuple(parts))


def judge_views(part: Part, views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One part's weighted sum [N] and its unweighted active terms [terms, N]."""
    active = {name: weight for name, weight in part.weights.items() if weight}
    losses = part.referee.losses(views, part.text, tuple(active))
    total = sum(weight * losses[name] for name, weight in active.items())
    return total, torch.stack([losses[name] for name in active])


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
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L~_y(x) and its backward pass: adds d(sum over images of L~)/d(images) to ``images.grad``.

    Views go through the referee some at a time; their gradients are summed at the image, so the result does not depend
    on how many beyond rounding.

    Args:
        images: [B, 3, H, W], a leaf that requires grad; values outside [0, 1] are clamped straight through.
        generators: one CPU generator an image.
    Returns: (L~ [B], each unweighted term's mean over views [B] by name), detached.
    """
    total, terms = images.new_zeros(len(images)), {}
    for index, part in enumerate(loss.parts):
        seen = resize(clamp_straight_through(images), part.referee.image_size, augmentation.pooled_resize)
        views = torch.cat(
            [augmentation(x.expand(augmentation.count, -1, -1, -1), g) for x, g in zip(seen, generators, strict=True)]
        )
        if 0 < augmentation.keep < augmentation.count:
            scores, _, _ = _judge(part, views.detach(), micro_batch, gradients=False)
            views = views[_hardest(scores, augmentation)]
        kept = len(views) // len(images)
        weighted, values, gradients = _judge(part, views.detach(), micro_batch)
        views.backward(gradients / kept)
        total += weighted.view(len(images), kept).mean(1)
        means = values.view(-1, len(images), kept).mean(2)
        terms.update(zip(loss.term_names(index), means, strict=True))
    return total, terms


def _hardest(scores: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """Indices of the ``keep`` views of each image with the highest loss."""
    count, keep = augmentation.count, augmentation.keep
    hardest = scores.view(-1, count).topk(keep, dim=1).indices
    return (hardest + count * torch.arange(len(hardest), device=hardest.device)[:, None]).flatten()


def _judge(part: Part, views: torch.Tensor, micro_batch: MicroBatch, gradients: bool = True) -> tuple:
    """(weighted losses [N], unweighted terms [terms, N], d(sum of losses)/d(views)) in micro-batches, which are halved when
    memory runs out."""
    rows = []
    done = 0
    while done < len(views):
        size = micro_batch.fits(len(views))
        row = _judge_at_once(part, views[done : done + size], gradients, may_fail=size > 1)
        if row is None:
            micro_batch.size = size // 2
        else:
            rows.append(row)
            done += size
    weighted, values, slopes = zip(*rows, strict=True)
    return torch.cat(weighted), torch.cat(values, dim=1), torch.cat(slopes) if gradients else None


def _judge_at_once(part: Part, views: torch.Tensor, gradients: bool, may_fail: bool) -> tuple | None:
    """The same for one micro-batch; None if memory ran out. All that was held is free again on return."""
    try:
        with torch.set_grad_enabled(gradients):
            leaf = views.requires_grad_(gradients)
            weighted, values = judge_views(part, leaf)
            slope = torch.autograd.grad(weighted.sum(), leaf)[0] if gradients else None
        return weighted.detach(), values.detach(), slope
    except RuntimeError as error:
        if not (may_fail and is_out_of_memory(error)):
            raise
        return None


@torch.no_grad()
def plain_loss(loss: RefereeLoss, images: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """L_y(x) of images [B, 3, H, W] in [0, 1] without augmentation: (total [B], terms by name [B])."""
    total, terms = images.new_zeros(len(images)), {}
    for index, part in enumerate(loss.parts):
        weighted, parts = judge_views(part, resize(images.clamp(0, 1), part.referee.image_size, pooled=False))
        total += weighted
        terms.update(zip(loss.term_names(index), parts, strict=True))
    return total, terms
