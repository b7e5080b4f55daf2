"""How well finished images match, without augmentation, and where the numbers go."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from comfy_execution.utils import get_executing_context

from ....referee_core.losses import plain_loss
from ...sockets import LoadedLoss
from ..gradients.memory import load_whole, memory_for

MOST_SAVED = 64
"""Images whose numbers a file carries: each file of a batch carries those of all."""


@dataclass(frozen=True)
class Scores:
    """What the referee says about each image of a batch.

    Attributes:
        losses: NaN or infinity where the image or what the referee made of it is not finite.
        terms: the loss's unweighted parts by name; none where the image is not finite.
        matches: probability of a match, None where the loss has no such term or it is not finite.
        texts: what the images were judged against. matching: names of the terms that say whether one matches.
        origins: how each was made, where that is known: {"seed": 8, "steps": 20}.
    """

    losses: list[float]
    terms: list[dict[str, float]]
    matches: list[float | None]
    texts: list[str]
    matching: Sequence[str] = ()
    origins: Sequence[dict[str, float]] = ()

    def ranking(self) -> list[int]:
        """Indices of the images, lowest loss first; what is not finite comes last."""
        return sorted(range(len(self.losses)), key=lambda i: (not math.isfinite(self.losses[i]), self.losses[i]))

    def verdicts(self, image: int) -> str:
        """Of several texts, how surely the image matches each: "a red circle 0.98 · a blue square 0.31"."""
        terms = self.terms[image]
        found = [(self.texts[int(name.partition(".")[0]) - 1], terms[name]) for name in self.matching if "." in name]
        return " · ".join(f"{text} {math.exp(-loss):.2f}" for text, loss in found)

    def report(self, ranked: bool = False) -> str:
        """One line an image, in the order in which they came: "image 3: loss 1.203 · ...". ranked: best first, as
        "1. image 3: loss 1.203 · ..."."""
        rows = zip(self.losses, self.terms, self.matches, strict=True)
        lines = [f"image {i}: {format_numbers(*row, self.matching)}" for i, row in enumerate(rows, 1)]
        if ranked:
            lines = [f"{rank}. {lines[i]}" for rank, i in enumerate(self.ranking(), 1)]
        return "\n".join([*lines, *number_texts(self.texts)])

    def write_into(self, hidden: Any, display_name: str, order: Sequence[int] | None = None) -> None:
        """Add the numbers to what ComfyUI's save nodes write into the files of this run, beside the workflow:

        {"referee": {"Score Images (#7)": {"text": [...], "images": [{"image": 1, "match": 0.94, "loss": 1.2, ...}]}}}

        Of more than MOST_SAVED images the first ones are written, and how many were "left_out".

        Args:
            hidden: the node's hidden inputs. Nothing is written if they hold no dictionary for the files.
            order: indices of the images that leave the node, in their order; all of them if None.
        """
        if not isinstance(hidden.extra_pnginfo, dict):
            return
        title = title_of(hidden.extra_pnginfo.get("workflow"), str(hidden.unique_id)) or display_name
        nodes = hidden.extra_pnginfo.get("referee")
        if not isinstance(nodes, dict):
            nodes = hidden.extra_pnginfo["referee"] = {}
        key = f"{title} (#{hidden.unique_id})"
        if key not in nodes or not _goes_on_with_a_list():
            nodes[key] = {"text": [], "images": []}
        texts, images = nodes[key]["text"], nodes[key]["images"]
        texts += [text for text in self.texts if text not in texts]
        shown = list(range(len(self.losses)) if order is None else order)
        room = MOST_SAVED - len(images)
        if len(shown) > room:
            nodes[key]["left_out"] = nodes[key].get("left_out", 0) + len(shown) - room
        for i in shown[:room]:
            origin = self.origins[i] if self.origins else {}
            rated = {"match": self.matches[i], "loss": self.losses[i], **self.terms[i]}
            images.append({"image": len(images) + 1, **origin, **{name: _json(value) for name, value in rated.items()}})


def score(loss: LoadedLoss, images: torch.Tensor, after_each: Callable[[], Any] = lambda: None) -> Scores:
    """Judge a batch of images [B, H, W, C], one at a time; transparent ones on white, as a page shows them. Images that
    are not finite are left to the end unjudged."""
    load_whole(list(loss.patchers), [], 0)
    device = loss.patchers[0].load_device
    losses, terms, matches = [], [], []
    for image in images:
        comfy.model_management.throw_exception_if_processing_interrupted()
        total, found, match = torch.tensor(math.nan), {}, None
        if image.isfinite().all():
            with memory_for("judging an image"):
                total, found = plain_loss(loss.loss, _on_white(image)[None].movedim(-1, 1).to(device))
            match = loss.loss.match(found)
        losses.append(float(total))
        terms.append({name: float(value) for name, value in found.items()})
        matches.append(float(match) if match is not None and match.isfinite() else None)
        after_each()
    return Scores(losses, terms, matches, loss.loss.texts(), loss.loss.matching())


def _on_white(image: torch.Tensor) -> torch.Tensor:
    """[H, W, 3 or 4] -> [H, W, 3]; under a transparent pixel may lie any colour."""
    colours, alpha = image[..., :3], image[..., 3:].float()
    return colours * alpha + (1 - alpha) if alpha.shape[-1] else colours


def number_texts(texts: Sequence[str]) -> list[str]:
    """Of several texts, which is which in ``format_numbers``: "text 2: a blue square"."""
    return [f"text {i}: {text}" for i, text in enumerate(texts, 1)] if len(texts) > 1 else []


def format_numbers(loss: float, terms: dict[str, float], match: float | None, matching: Sequence[str] = ()) -> str:
    """As "loss 1.203 · match 0.936 · itm 0.066 · caption 1.137"; of several texts
    "loss 2.514 · match 0.284 · text 1 match 0.936 · text 2 match 0.284"."""
    if not terms:
        return "not finite (NaN or infinity), so it ranks last: the VAE that decoded it may need bf16 or fp32"
    named = {"loss": loss, "match": match}
    for name, value in terms.items():
        text, _, term = name.rpartition(".")
        says_match = bool(text) and name in matching
        named[f"text {text} {'match' if says_match else term}" if text else term] = (
            math.exp(-value) if says_match else value
        )
    return " · ".join(f"{name} {value:.3f}" for name, value in named.items() if value is not None)


def title_of(workflow: Any, node_id: str) -> str:
    """What the user calls a node of the queued graph, also inside subgraphs ("12:3"); "" if it has no name there."""
    try:
        graph, subgraphs = workflow, {s["id"]: s for s in workflow.get("definitions", {}).get("subgraphs", [])}
        for part in node_id.split(":"):
            node = next(n for n in graph["nodes"] if str(n["id"]) == part)
            graph = subgraphs.get(node.get("type"))
        return str(node.get("title") or "")
    except (AttributeError, KeyError, TypeError, StopIteration):  # whoever queues a graph may send anything here
        return ""


def _goes_on_with_a_list() -> bool:
    """Whether ComfyUI calls the node once for each item of a list, and this is not the first one."""
    context = get_executing_context()
    return context is not None and bool(context.list_index)


def _json(value: float | None) -> float | None:
    """JSON knows no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else round(value, 4)
