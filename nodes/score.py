"""A node that scores images by a referee and keeps the best."""

import torch
from comfy_api.latest import io

from .sockets import CATEGORY, Loss


class RefereeScore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeScore",
            display_name="Score Images",
            category=CATEGORY,
            description="Ranks images by how well they match the text, by the referee and without augmentation, and passes the best "
            "on. The scores are written into images saved later in the same run.",
            search_aliases=["rank images", "blip2 score", "best of batch", "image text score", "top k", "filter images"],
            inputs=[
                io.Image.Input("images", tooltip="A batch of images to judge."),
                Loss.Input("loss", tooltip="What they are judged by: the text and the weights of its terms."),
                io.Int.Input(
                    "keep", default=0, min=0, max=4096, tooltip="How many of the best to pass on; 0: all, only put in order."
                ),
                io.Latent.Input(
                    "latents", optional=True, tooltip="The same images' latents, in the same order; the best of them come out."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
            outputs=[
                io.Image.Output("ranked", tooltip="The best images, best match first."),
                io.Latent.Output("latent", tooltip="Their latents, if latents are connected."),
                io.Float.Output("best_loss", tooltip="Loss of the best image; lower is a better match."),
                io.Float.Output(
                    "scores", is_output_list=True, tooltip="Probability of a match for each image passed on, from 0 to 1."
                ),
                io.String.Output("report", tooltip="The losses of each image, in the order they came in."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, loss, keep, latents=None) -> io.NodeOutput:
        from comfy_execution.graph_utils import ExecutionBlocker

        from .bridge.scoring import score

        if latents is not None and len(latents["samples"]) != len(images):
            raise ValueError(
                f"The input 'latents' holds {len(latents['samples'])} and 'images' {len(images)}: connect the latents that the "
                "images were decoded from."
            )
        scores = score(loss, images)
        scores.write_into(cls.hidden.extra_pnginfo, cls.hidden.unique_id)
        order = torch.tensor(scores.losses).argsort(stable=True)[: keep or None]
        best = ExecutionBlocker(None) if latents is None else {**_rows(latents, order)}
        chosen = [scores.matches[i] for i in order]
        matches = [m if m is not None else 0.0 for m in chosen]
        return io.NodeOutput(images[order.to(images.device)], best, min(scores.losses), matches, scores.report())


def _rows(latents: dict, order: torch.Tensor) -> dict:
    """The chosen images of a LATENT, with what belongs to each of them."""
    count = len(latents["samples"])
    chosen = {}
    for name, value in latents.items():
        if isinstance(value, torch.Tensor) and len(value) == count:
            value = value[order.to(value.device)]
        elif isinstance(value, list) and len(value) == count:
            value = [value[i] for i in order]
        chosen[name] = value
    return chosen
