"""Running out of memory, on any device."""

import torch

OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)  # its name before PyTorch 2.5


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: on CUDA also as an AcceleratorError, on Apple's MPS as a plain RuntimeError."""
    return isinstance(error, OUT_OF_MEMORY) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )
