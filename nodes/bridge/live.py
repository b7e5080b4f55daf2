"""What a user sees on a node while it runs: progress, picture, status line, and the numbers of the live chart."""

import time
from collections.abc import Callable

import comfy.utils
import torch
from server import PromptServer

from ...referee_core.plots import to_image
from ...referee_core.record import Step
from .curves import begin, send
from .scoring import Scores

UPDATES_A_SECOND = 4
PREVIEW_SIZE = 512
PREVIEW_SHARE = 0.1  # of the time, at most, where a picture has to be decoded for the preview alone


def show_text(node_id: str, text: str) -> None:
    """Text on the node; older ComfyUI versions cannot show it."""
    send = getattr(PromptServer.instance, "send_progress_text", None)
    if send is not None:
        send(text, node_id)


def minutes(seconds: float) -> str:
    """As "1:05"."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


class Live:
    """Progress bar, picture, status line and chart of a run, at most four times a second."""

    def __init__(self, node_id: str, steps: int, extra_pnginfo: dict | None):
        self.node_id, self.steps = node_id, steps
        self.bar = comfy.utils.ProgressBar(steps, node_id=node_id)
        self.next_preview = self.next_chart = 0.0
        self.began, self.first, self.views = time.monotonic(), None, 0
        self.unsent: list[dict] = []
        workflow = (extra_pnginfo or {}).get("workflow") or {}
        self.run = begin(str(workflow.get("id") or ""), node_id, steps)

    def update(self, step: Step, decode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        began, picture = time.monotonic(), None
        self.first = step.index if self.first is None else self.first
        self.unsent.append(numbers(step))
        if began >= self.next_chart or step.index + 1 == step.steps:
            self._send()
            self.next_chart = began + 1 / UPDATES_A_SECOND
        if began >= self.next_preview:
            picture = step.picture(decode)
            show_text(self.node_id, self.status(step))
            spent = time.monotonic() - began
            self.next_preview = began + max(1 / UPDATES_A_SECOND, spent / PREVIEW_SHARE)
        self._show(step.index + 1, step.steps, picture)

    def finish(self, images: torch.Tensor) -> None:
        """Leave the finished picture [B, 3, H, W] on the node."""
        self._show(self.steps, self.steps, images)

    def sum_up(self, scores: Scores | None) -> None:
        """One line: "done in 0:52 · match 0.94 · loss 1.20"; of a batch, the best image's."""
        parts = [f"done in {minutes(time.monotonic() - self.began)}"]
        if scores is not None:
            best = min(range(len(scores.losses)), key=scores.losses.__getitem__)
            parts += [f"match {scores.matches[best]:.2f}"] if scores.matches[best] is not None else []
            parts.append(f"loss {scores.losses[best]:.2f}")
            parts += [f"best of {len(scores.losses)}: image {best + 1}"] if len(scores.losses) > 1 else []
        show_text(self.node_id, " · ".join(parts))

    def status(self, step: Step) -> str:
        """One line: "step 63/160 · match 0.94 · caption 2.10 · restart in 37 · 0:52 left"."""
        parts = [f"step {step.index + 1}/{step.steps}"]
        if step.match is not None:
            parts.append(f"match {float(step.match[0]):.2f}")
        parts += [f"{name} {float(v[0]):.2f}" for name, v in step.terms.items() if name.split(".")[-1] != "itm"]
        if step.restart_in is not None:
            parts.append(f"restart in {step.restart_in}")
        done = step.index + 1 - self.first
        parts.append(f"{minutes((time.monotonic() - self.began) / done * (step.steps - step.index - 1))} left")
        self.views = max(self.views, step.micro_batch)
        if 0 < step.micro_batch < self.views:
            parts.append(
                f"memory ran out, {step.micro_batch} views at a time: lower views_at_once or the number of views"
            )
        return " · ".join(parts)

    def _send(self) -> None:
        send(self.run, self.unsent)
        self.unsent = []

    def _show(self, done: int, steps: int, images: torch.Tensor | None) -> None:
        preview = None if images is None else ("JPEG", to_image(images[0].detach()), PREVIEW_SIZE)
        self.bar.update_absolute(done, steps, preview)


def numbers(step: Step) -> dict:
    """One step for the chart: index, restart, and the mean over the batch of every loss and gradient norm."""
    values = {"loss": step.loss, **step.terms, "referee gradient": step.referee_norm, "SDS gradient": step.sds_norm}
    means = {name: round(float(value.mean()), 4) for name, value in values.items() if value is not None}
    return {"step": step.index, "restart": step.restart, "values": means}
