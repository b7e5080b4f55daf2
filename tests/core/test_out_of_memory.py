"""How running out of memory looks on each kind of device."""

import pytest
import torch

from referee_core.out_of_memory import OUT_OF_MEMORY, is_out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OUT_OF_MEMORY("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.5 GB, max allowed: 18.1 GB)."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (77x768 and 1024x320)"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_every_devices_way_to_say_it_is_known(error, expected):
    assert is_out_of_memory(error) is expected
