"""What a user sees on a node while it runs: progress bar, picture, status line, and the numbers of its chart."""

import base64
import io
import time
from collections.abc import Sequence
from typing import TypeVar

import comfy.model_management
import comfy.utils
import torch

from ....referee_core.plots import to_image
from ....referee_core.record import Step
from ..judging.scores import Scores
from .curves import begin, send, server, workflow_id

UPDATES_A_SECOND = 4
PREVIEW_SIZE = 512
KEPT_SIZE = 256  # of the picture for a page that is loaded again
PREVIEW_SHARE = 0.1  # of the time, at most, where a picture has to be decoded for the preview alone


def show_text(node_id: str | None, text: str) -> None:
    """Text on the node. Older ComfyUI versions cannot show it; a node that another node calls has no place for it."""
    send_text = getattr(server(), "send_progress_text", None)
    if send_text is not None and node_id is not None:
        send_text(text, node_id)


def format_time(seconds: float) -> str:
    """As "1:05", or "2:01:05" with hours."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


P = TypeVar("P", bound="Panel")


class Panel:
    """What every run shows on its node: a status line, a picture, a chart and ComfyUI's progress bar.

    A context manager: a run that is cancelled or fails inside says so in its last line.

    Attributes:
        place: where the run is, as "at step 12 of 160".
    Args:
        node_id: the node's path, or None if another node calls it: then ComfyUI's own progress bar is all there is.
        points: along the chart. ticks: of the progress bar.
        extra_pnginfo: what ComfyUI knows about the graph, if anything.
    """

    def __init__(self, node_id: str | None, points: int, ticks: int, extra_pnginfo: dict | None):
        self.node_id = node_id
        self.bar = comfy.utils.ProgressBar(ticks, node_id=node_id)
        self.began = time.monotonic()
        self.unsent: list[dict] = []
        self.place = "before the first step"
        self.run = None if node_id is None else begin(workflow_id(extra_pnginfo), node_id, points)

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if error is not None:
            cancelled = isinstance(error, comfy.model_management.InterruptProcessingException)
            self.show(f"{'cancelled' if cancelled else 'failed'} {self.place}")
        if self.run is not None:
            send(self.run, [], running=False)

    @property
    def finish_asked(self) -> bool:
        """Whether the user wants the run to end now, with the best so far."""
        return self.run is not None and self.run["finish"]

    def left(self, done: float, all_in_all: float) -> str:
        """As "0:52 left"."""
        return f"{format_time((time.monotonic() - self.began) / done * (all_in_all - done))} left"

    def closing(self) -> str:
        return f"done in {format_time(time.monotonic() - self.began)}"

    def show(self, status: str, picture: torch.Tensor | None = None) -> None:
        """A status line, the picture [B, 3, H, W] if there is a new one, and the rows of the chart not sent yet."""
        show_text(self.node_id, status)
        if self.run is not None:
            news = {"status": status} if picture is None else {"status": status, "picture": encode_as_url(picture)}
            send(self.run, self.unsent, **news)
        self.unsent = []

    def move_bar(self, done: int, ticks: int, images: torch.Tensor | None = None) -> None:
        preview = None if images is None else ("JPEG", to_image(images[0].detach()), PREVIEW_SIZE)
        self.bar.update_absolute(done, ticks, preview)


class Progress(Panel):
    """Shows an optimisation of ``steps`` steps, at most four times a second."""

    def __init__(self, node_id: str | None, steps: int, extra_pnginfo: dict | None):
        super().__init__(node_id, steps, steps, extra_pnginfo)
        self.steps, self.first, self.views = steps, None, 0
        self.last: Step | None = None
        self.next_preview = self.next_rows = 0.0

    def update(self, step: Step) -> None:
        """After each step."""
        now = time.monotonic()
        self.first = step.index if self.first is None else self.first
        self.views = max(self.views, step.views_at_once)
        self.last, self.place = step, f"at step {step.index + 1} of {self.steps}"
        self.unsent.append(make_row(step))
        picture = None
        if now >= self.next_preview:
            picture = step.picture()
            self.next_preview = now + max(1 / UPDATES_A_SECOND, (time.monotonic() - now) / PREVIEW_SHARE)
        if picture is not None or now >= self.next_rows or step.index + 1 == step.steps:
            self.show(self.status(step), picture)
            self.next_rows = now + 1 / UPDATES_A_SECOND
        self.move_bar(step.index + 1, step.steps, picture)

    def finish(self, images: torch.Tensor, scores: Scores | None, notes: Sequence[str] = ()) -> None:
        """Leave the finished picture [B, 3, H, W] on the node, and a line: "done in 0:52 · match 0.94 · loss 1.20 ·
        stopped at step 85 of 160: matched in step 75", with the verdict on each of several texts, and what the user
        should know, below."""
        verdicts = "" if scores is None else scores.verdicts(scores.ranking()[0])
        self.show("\n".join(filter(None, [self.summary(scores), verdicts, *notes])), images)
        self.move_bar(self.steps, self.steps, images)

    def status(self, step: Step) -> str:
        """One line: "step 63/160 · match 0.94 · loss 1.20 · restart in 37 · 0:52 left", of the first image; once the
        end is near "step 76/85 (of 160: matched in step 75)"."""
        planned = f" (of {self.steps}: {step.ending})" if step.ending else ""
        parts = [f"step {step.index + 1}/{step.steps}{planned}"]
        if step.match is not None:
            parts.append(f"match {float(step.match[0]):.2f}")
        total = step.scalars.get("loss", {}).get("loss")
        if total is not None:
            parts.append(f"loss {float(total[0]):.2f}")
        if step.note:
            parts.append(step.note)
        done = step.index + 1 - self.first
        parts.append(self.left(done, done + step.steps - step.index - 1))
        if 0 < step.views_at_once < self.views:
            parts.append(
                f"memory ran out, {step.views_at_once} views at a time: lower views_at_once or the number of views"
            )
        return " · ".join(parts)

    def summary(self, scores: Scores | None) -> str:
        """The closing line; of a batch, the best image's numbers."""
        parts = [self.closing()]
        if scores is not None:
            best = scores.ranking()[0]
            parts += [f"match {scores.matches[best]:.2f}"] if scores.matches[best] is not None else []
            parts.append(f"loss {scores.losses[best]:.2f}")
            parts += [f"best of {len(scores.losses)}: image {best + 1}"] if len(scores.losses) > 1 else []
        if self.last is not None and self.last.index + 1 < self.steps:
            why = self.last.ending or "finished by hand"
            parts.append(f"stopped at step {self.last.index + 1} of {self.steps}: {why}")
        return " · ".join(parts)


def make_row(step: Step) -> dict:
    """One step for the chart, a row of ``curves``: each scalar's mean over the images where it is finite."""
    scalars = {}
    for group, values in step.scalars.items():
        means = {name: float(v[v.isfinite()].double().mean()) for name, v in values.items() if v.isfinite().any()}
        scalars[group] = {name: round(mean, 4) for name, mean in means.items()}
    return {"step": step.index, "marked": step.marked, "scalars": scalars}


def encode_as_url(images: torch.Tensor) -> str:
    """The first of [B, 3, H, W] as a small JPEG."""
    image, file = to_image(images[0].detach().float().nan_to_num()), io.BytesIO()
    image.thumbnail((KEPT_SIZE, KEPT_SIZE))
    image.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
