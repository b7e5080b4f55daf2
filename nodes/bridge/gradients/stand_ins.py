"""Ordinary tensors in place of inference tensors, which autograd refuses even outside inference mode.

ComfyUI's nodes run in inference mode, and so do its loaders. Here

* each weight has an ordinary tensor over the same storage in its place: no memory is spent. Where that is not safe
  (pages of dynamic VRAM) or not precise enough (fp16), a copy is in its place. The modules stay the user's own;
* any other such tensor (of a latent format, a closure, a module that was replaced or loaded anew) is exchanged for an
  ordinary one when a function of PyTorch is called on it.

Everything can be put back. When to do what is the subject of block.py.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import is_traceable_wrapper_subclass


def is_ordinary(t: torch.Tensor) -> bool:
    """Whether autograd takes a tensor. It refuses inference tensors, and those whose contents were exchanged outside
    inference mode, as by a node that trains: they say that they are none, but cannot count their versions."""
    if t.is_inference():
        return False
    if is_traceable_wrapper_subclass(t):
        return all(is_ordinary(getattr(t, name)) for name in t.__tensor_flatten__()[0])
    try:
        return t._version >= 0
    except RuntimeError:
        return False


def ordinary(t: torch.Tensor) -> torch.Tensor:
    """An ordinary tensor over the storage of one that is none. One that wraps others, as ComfyUI's quantised weights
    do, is wrapped anew."""
    if is_traceable_wrapper_subclass(t):
        names, about = t.__tensor_flatten__()
        return type(t).__tensor_unflatten__({n: _ordinary(getattr(t, n)) for n in names}, about, t.size(), t.stride())
    alias = torch.empty(0, dtype=t.dtype, device=t.device)
    return alias.set_(t.untyped_storage(), t.storage_offset(), t.size(), t.stride())


class OrdinaryTensors(TorchFunctionMode):
    """Gives every function of PyTorch ordinary tensors in place of inference tensors.

    ``out=``, which autograd refuses and ComfyUI's text models use since 0.33, becomes a write in place.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if (
            torch.compiler.is_compiling()
            or torch.is_inference_mode_enabled()
            or getattr(func, "__name__", "") in ("__get__", "__set__")  # attributes of the tensor itself
        ):
            return func(*args, **kwargs)
        args, kwargs = tuple(map(_ordinary, args)), {name: _ordinary(value) for name, value in kwargs.items()}
        out = kwargs.get("out")
        if isinstance(out, torch.Tensor) and torch.is_grad_enabled() and _requires_grad(out, *args):
            del kwargs["out"]
            return out.copy_(func(*args, **kwargs))
        return func(*args, **kwargs)


def _requires_grad(*values: Any) -> bool:
    return any(isinstance(value, torch.Tensor) and value.requires_grad for value in values)


def _ordinary(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value if is_ordinary(value) else ordinary(value)
    if type(value) in (list, tuple):
        return type(value)(map(_ordinary, value))
    return value


class StandIns:
    """Ordinary tensors in place of a model's weights and buffers, from ``put`` until ``undo`` is closed."""

    def __init__(self, patcher: Any, precision: torch.dtype | None = None):
        self.patcher, self.precision = patcher, precision
        self.copying = precision is not None or patcher.is_dynamic()
        self._made: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by id of the weight: itself, its copy

    @property
    def copied(self) -> bool:
        """Whether there are copies already."""
        return bool(self._made)

    @property
    def bytes(self) -> int:
        """Memory that the copies take beside the model."""
        if not self.copying:
            return 0
        return sum(p.numel() * (self.precision or p.dtype).itemsize for p in self.patcher.model.parameters())

    def put(self, undo: ExitStack) -> None:
        made = {}
        for prefix, module in self.patcher.model.named_modules():
            for table in (module._parameters, module._buffers):
                for name, t in table.items():
                    if t is None or (is_ordinary(t) and not self.copying):
                        continue
                    if id(t) not in made:  # tied weights stay tied
                        made[id(t)] = self._made.get(id(t)) or (t, self._make(t, f"{prefix}.{name}".lstrip(".")))
                    stand_in = made[id(t)][1]
                    table[name] = stand_in
                    undo.callback(_put_back, table, name, stand_in, t)
            for p in module._parameters.values():
                if p is not None and p.requires_grad:
                    p.requires_grad_(False)
                    undo.callback(p.requires_grad_, True)
        self._made = made if self.copying else {}

    def _make(self, t: torch.Tensor, key: str) -> torch.Tensor:
        made = self._copy(t, key) if self.copying else ordinary(t)
        return torch.nn.Parameter(made, requires_grad=False) if isinstance(t, torch.nn.Parameter) else made

    @torch.no_grad()
    def _copy(self, t: torch.Tensor, key: str) -> torch.Tensor:
        if t.is_meta:  # a weight that the file lacks: dynamic VRAM reads it as zeros
            t = torch.zeros_like(t, device="cpu")
        dtype = self.precision if self.precision is not None and t.is_floating_point() else t.dtype
        copy = torch.empty_like(t, dtype=dtype, device=self.patcher.load_device).copy_(t)
        patches = self.patcher.patches.get(key)
        if patches and self.patcher.is_dynamic() and key not in self.patcher.backup:  # which come with a page
            import comfy.lora

            copy = comfy.lora.calculate_weight(patches, copy.float(), key).to(dtype)
        return copy


def _put_back(table: dict, name: str, stand_in: torch.Tensor, t: torch.Tensor) -> None:
    if table.get(name) is stand_in:  # nobody has loaded another one in the meantime
        table[name] = t
