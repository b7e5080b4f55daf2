"""Noise on an encoded prompt, for models whose starting noise hardly changes the picture.

Distilled models of four to eight steps draw nearly the same picture for every seed. Early in the sampling, while the
layout is settled, a prompt that is a little off leads elsewhere; the rest of the steps reads the prompt as it is.
"""

import torch

from .randomness import generators, randn_like

UNTIL = 0.3
"""Share of the sampling in which the varied prompt is read."""


def vary(prompt: torch.Tensor, variation: float, seed: int) -> torch.Tensor:
    """An encoded prompt [B, L, D] with normal noise, the same for each of its rows; 0 gives it back as it is.

    Args:
        variation: the noise's standard deviation, as a share of the mean size of the prompt's numbers.
    """
    if not variation:
        return prompt
    streams = generators([seed], ("variation",))["variation"]
    return prompt + variation * prompt.abs().mean() * randn_like(prompt[:1], streams)
