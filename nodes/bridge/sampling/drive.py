"""How every method that goes on in steps of its own runs under ComfyUI."""

from collections.abc import Callable, Generator
from contextlib import closing

import comfy.model_management

from ....referee_core.record import Step
from ..gradients.memory import memory_for

OnStep = Callable[[Step], bool | None]
"""After each step; True ends the run."""


def drive(steps: Generator[Step, None, None], on_step: OnStep) -> Step:
    """Go through a method's steps, and return the last one. Cancelling ends it within a step, whatever the method holds
    is given back, and where memory runs out the error says what to do."""
    with closing(steps), memory_for("the referee or the backward pass through the VAE"):
        for step in steps:
            if on_step(step):
                break
            comfy.model_management.throw_exception_if_processing_interrupted()
    return step
