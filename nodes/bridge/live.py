"""What a user sees on a node while it runs: progress bar, picture, status line, and the numbers of its chart."""

import base64
import io
import time
from collections.abc import Callable, Sequence

import comfy.utils
import torch
from server import PromptServer

from ...referee_core.plots import to_image
from ...referee_core.record import Step
from .curves import begin, send, workflow_id
from .scoring import Scores

UPDATES_A_SECOND = 4
PREVIEW_SIZE = 512
KEPT_SIZE = 256  # of the picture for a page that is loaded again
PREVIEW_SHARE = 0.1  # of the time, at most, where a picture has to be decoded for the preview alone


def show_text(node_id: str | None, text: str) -> None:
    """Text on the node. Older ComfyUI versions cannot show it; a node that another node calls has no place for it."""
    send_text = getattr(PromptServer.instance, "send_progress_text", None)
    if send_text is not None and node_id is not None:
        send_text(text, node_id)


def minutes(seconds: float) -> str:
    """As "1:05"."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


class Progress:
    """Shows a run on its node, at most four times a second.

    Args:
        node_id: the node's path, or None if another node calls it: then ComfyUI's own progress bar is all there is.
        steps: how many were asked for.
        extra_pnginfo: what ComfyUI knows about the graph, if anything.
    """

    def __init__(self, node_id: str | None, steps: int, extra_pnginfo: dict | None):
        self.node_id, self.steps = node_id, steps
        self.bar = comfy.utils.ProgressBar(steps, node_id=node_id)
        self.next_preview = self.next_rows = 0.0
        self.began, self.first, self.views = time.monotonic(), None, 0
        self.unsent: list[dict] = []
        self.run = None if node_id is None else begin(workflow_id(extra_pnginfo), node_id, steps)

    def update(self, step: Step, decode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """After each step; ``decode`` gives the picture [B, 3, H, W] of a step that needed none itself."""
        now = time.monotonic()
        self.first = step.index if self.first is None else self.first
        self.views = max(self.views, step.views_at_once)
        self.unsent.append(row(step))
        picture = None
        if now >= self.next_preview:
            picture = step.picture(decode)
            self.next_preview = now + max(1 / UPDATES_A_SECOND, (time.monotonic() - now) / PREVIEW_SHARE)
        if picture is not None or now >= self.next_rows or step.index + 1 == step.steps:
            self._show(self.status(step), picture)
            self.next_rows = now + 1 / UPDATES_A_SECOND
        self._move_bar(step.index + 1, step.steps, picture)

    def finish(self, images: torch.Tensor, scores: Scores | None, notes: Sequence[str] = ()) -> None:
        """Leave the finished picture [B, 3, H, W] on the node, and a line: "done in 0:52 · match 0.94 · loss 1.20",
        with what the user should know below."""
        self._show("\n".join([self.summary(scores), *notes]), images)
        self._move_bar(self.steps, self.steps, images)

    def status(self, step: Step) -> str:
        """One line: "step 63/160 · match 0.94 · loss 1.20 · restart in 37 · 0:52 left", of the first image."""
        parts = [f"step {step.index + 1}/{step.steps}"]
        if step.match is not None:
            parts.append(f"match {float(step.match[0]):.2f}")
        total = step.scalars.get("loss", {}).get("loss")
        if total is not None:
            parts.append(f"loss {float(total[0]):.2f}")
        if step.note:
            parts.append(step.note)
        done = step.index + 1 - self.first
        parts.append(f"{minutes((time.monotonic() - self.began) / done * (step.steps - step.index - 1))} left")
        if 0 < step.views_at_once < self.views:
            parts.append(
                f"memory ran out, {step.views_at_once} views at a time: lower views_at_once or the number of views"
            )
        return " · ".join(parts)

    def summary(self, scores: Scores | None) -> str:
        """The closing line; of a batch, the best image's numbers."""
        parts = [f"done in {minutes(time.monotonic() - self.began)}"]
        if scores is not None:
            best = scores.ranking()[0]
            parts += [f"match {scores.matches[best]:.2f}"] if scores.matches[best] is not None else []
            parts.append(f"loss {scores.losses[best]:.2f}")
            parts += [f"best of {len(scores.losses)}: image {best + 1}"] if len(scores.losses) > 1 else []
        return " · ".join(parts)

    def _show(self, status: str, picture: torch.Tensor | None) -> None:
        show_text(self.node_id, status)
        if self.run is not None:
            news = {"status": status} if picture is None else {"status": status, "picture": data_url(picture)}
            send(self.run, self.unsent, **news)
        self.unsent = []

    def _move_bar(self, done: int, steps: int, images: torch.Tensor | None) -> None:
        preview = None if images is None else ("JPEG", to_image(images[0].detach()), PREVIEW_SIZE)
        self.bar.update_absolute(done, steps, preview)


def row(step: Step) -> dict:
    """One step for the chart, a row of ``curves``: each scalar's mean over the images where it is finite."""
    scalars = {}
    for group, values in step.scalars.items():
        means = {name: float(v[v.isfinite()].double().mean()) for name, v in values.items() if v.isfinite().any()}
        scalars[group] = {name: round(mean, 4) for name, mean in means.items()}
    return {"step": step.index, "marked": step.marked, "scalars": scalars}


def data_url(images: torch.Tensor) -> str:
    """The first of [B, 3, H, W] as a small JPEG."""
    image, file = to_image(images[0].detach().float().nan_to_num()), io.BytesIO()
    image.thumbnail((KEPT_SIZE, KEPT_SIZE))
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
