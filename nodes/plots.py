"""Nodes that show a run."""

from typing import Any

from comfy_api.latest import io

from .sockets import CATEGORY, HistorySocket


def _index() -> io.Int.Input:
    return io.Int.Input(
        "index", default=0, min=0, max=4095, tooltip="Which image of the batch to show, counted from 0."
    )


def _size() -> list:
    return [
        io.Int.Input("columns", default=9, min=1, max=64, tooltip="Pictures in a row."),
        io.Int.Input("size", default=128, min=16, max=2048, tooltip="Width of each picture in pixels."),
    ]


def _shown(picture) -> io.NodeOutput:
    return io.NodeOutput(picture.movedim(0, -1)[None])


class RefereeHistoryPlot(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeHistoryPlot",
            display_name="History Plot",
            category=CATEGORY,
            description="Losses, gradient norms and schedules over the steps; EMA-restarts are dashed lines.",
            search_aliases=["loss plot", "loss curve"],
            inputs=[HistorySocket.Input("history", tooltip="From Referee Optimizer."), _index()],
            outputs=[io.Image.Output("plot", tooltip="The curves as a picture.")],
        )

    @classmethod
    def execute(cls, history: Any, index: int) -> io.NodeOutput:
        from ..referee_core.plots import history_plot

        return _shown(history_plot(history, index))


class RefereeFilmstrip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeFilmstrip",
            display_name="Filmstrip",
            category=CATEGORY,
            description="The picture every few steps, from noise to result (the paper's figures 10 and 11).",
            search_aliases=["evolution", "contact sheet"],
            inputs=[HistorySocket.Input("history", tooltip="From Referee Optimizer."), _index(), *_size()],
            outputs=[
                io.Image.Output("filmstrip", tooltip="All pictures on one sheet."),
                io.Image.Output(
                    "frames", tooltip="The pictures one after another, in full size; for Save Animated WEBP."
                ),
            ],
        )

    @classmethod
    def execute(cls, history: Any, index: int, columns: int, size: int) -> io.NodeOutput:
        from ..referee_core.plots import filmstrip, frames

        sheet = filmstrip(history, index, columns, size).movedim(0, -1)[None]
        return io.NodeOutput(sheet, frames(history, index).movedim(1, -1))


class RefereeGradientView(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeGradientView",
            display_name="Gradient View",
            category=CATEGORY,
            description="The referee's and the prior's gradients as pictures: the first three latent channels (figure "
            "12).",
            search_aliases=["gradient picture"],
            inputs=[HistorySocket.Input("history", tooltip="From Referee Optimizer."), _index(), *_size()],
            outputs=[io.Image.Output("gradients", tooltip="The gradients on one sheet.")],
        )

    @classmethod
    def execute(cls, history: Any, index: int, columns: int, size: int) -> io.NodeOutput:
        from ..referee_core.plots import gradient_view

        return _shown(gradient_view(history, index, columns, size))
