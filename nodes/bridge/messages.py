"""What a user sees on a node while it runs."""

import time
from collections.abc import Callable

import comfy.utils
import torch
from server import PromptServer

from ...referee_core.plots import to_image
from ...referee_core.referee_can_play import Step

PREVIEWS_A_SECOND = 4
PREVIEW_SIZE = 512
PREVIEW_SHARE = 0.1  # of the time, at most, where a picture has to be decoded for the preview alone


def show_text(node_id: str, text: str) -> None:
    """Text on the node; older ComfyUI versions cannot show it."""
    send = getattr(PromptServer.instance, "send_progress_text", None)
    if send is not None:
        send(text, node_id)


class Live:
    """Progress bar, picture and status line of a run."""

    def __init__(self, node_id: str, steps: int):
        self.node_id, self.steps = node_id, steps
        self.bar = comfy.utils.ProgressBar(steps, node_id=node_id)
        self.next_preview = 0.0
        self.views = 0

    def update(self, step: Step, decode: Callable[[torch.Tensor], torch.Tensor]) -> None:
        began, picture = time.monotonic(), None
        if began >= self.next_preview:
            picture = step.picture(decode)
            self.views = max(self.views, step.micro_batch)
            crammed = f" · memory ran out: {step.micro_batch} views at a time" if step.micro_batch < self.views else ""
            show_text(self.node_id, status_line(step) + crammed)
            spent = time.monotonic() - began
            self.next_preview = began + max(1 / PREVIEWS_A_SECOND, spent / PREVIEW_SHARE)
        self._show(step.index + 1, picture)

    def finish(self, images: torch.Tensor) -> None:
        """Leave the finished picture [B, 3, H, W] on the node."""
        self._show(self.steps, images)

    def _show(self, done: int, images: torch.Tensor | None) -> None:
        preview = None if images is None else ("JPEG", to_image(images[0].detach()), PREVIEW_SIZE)
        self.bar.update_absolute(done, self.steps, preview)


def status_line(step: Step) -> str:
    parts = [f"step {step.index + 1}/{step.steps}"]
    if step.loss is not None:
        parts.append(f"loss {float(step.loss[0]):.3f} (best {float(step.best_loss[0]):.3f})")
        parts += [f"{name} {float(value[0]):.3f}" for name, value in step.terms.items()]
    return " · ".join(parts)
