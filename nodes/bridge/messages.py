"""What a user sees on a node while it runs."""

import time

import comfy.utils
from server import PromptServer

from ...referee_core.plots import to_image
from ...referee_core.referee_can_play import Step

PREVIEWS_A_SECOND = 4
PREVIEW_SIZE = 512


def show_text(node_id: str, text: str) -> None:
    """Text on the node; older ComfyUI versions cannot show it."""
    send = getattr(PromptServer.instance, "send_progress_text", None)
    if send is not None:
        send(text, node_id)


class Live:
    """Progress bar, picture and status line of a run."""

    def __init__(self, node_id: str, steps: int):
        self.node_id = node_id
        self.bar = comfy.utils.ProgressBar(steps, node_id=node_id)
        self.shown_at = 0.0

    def update(self, step: Step) -> None:
        now, preview = time.monotonic(), None
        last = step.index == step.steps - 1
        if now - self.shown_at >= 1 / PREVIEWS_A_SECOND or last:
            self.shown_at = now
            if step.x is not None:
                preview = ("JPEG", to_image(step.x[0].detach()), PREVIEW_SIZE)
            show_text(self.node_id, status_line(step))
        self.bar.update_absolute(step.index + 1, step.steps, preview)


def status_line(step: Step) -> str:
    parts = [f"step {step.index + 1}/{step.steps}"]
    if step.loss is not None:
        parts.append(f"loss {float(step.loss[0]):.3f} (best {float(step.best_loss[0]):.3f})")
        parts += [f"{name} {float(value[0]):.3f}" for name, value in step.terms.items()]
    return " · ".join(parts)
