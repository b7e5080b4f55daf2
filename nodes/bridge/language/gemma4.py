"""What is Gemma 4's own: its chat, and how its language model is called.

Only ComfyUI's tokenizer rounds pixels to 255 steps, which have no gradient; its network takes them as they are.
"""

from typing import Any

import torch

from .masks import masks_changed
from .reading import Reading

TEMPLATE = "<bos><|turn>user\n{picture}{text}<turn|>\n<|turn>model\n"
PICTURE = "\n\n<|image><|image|><image|>\n\n"
"""As transformers' processor writes them, the picture first, as the model's card asks for."""
NO_THOUGHT = "<|channel>thought\n<channel|>"
"""The larger models' own template adds it where no thinking is wanted."""


def read(network: Any, reading: Reading) -> torch.Tensor:
    """See Chat.read. The smaller models read a second embedding of each token's id in every layer; of a picture's
    tokens that of padding, 0."""
    return network.model(
        None,
        embeds=reading.embeds,
        attention_mask=reading.sees,
        position_ids=reading.places,
        embeds_info=[reading.picture],
        input_ids=reading.ids,
    )[0]


def read_31b(network: Any, reading: Reading) -> torch.Tensor:
    """The same for the 31B. The tokens of a picture see all of it in the layers with a window only; in ComfyUI (0.30 to
    0.33) in the others too."""

    def forbid(mask: torch.Tensor) -> torch.Tensor:
        return mask.masked_fill_(torch.ones_like(mask, dtype=torch.bool).triu(1), torch.finfo(mask.dtype).min)

    with masks_changed([layer for layer in network.model.layers if not layer.sliding_attention], forbid):
        return read(network, reading)
