"""A CONDITIONING whose prompt is varied in the first share of the sampling."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.sampler_helpers
from comfy.samplers import CFGGuider

from ....referee_core.variation import vary
from .conditioning import conditioning_of

START, END = "start_percent", "end_percent"


def vary_conditioning(conditioning: list, seed: int, variation: float, until: float) -> list:
    """The varied prompts up to this share of the sampling, then the prompts as they are; each keeps to its own times.
    Areas, masks and pooled texts stay."""
    if not variation or not until:
        return conditioning
    made = []
    for prompt, about in conditioning:
        start, end = about.get(START, 0.0), about.get(END, 1.0)
        if prompt is None or start >= until:
            made.append([prompt, about])
            continue
        made.append([vary(prompt, variation, seed), about | {START: start, END: min(end, until)}])
        if end > until:
            made.append([prompt, about | {START: until, END: end}])
    return made


def can_vary(guider: CFGGuider) -> bool:
    return bool(conditioning_of(guider, "positive"))


@contextmanager
def varied(guider: CFGGuider, seed: int, variation: float, until: float) -> Iterator[None]:
    """Within, a guider samples with its positive prompt varied."""
    before = guider.original_conds
    positive = vary_conditioning(conditioning_of(guider, "positive"), seed, variation, until)
    try:
        guider.original_conds = before | {"positive": comfy.sampler_helpers.convert_cond(positive)}
        yield
    finally:
        guider.original_conds = before
