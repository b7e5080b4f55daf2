"""How well finished images match, without augmentation, and where the numbers go."""

from dataclasses import dataclass

import torch

from ...referee_core.losses import plain_loss
from ..sockets import LoadedLoss
from .memory import load_whole, memory_for


@dataclass(frozen=True)
class Scores:
    """Per image: the loss, its terms, and the probability of a match (None where the loss has no such term)."""

    losses: list[float]
    terms: list[dict[str, float]]
    matches: list[float | None]

    def report(self) -> str:
        """One line an image."""
        lines = []
        for i, (loss, terms, probability) in enumerate(zip(self.losses, self.terms, self.matches, strict=True)):
            head = f"image {i + 1}: loss {loss:.3f}" + ("" if probability is None else f" · match {probability:.3f}")
            lines.append(" · ".join([head, *(f"{name} {value:.3f}" for name, value in terms.items())]))
        return "\n".join(lines)

    def write_into(self, extra_pnginfo: dict | None, node_id: str) -> None:
        """Add the numbers to what ComfyUI's save nodes write into the files of this run, beside the workflow."""
        if extra_pnginfo is not None:
            rows = [
                {"loss": loss, "match": m, **terms}
                for loss, m, terms in zip(self.losses, self.matches, self.terms, strict=True)
            ]
            rounded = [{k: v if v is None else round(v, 4) for k, v in row.items()} for row in rows]
            extra_pnginfo.setdefault("referee", {})[node_id] = rounded


def score(loss: LoadedLoss, images: torch.Tensor) -> Scores:
    """Judge a batch of images [B, H, W, C], one at a time."""
    load_whole(list(loss.patchers), [], 0)
    device = loss.patchers[0].load_device
    found = []
    for image in images:
        with memory_for("judging an image"):
            total, terms = plain_loss(loss.loss, image[None, ..., :3].movedim(-1, 1).to(device))
        probability = loss.loss.match(terms)
        found.append(
            (
                float(total),
                {name: float(value) for name, value in terms.items()},
                None if probability is None else float(probability),
            )
        )
    return Scores(*(list(column) for column in zip(*found, strict=True)))
