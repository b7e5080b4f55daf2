"""What is Qwen3.5's own: where a picture's tokens stand.

Its rotary embedding turns every third pair of numbers by a token's row, every third by its column and the rest by its
time (interleaved M-RoPE, as in transformers' ``apply_interleaved_mrope``). ComfyUI (0.30 to 0.33) gives each of the
three one stretch of numbers instead. Text is the same either way; pictures lose their places.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .reading import Reading


def read(network: Any, reading: Reading) -> torch.Tensor:
    """See Chat.read. One question a reading: its layers remember what is before a token instead of seeing it."""
    with in_their_places(network.model):
        return network(None, embeds=reading.embeds, embeds_info=[reading.picture])[0]


@contextmanager
def in_their_places(model: Any) -> Iterator[None]:
    """For the time of a call, the positions on which the weights were trained. model: ComfyUI's Qwen35Transformer."""

    def compute(position_ids: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, ...]:
        return rotary(position_ids.to(device), model.config)

    model.compute_freqs_cis = compute
    try:
        yield
    finally:
        del model.compute_freqs_cis


def rotary(position_ids: torch.Tensor, config: Any) -> tuple[torch.Tensor, ...]:
    """Cosines [1, 1, n, 2k] and the two halves of the sines [1, 1, n, k], as ComfyUI's ``apply_rope`` takes them.

    position_ids: [3, n], time, row and column; or [1, n].
    """
    size = int(config.head_dim * config.partial_rotary_factor)
    pace = config.rope_theta ** -(torch.arange(0, size, 2, device=position_ids.device).float() / size)
    angles = position_ids[:, :, None].float() * pace
    turn = angles[0].clone()
    for axis in range(1, len(angles)):
        own = slice(axis, 3 * config.mrope_section[axis], 3)
        turn[:, own] = angles[axis][:, own]
    turn = turn[None, None]
    return turn.cos().repeat(1, 1, 1, 2), turn.sin(), -turn.sin()
