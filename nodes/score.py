"""A node that scores images by a referee and keeps the best."""

import math
from typing import Any

import torch
from comfy_api.latest import io

from .node import Node
from .sockets import CATEGORY, LoadedLoss, LossSocket


class RefereeScore(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeScore",
            display_name="Score Images",
            category=CATEGORY,
            description="Ranks images by how well they match the text, by the referee and without augmentation, and "
            "passes the best on. The scores are written into images saved later in the same run.",
            search_aliases=[
                "rank",
                "rank images",
                "best of n",
                "best of batch",
                "aesthetic",
                "vlm",
                "blip",
                "blip2 score",
                "image text score",
                "top k",
                "filter images",
            ],
            inputs=[
                io.Image.Input("images", tooltip="A batch of images to judge; transparent ones on white."),
                LossSocket.Input("loss", tooltip="What they are judged by: the text and the weights of its terms."),
                io.Int.Input(
                    "keep",
                    default=0,
                    min=0,
                    max=4096,
                    tooltip="How many of the best to pass on; 0: all, only put in order.",
                ),
                io.Latent.Input(
                    "latents",
                    optional=True,
                    tooltip="The same images' latents, in the same order; the best of them come out.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=[
                io.Image.Output("ranked", tooltip="The best images, best match first."),
                io.Latent.Output("latent", tooltip="Their latents. Needs the input latents."),
                io.Float.Output("best_loss", tooltip="Loss of the best image; lower is a better match."),
                io.Float.Output(
                    "scores",
                    is_output_list=True,
                    tooltip="Probability of a match for each image passed on, from 0 to 1. None without a matching "
                    "loss.",
                ),
                io.String.Output("report", tooltip="The losses of each image, best match first."),
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, loss: LoadedLoss, keep: int, latents: dict | None = None) -> io.NodeOutput:
        from comfy.utils import ProgressBar

        from .bridge.inputs import check_finite, check_images
        from .bridge.judging.scores import score

        check_images("images", images)
        if latents is not None and len(latents["samples"]) != len(images):
            raise ValueError(
                f"The input 'latents' holds {len(latents['samples'])} and 'images' {len(images)}: connect the latents "
                "that the images were decoded from."
            )
        bar = ProgressBar(len(images), node_id=cls.hidden.unique_id)
        scores = score(loss, images, after_each=lambda: bar.update(1))
        ranking = scores.ranking()
        best_loss = scores.losses[ranking[0]]
        if not math.isfinite(best_loss):
            check_finite("images", images)
            raise ValueError(
                "The referee of 'loss' gives no finite number for any of 'images': choose fp32 in Load Referee."
            )
        order = ranking[: keep or None]
        scores.write_into(cls.hidden, "Score Images", order)
        ranked = images[torch.tensor(order, device=images.device)]
        best = NoLatents() if latents is None else _rows(latents, order)
        return io.NodeOutput(ranked, best, best_loss, [scores.matches[i] for i in order], scores.report(ranked=True))


class NoLatents(dict):
    """The LATENT that comes out where none came in. A node that reads it ends the run and says why; ComfyUI's
    ExecutionBlocker would say so in the browser only."""

    def __missing__(self, key: str) -> Any:
        raise ValueError(
            "The output 'latent' of Score Images holds nothing: connect the latents that the images were decoded from "
            "to its input 'latents'."
        )

    def copy(self) -> "NoLatents":
        return self


def _rows(latents: dict, order: list[int]) -> dict:
    """The chosen images of a LATENT, with what belongs to each of them."""
    from .bridge.sampling.latents import rows_that_fit

    count, chosen = len(latents["samples"]), {}
    latents, _ = rows_that_fit(latents)
    for name, value in latents.items():
        if isinstance(value, torch.Tensor) and len(value) == count:
            value = value[torch.tensor(order, device=value.device)]
        elif isinstance(value, list) and len(value) == count:
            value = [value[i] for i in order]
        chosen[name] = value
    return chosen
