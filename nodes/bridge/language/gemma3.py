"""What is Gemma 3's own: its chat, its pixels, and how the tokens of a picture see each other."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from ....referee_core.referees.pixels import square
from .masks import masks_changed
from .reading import Reading

Tokenize = Callable[[str], Mapping[str, list[int]]]
SPECIAL = {
    "<bos>": 2,
    "<start_of_turn>": 105,
    "<end_of_turn>": 106,
    "<start_of_image>": 255999,
    "<end_of_image>": 256000,
    "<image_soft_token>": 262144,
}
"""ComfyUI's tokenizer knows two of them by name."""
TEMPLATE = "<bos><start_of_turn>user\n{picture}{text}<end_of_turn>\n<start_of_turn>model\n"
PICTURE = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"
"""As transformers' processor writes them."""


def ids(tokenize: Tokenize, text: str) -> list[int]:
    """Ids of a text, of its special tokens too; ``<bos>`` only where the text has it.

    tokenize: ComfyUI's; it puts ``<bos>`` before a text without special tokens, and before no other.
    """
    found: list[int] = []
    for part in re.split(f"({'|'.join(SPECIAL)})", text):
        if part in SPECIAL:
            found.append(SPECIAL[part])
        else:
            found += (word for word in tokenize(part)["input_ids"] if word != SPECIAL["<bos>"])
    return found


def pixels(picture: torch.Tensor, side: int) -> torch.Tensor:
    """A square picture [3, h, h] from 0 to 1 as the vision tower reads it: [1, 3, side, side], from -1 to 1.

    ComfyUI's own preparation is the same, but rounds to 255 steps, which have no gradient.
    """
    return 2 * square(picture[None], side) - 1


def look(network: Any, picture: torch.Tensor, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, None]:
    """The tokens [n, d] of a picture [3, h, h] from 0 to 1; nothing goes into deeper layers.

    network: ComfyUI's Gemma3_12B or Gemma3_4B_Vision. Before 0.24 it makes all tokens larger that it reads, as only
    those of the text should be.
    """
    seen = network.vision_model(pixels(picture.to(device), network.image_size).to(dtype))[0]
    tokens = network.multi_modal_projector(seen)[0]
    enlarged = getattr(network.model, "normalize_in", False)
    return tokens / network.model.config.hidden_size**0.5 if enlarged else tokens, None


def read(network: Any, reading: Reading) -> torch.Tensor:
    """See Chat.read. The tokens of a picture see all of it, as when the weights were trained. In ComfyUI (0.20 to 0.33)
    each sees only those before it."""
    start = reading.picture["index"]
    picture = slice(start, start + reading.picture["size"])

    def lift(mask: torch.Tensor) -> torch.Tensor:
        mask[..., picture, picture] = 0
        return mask

    with masks_changed(network.model.layers, lift):
        return network(None, embeds=reading.embeds, attention_mask=reading.sees, position_ids=reading.places)[0]
