"""Nodes that load referees and the demo's models."""

from dataclasses import replace
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..referee_core.referees import PRECISIONS
from .node import Node
from .sockets import CATEGORY, RefereeSocket

NAME_TOOLTIP = (
    "A file in models/referee: a converted referee, model.safetensors of blip2-itm-vit-g, or blip2_pretrained.pth with "
    "eva_vit_g.pth beside it. Where to get them: docs/referee_files.md of the pack. Load Demo Models needs none."
)
NO_FILE = "models/referee is empty: see (i)"  # short, so that the field shows it whole
"""The only choice where there is no file. Any other name that is missing is ComfyUI's to report."""


def _referee_name() -> io.Combo.Input:
    options = folder_paths.get_filename_list("referee") or [NO_FILE]
    return io.Combo.Input("referee_name", options=options, tooltip=NAME_TOOLTIP)


def _path(referee_name: str) -> str:
    """Raises FileNotFoundError if there is no such file."""
    if referee_name == NO_FILE:
        folder = folder_paths.get_folder_paths("referee")[0]
        raise FileNotFoundError(
            "There is no file in models/referee. Download model.safetensors (4.7 GB) from "
            f"https://huggingface.co/Salesforce/blip2-itm-vit-g, put it into {folder}, press R in the editor and "
            "choose it in this node. Load Demo Models needs no file."
        )
    return folder_paths.get_full_path_or_raise("referee", referee_name)


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
                _referee_name(),
                io.Combo.Input(
                    "precision",
                    options=["auto", *PRECISIONS],
                    default="auto",
                    tooltip="Number format of the weights. auto: bf16 for the vision tower where the card has it, "
                    "otherwise fp32. bf16: the text side too, which saves another 0.4 GB. fp16 tower: for cards "
                    "without bf16 that lack the memory for fp32; gradients are scaled to survive it.",
                ),
            ],
            outputs=[RefereeSocket.Output("referee", tooltip="Connect to Referee Loss.")],
        )

    @classmethod
    def execute(cls, referee_name: str, precision: str) -> io.NodeOutput:
        from .bridge.models.referee_files import load_referee

        return io.NodeOutput(load_referee(_path(referee_name), precision))


class RefereeConvert(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeConvert",
            display_name="Convert Referee",
            category=CATEGORY,
            description="Puts a downloaded BLIP-2 together into one file (2.7 GB) that loads quickly and needs "
            "nothing beside it.",
            search_aliases=["convert blip2", "blip-2 to safetensors", "merge eva_vit_g"],
            inputs=[
                _referee_name(),
                io.String.Input(
                    "filename",
                    default="blip2_referee",
                    tooltip="Name of the new file in models/referee, without folder; .safetensors is added. An "
                    "existing file is not overwritten.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
            outputs=[],
        )

    @classmethod
    def fingerprint_inputs(cls, referee_name: str, filename: str) -> int:
        """Runs again once the file that it wrote is deleted."""
        from .bridge.models.referee_files import times_deleted

        return times_deleted(filename)

    @classmethod
    def execute(cls, referee_name: str, filename: str) -> io.NodeOutput:
        from .bridge.models.referee_files import convert_referee
        from .bridge.show.panel import show_text

        node_id = getattr(cls.hidden, "unique_id", None)  # None where another node calls this one
        written = convert_referee(_path(referee_name), folder_paths.get_folder_paths("referee"), filename, node_id)
        if node_id is not None:
            show_text(node_id, f"{written} is ready. Press R to see it in Load Referee.")
        return io.NodeOutput()


class RefereeFromVLM(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeFromVLM",
            display_name="Referee from CLIP (vision-language model)",
            category=CATEGORY,
            description="Makes a referee of a vision-language model that you have already loaded as a text encoder: "
            "Qwen3-VL, Qwen3.5, Gemma 3 or 4. It is asked whether the picture shows the text; nothing is downloaded or "
            "loaded twice.",
            search_aliases=["vlm referee", "qwen3-vl", "vqascore", "judge", "rank", "vision language model"],
            inputs=[
                io.Clip.Input(
                    "clip",
                    tooltip="A Qwen3-VL, Qwen3.5, Gemma 3 or 4 from Load CLIP, such as the text encoder of Krea 2. "
                    "Encoders that read text only are refused, with the reason.",
                ),
                io.Int.Input(
                    "side",
                    default=448,
                    min=64,
                    max=1024,
                    step=32,
                    tooltip="Pictures are judged at this size, squared. Higher sees smaller things and costs more: "
                    "twice the side, four times the time and memory.",
                ),
            ],
            outputs=[RefereeSocket.Output("referee", tooltip="Connect to Referee Loss.")],
        )

    @classmethod
    def execute(cls, clip: Any, side: int) -> io.NodeOutput:
        from .bridge.language.vision_language import load_vision_language

        return io.NodeOutput(load_vision_language(clip, side))


class RefereeDemoModels(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeDemoModels",
            display_name="Load Demo Models",
            category=CATEGORY,
            description="Small models that come with the pack and know one world: one to four coloured shapes at "
            "128x128 pixels. "
            "To see the method work without downloads or a graphics card.",
            search_aliases=["referee demo", "toy models", "coloured shapes"],
            inputs=[],
            outputs=[
                io.Model.Output("model", tooltip="A small diffusion model; works with KSampler."),
                io.Clip.Output("clip", tooltip="Its text encoder; works with CLIP Text Encode."),
                io.Vae.Output("vae", tooltip="Its autoencoder; 128x128 pixels are a 16x16 latent."),
                RefereeSocket.Output("referee", tooltip="A small BLIP-2; connect to Referee Loss."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..referee_core.demo.storage import path
        from .bridge.models.demo import load_clip, load_model, load_vae
        from .bridge.models.referee_files import load_referee

        referee = replace(load_referee(path("referee")), whole_captions=True)
        return io.NodeOutput(load_model(), load_clip(), load_vae(), referee)
