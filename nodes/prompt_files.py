"""Nodes that keep learned tokens in files and put them around a prompt."""

from typing import Any

import folder_paths
from comfy_api.latest import io

from .node import Node
from .sockets import CATEGORY, PROMPTS, LoadedPrompt, PromptSocket

NO_FILE = "models/referee_prompts is empty"


class RefereeSavePrompt(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeSavePrompt",
            display_name="Save Prompt Tokens",
            category=CATEGORY,
            description="Writes learned tokens into models/referee_prompts, as a small safetensors file that says for "
            "which model's text encoder they are.",
            search_aliases=["save learned prompt", "save ipgo", "soft prompt"],
            inputs=[
                PromptSocket.Input("tokens", tooltip="From Optimize Prompt or Train Prompt Tokens."),
                io.String.Input(
                    "filename",
                    default="my_prompt",
                    tooltip="Name of the new file, without folder; .safetensors is added. An existing file is not "
                    "overwritten.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
            outputs=[],
        )

    @classmethod
    def execute(cls, tokens: LoadedPrompt, filename: str) -> io.NodeOutput:
        from .bridge.models.prompt_files import save_prompt
        from .bridge.show.panel import show_text

        written = save_prompt(tokens, folder_paths.get_folder_paths(PROMPTS), filename)
        show_text(cls.hidden.unique_id, f"{written} is saved. Press R to see it in Load Prompt Tokens.")
        return io.NodeOutput()


class RefereeLoadPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeLoadPrompt",
            display_name="Load Prompt Tokens",
            category=CATEGORY,
            description="Reads learned tokens from models/referee_prompts.",
            search_aliases=["load learned prompt", "load ipgo", "soft prompt"],
            inputs=[
                io.Combo.Input(
                    "prompt_name",
                    options=folder_paths.get_filename_list(PROMPTS) or [NO_FILE],
                    tooltip="A file in models/referee_prompts, written by Save Prompt Tokens.",
                )
            ],
            outputs=[PromptSocket.Output("tokens", tooltip="Connect to Apply Prompt Tokens.")],
        )

    @classmethod
    def execute(cls, prompt_name: str) -> io.NodeOutput:
        from .bridge.models.prompt_files import load_prompt

        if prompt_name == NO_FILE:
            raise FileNotFoundError(
                "There is no file in models/referee_prompts. Learn tokens with Optimize Prompt, keep them with Save "
                "Prompt Tokens, press R in the editor and choose them in this node."
            )
        return io.NodeOutput(load_prompt(folder_paths.get_full_path_or_raise(PROMPTS, prompt_name)))


class RefereeApplyPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RefereeApplyPrompt",
            display_name="Apply Prompt Tokens",
            category=CATEGORY,
            description="Puts learned tokens around a prompt. Areas, masks and times of the conditioning stay.",
            search_aliases=["use learned prompt", "ipgo", "soft prompt"],
            inputs=[
                PromptSocket.Input("tokens", tooltip="From Load Prompt Tokens, or from the node that learned them."),
                io.Conditioning.Input("conditioning", tooltip="The encoded prompt: the tokens go around it."),
                io.Model.Input(
                    "model", tooltip="The model that samples; only to see that the tokens are for its text encoder."
                ),
            ],
            outputs=[io.Conditioning.Output("conditioning", tooltip="For the positive input of any sampler.")],
        )

    @classmethod
    def execute(cls, tokens: LoadedPrompt, conditioning: list, model: Any) -> io.NodeOutput:
        from .runs.ipgo import apply

        return io.NodeOutput(apply(tokens, conditioning, model))
