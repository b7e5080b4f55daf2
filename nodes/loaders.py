"""Nodes that load referees and the demo's models."""

import folder_paths
from comfy_api.latest import io

from .sockets import CATEGORY, Referee


class RefereeLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeLoader",
            display_name="Load Referee",
            category=CATEGORY,
            description="Loads a vision-language referee from models/referee.",
            search_aliases=["load blip2", "blip-2", "vision language model"],
            inputs=[
                io.Combo.Input(
                    "referee_name",
                    options=folder_paths.get_filename_list("referee"),
                    tooltip="A file in ComfyUI's folder models/referee (or one added in extra_model_paths.yaml). An empty list "
                    "means there is none yet; Load Demo Models needs none.",
                )
            ],
            outputs=[Referee.Output("referee", tooltip="Connect to Referee Loss.")],
        )

    @classmethod
    def execute(cls, referee_name) -> io.NodeOutput:
        from .bridge.referee import load_referee

        return io.NodeOutput(load_referee(folder_paths.get_full_path_or_raise("referee", referee_name)))


class RefereeDemoModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeDemoModels",
            display_name="Load Demo Models",
            category=CATEGORY,
            description="Small models that come with the pack and know one world: one or two coloured shapes at 128x128 pixels. "
            "To see the method work without downloads or a graphics card.",
            search_aliases=["referee demo", "toy models", "coloured shapes"],
            inputs=[],
            outputs=[
                io.Model.Output("model", tooltip="A small diffusion model; works with KSampler."),
                io.Clip.Output("clip", tooltip="Its text encoder; works with CLIP Text Encode."),
                io.Vae.Output("vae", tooltip="Its autoencoder; 128x128 pixels are a 16x16 latent."),
                Referee.Output("referee", tooltip="A small BLIP-2; connect to Referee Loss."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..referee_core.demo.storage import path
        from .bridge.demo import load_clip, load_model, load_vae
        from .bridge.referee import load_referee

        return io.NodeOutput(load_model(), load_clip(), load_vae(), load_referee(path("referee")))
