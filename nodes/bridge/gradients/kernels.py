"""comfy-kitchen's functions in plain PyTorch, which have a backward pass; its kernels have none.

ComfyUI itself leaves some of them while it trains (``in_training``), as in Flux, but not all: not that of Gemma 4 since
0.33.
"""

import importlib
from contextlib import ExitStack

NAMES = ("rope", "adaln")
"""Of what is computed in a forward pass: rotary embeddings, and norms that are modulated."""


def use_plain_kernels(undo: ExitStack) -> None:
    """Put them in place of those kernels, until undone. Without comfy-kitchen there is nothing to do."""
    try:
        kitchen, plain = map(importlib.import_module, ("comfy_kitchen", "comfy_kitchen.backends.eager"))
    except ImportError:
        return
    for name, function in vars(kitchen).copy().items():
        if any(part in name for part in NAMES) and callable(function) and hasattr(plain, name):
            undo.callback(setattr, kitchen, name, function)
            setattr(kitchen, name, getattr(plain, name))
