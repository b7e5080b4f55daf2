"""Patches that remember their last call.

Score distillation asks a MODEL at random noise levels, while ComfyUI's samplers go down from the highest: each call has
to find every patch as a fresh run would. docs/models.md lists what was looked at.
"""

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import FunctionType, MethodType
from typing import Any

import comfy.controlnet
import comfy.model_patcher
import comfy.sd
import torch

FOREIGN = {"torch", "numpy", "PIL", "comfy_api", "server", "execution", "folder_paths", *sys.stdlib_module_names}
"""What comes from here keeps no patch's memory."""
MANAGED = (torch.nn.Module, comfy.model_patcher.ModelPatcher, comfy.sd.VAE, comfy.sd.CLIP)
"""What ComfyUI loads, moves and patches itself: putting its attributes back would undo that."""
PREPARED = ("cond_hint", "extra_concat", "control_input")
"""What a ControlNet has made of its hint: true at every noise level, and dear to make again."""


KEEPS = "referee_keeps_state"
"""Attribute of a patch's function or object whose memory must not be put back. docs/models.md describes it."""


class Memory:
    """What is reachable from some objects, as it is now, but for those that keep their memory (KEEPS).

    Followed are containers, closures, bound methods, partials and attributes; ``restore`` puts back the same values in
    the same places. Tensors are kept by reference: one that is written to in place stays as written.
    """

    def __init__(self, *roots: Any):
        self.kept: list[tuple[Any, Any]] = []
        seen: dict[int, Any] = {}
        todo = list(roots)
        while todo:
            thing = todo.pop()
            if id(thing) not in seen:
                seen[id(thing)] = thing
                todo += self._keep(thing)

    def _keep(self, thing: Any) -> Iterable[Any]:
        """Note a thing's contents, and return what to look at next."""
        if getattr(thing, KEEPS, False) is True:
            return ()
        if isinstance(thing, (list, dict, set)):
            self.kept.append((thing, thing.copy()))
            return thing.values() if isinstance(thing, dict) else thing
        if isinstance(thing, tuple):
            return thing
        if isinstance(thing, MethodType):
            return thing.__self__, thing.__func__
        if isinstance(thing, functools.partial):
            return thing.func, thing.args, thing.keywords
        if isinstance(thing, FunctionType):
            cells = [cell for cell in thing.__closure__ or () if _filled(cell)]
            self.kept += [(cell, cell.cell_contents) for cell in cells]
            return *(cell.cell_contents for cell in cells), thing.__dict__
        if isinstance(thing, comfy.controlnet.ControlBase):
            kept = {k: v for k, v in vars(thing).items() if k not in PREPARED}
            self.kept.append((thing, kept))
            return kept.values()
        if isinstance(thing, (type, Enum, *MANAGED)) or type(thing).__module__.split(".")[0] in FOREIGN:
            return ()
        return (thing.__dict__,) if hasattr(thing, "__dict__") else ()

    def restore(self) -> None:
        for place, value in self.kept:
            if isinstance(place, list):
                place[:] = value
            elif isinstance(place, (dict, set)):
                place.clear()
                place.update(value)
            elif isinstance(place, comfy.controlnet.ControlBase):
                vars(place).update(value)
            else:
                place.cell_contents = value


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def functions(options: dict | list) -> Iterator[Any]:
    """All that patches have hung into the model options: what can be called, wherever it lies."""
    todo, seen = [options], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, (list, tuple)):
            todo += value
        elif callable(value):
            yield value


def _full_name(function: Any) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}".lower()


def _made_by(name: str) -> Callable[[dict], bool]:
    """Whether a patch comes from a module, node or class of this name."""
    return lambda options: any(name in _full_name(f) for f in functions(options))


def _zero_init(options: dict) -> bool:
    """Whether a patch closes over a true ``use_zero_init``."""
    codes = (f for f in functions(options) if isinstance(f, FunctionType))
    closed = (zip(f.__code__.co_freevars, f.__closure__ or (), strict=True) for f in codes)
    return any(name == "use_zero_init" and _filled(cell) and cell.cell_contents for f in closed for name, cell in f)


@dataclass(frozen=True)
class Unsuitable:
    """A patch that cannot be put right.

    Attributes:
        name: as the user knows it. found: whether it is in the guider's model options. why: and what to do.
        refuse: with an error; otherwise a warning. masked: matters only where the latent has a mask.
    """

    name: str
    found: Callable[[dict], bool]
    why: str
    refuse: bool = True
    masked: bool = False


UNSUITABLE = (
    Unsuitable(
        "Differential Diffusion",
        lambda options: "denoise_mask_function" in options,
        "it frees parts of the picture as the noise of a sampler's steps falls, and here no noise falls. A soft mask "
        "works without it: each place moves as far as the mask lets it. Take the node out of 'model'",
        masked=True,
    ),
    Unsuitable(
        "zero-init (CFG Zero Star/Init)",
        _zero_init,
        "it answers zeros on a run's first steps, and here each call is a first step. Switch use_zero_init off",
    ),
    Unsuitable(
        "SpotDiffusion (Tiled Diffusion)",
        _made_by("spotdiffusion"),
        "it shifts its tiles by the step of a KSampler, and here is none. Choose another method of Tiled Diffusion",
    ),
    Unsuitable(
        "TeaCache",
        _made_by("teacache"),
        "it keeps its memory on the model itself, and saves no time here. Bypass the node",
        refuse=False,
    ),
    Unsuitable(
        "AnimateDiff",
        _made_by("animatediff"),
        "it takes the images of a batch for the frames of a video, and here each image has its own noise level",
        refuse=False,
    ),
)
"""Known patches whose memory is out of reach, or to which a step means something that is not there."""


def check(options: dict, masked: bool) -> None:
    """Raise ValueError for a patch that does not go with random noise levels, or name it in the log.

    Args:
        options: the guider's model options. masked: whether the latent has a mask.
    """
    for patch in UNSUITABLE:
        if not patch.found(options) or (patch.masked and not masked):
            continue
        if patch.refuse:
            raise ValueError(f"'model' has {patch.name}, which does not go with score distillation: {patch.why}.")
        logging.warning("[Referee] 'model' has %s: %s.", patch.name, patch.why)
