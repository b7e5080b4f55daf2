"""A graphics card made of main memory: ComfyUI moves models to it, computes on it and runs out of it as on a real one.

Its tensors claim to lie on a device of their own and compute on the CPU. What a card refuses is refused here:
operations on tensors of both sides (single numbers apart) and allocations beyond its size. Backward passes run in a
thread of their own. Importing this plugs it in, for the time of the program.
"""

import weakref

import comfy.model_management as mm
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from pack.nodes.bridge.gradients import stand_ins

BETWEEN = (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)


class OnCard(torch.Tensor):
    """A tensor on the card. ``inner``: the same numbers in main memory."""

    @staticmethod
    def __new__(cls, inner):
        self = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=CARD
        )  # fmt: skip
        self.inner = inner
        memory.hold(inner.untyped_storage())
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})

    def __repr__(self, *, tensor_contents=None):
        return f"OnCard({self.inner})"


class Memory:
    """What lies on the card, counted by storage."""

    def __init__(self):
        self.size, self.used, self.peak, self.held = 2**40, 0, 0, {}

    @property
    def free(self) -> int:
        return self.size - self.used

    def hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self.held:
            if size > self.free:
                raise torch.OutOfMemoryError(f"The card is full: {size} bytes asked for, {self.free} free.")
            self.held[key] = size
            self.used += size
            self.peak = max(self.peak, self.used)
            weakref.finalize(storage, self.release, key)

    def release(self, key: int) -> None:
        self.used -= self.held.pop(key)


memory = Memory()


class Factory(TorchDispatchMode):
    """Lets tensors be made on the card: until now none of the arguments lies there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


def compute(func, args, kwargs):
    here = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    there = [t for t in here if isinstance(t, OnCard)]
    apart = [tuple(t.shape) for t in here if t.ndim and not isinstance(t, OnCard)]
    if func is torch.ops.aten._has_compatible_shallow_copy_type.default:
        return False  # a parameter that moves becomes a new one
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        with Factory():  # not yet taken apart in inference mode
            return func.decompose(*args, **kwargs)
    if there and apart and func not in BETWEEN:
        raise RuntimeError(f"{func}: tensors on the card and in main memory, the latter of shapes {apart}")
    device = kwargs.get("device")
    inner_args, inner_kwargs = tree_map_only(OnCard, lambda t: t.inner, (args, kwargs))
    if device is not None:
        inner_kwargs["device"] = "cpu"
    out = func(*inner_args, **inner_kwargs)
    if func is torch.ops.aten.copy_.default:
        return args[0]
    if there if device is None else torch.device(device).type == CARD.type:
        out = tree_map_only(torch.Tensor, OnCard, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if there and device is None else out


class Module:
    """torch.card"""

    _initialized = False
    is_initialized = is_available = staticmethod(lambda: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    current_device = staticmethod(lambda: 0)
    device_count = staticmethod(lambda: 1)
    manual_seed_all = staticmethod(lambda seed: None)
    get_amp_supported_dtype = staticmethod(lambda: [torch.float16, torch.bfloat16])


_setup_privateuseone_for_python_backend("card", Module())  # before the first backward pass of all
CARD = torch.device("card", 0)
torch.__future__.set_overwrite_module_params_on_conversion(True)
kernels = torch.library.Library("aten", "IMPL")
for name in ("empty_strided", "copy_"):  # what PyTorch's own C++ code calls, past the classes above
    func = getattr(torch.ops.aten, name).default
    kernels.impl(name, lambda *args, func=func, **kwargs: compute(func, args, kwargs), "PrivateUse1")
Factory().__enter__()


def plug_in() -> None:
    """Give ComfyUI the card, whose memory is endless until a size is set, and nothing of it is kept free."""
    main_memory, ordinary = mm.get_free_memory, stand_ins.ordinary

    def free(device=None, torch_free_too=False):
        if mm.is_device_cpu(device):
            return main_memory(device, torch_free_too)
        return (memory.free, memory.free) if torch_free_too else memory.free

    mm.cpu_state, mm.vram_state = mm.CPUState.GPU, mm.VRAMState.NORMAL_VRAM
    mm.is_nvidia, mm.MIN_WEIGHT_MEMORY_RATIO = (lambda: False), 0.0
    mm.get_torch_device, mm.get_all_torch_devices = (lambda: CARD), (lambda exclude_current=False: [CARD])
    mm.get_free_memory, mm.get_total_memory = free, (lambda device=None, torch_total_too=False: memory.size)
    mm.minimum_inference_memory, mm.EXTRA_RESERVED_VRAM = (lambda: 0), 0
    mm.should_use_fp16 = mm.should_use_bf16 = lambda *a, **k: False
    stand_ins.ordinary = lambda t: OnCard(t.inner) if isinstance(t, OnCard) else ordinary(t)


plug_in()
