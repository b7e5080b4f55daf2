"""How each family of language models is asked, about a picture or with text alone."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from . import gemma3, gemma4, qwen35
from .gemma3 import Tokenize
from .reading import Reading

QWEN = "<|im_start|>user\n{picture}{text}<|im_end|>\n<|im_start|>assistant\n"
QWENS_PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"


def _ids(tokenize: Tokenize, text: str) -> list[int]:
    return tokenize(text)["input_ids"]


def _look(network: Any, picture: torch.Tensor, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, Any]:
    """As ComfyUI does; some of its networks give a batch of one."""
    tokens, extra = network.preprocess_embed({"type": "image", "data": picture.movedim(0, -1)[None]}, device)
    return tokens.flatten(0, -2), extra


def _read(network: Any, reading: Reading) -> torch.Tensor:
    """As Qwen3-VL reads: a picture's places have rows and columns, and deeper layers see it again."""
    places, seen, deeper = network.build_image_inputs(reading.embeds, [reading.picture])
    return network(
        None,
        embeds=reading.embeds,
        attention_mask=reading.sees,
        position_ids=places[..., reading.places[0]],
        visual_pos_masks=seen,
        deepstack_embeds=deeper,
    )[0]


class Chat(NamedTuple):
    """How a family of models is asked.

    Attributes:
        template: its own, with ``{picture}`` and ``{text}``.
        picture: what stands for a picture, and the id in it that the picture replaces. Text-only models have none.
        ids: of a text, by the model's tokenizer.
        look: what it reads of a square picture [3, h, h] from 0 to 1: tokens [n, d], and what goes into deeper layers.
            Gets the network, the picture, the device and the number format.
        read: the hidden states [1, n, d] of a reading, by the network.
        together: whether several questions can be asked in one reading.
        step: pictures have a side that is a multiple of it, in pixels.
        tower: name of the vision tower. patch: side of its patches. pooled: patches to a token.
        kept: numbers that the tower keeps for its backward pass, for each that its linear maps read (measured).
    """

    template: str
    picture: tuple[str, int] = ("", 0)
    ids: Callable[[Tokenize, str], list[int]] = _ids
    look: Callable[[Any, torch.Tensor, torch.device, torch.dtype], tuple[torch.Tensor, Any]] = _look
    read: Callable[[Any, Reading], torch.Tensor] = _read
    together: bool = True
    step: int = 1
    tower: str = "visual"
    patch: int = 16
    pooled: int = 4
    kept: float = 2.5


GEMMA3 = Chat(
    gemma3.TEMPLATE,
    (gemma3.PICTURE, gemma3.SPECIAL["<image_soft_token>"]),
    ids=gemma3.ids,
    look=gemma3.look,
    read=gemma3.read,
    tower="vision_model",
    patch=14,
    pooled=16,
    kept=1.1,
)
GEMMA4 = Chat(
    gemma4.TEMPLATE,
    (gemma4.PICTURE, 258880),
    read=gemma4.read,
    step=48,
    tower="vision_model",
    pooled=9,
    kept=4,
)
CHATS = {
    "Qwen3VL": Chat(QWEN, (QWENS_PICTURE, 151655)),
    "Qwen35": Chat(QWEN + NO_THOUGHT, (QWENS_PICTURE, 248056), read=qwen35.read, together=False),
    "Gemma3_12B": GEMMA3,
    "Gemma3_4B_Vision": GEMMA3,
    "Gemma4_12B_Config": GEMMA4._replace(template=gemma4.TEMPLATE + gemma4.NO_THOUGHT, kept=0.25),
    "Gemma4_31B_Config": GEMMA4._replace(template=gemma4.TEMPLATE + gemma4.NO_THOUGHT, read=gemma4.read_31b),
    "Gemma4Config": GEMMA4,
    "Qwen3_06B": Chat(QWEN + NO_THOUGHT),
    "Qwen3_4B": Chat(QWEN + NO_THOUGHT),
    "Qwen3_8B": Chat(QWEN + NO_THOUGHT),
    "Gemma3_4B": Chat(gemma3.TEMPLATE, ids=gemma3.ids),
}
"""By ComfyUI's class of the network or, where all of a family share one, of its sizes. ComfyUI's own template adds an
empty block of thoughts for Qwen3-VL too, whose Instruct models were not trained on one; Qwen3.5 and Qwen3 without
thinking are asked with one."""
