"""Load, let gradients pass, fit into memory: one context manager for every method.

Nodes run in inference mode. The block leaves it, with ordinary tensors in place of the weights (stand_ins.py). All is
put back however the block ends, and also while ComfyUI works in the middle of it (``as_comfyui_does``).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd1_clip import SDClipModel

from ...sockets import LoadedLoss
from .attention import use_differentiable_attention
from .in_place import CopyBeforeWrite
from .kernels import use_plain_kernels
from .memory import ROOM, count_least_bytes, fit_to_memory, is_whole, load_whole, memory_for
from .stand_ins import OrdinaryTensors, StandIns

Kept = dict[int, StandIns]


class Passage(Protocol):
    """Something that gradients pass through: a VAE's decoder, a referee, a diffusion model.

    Attributes:
        patcher: ComfyUI's ModelPatcher of it.
        precision: what its weights must be converted to, or None to leave them as they are.
        writes_in_place: whether it may write over what its backward pass needs.
    """

    patcher: ModelPatcher
    precision: torch.dtype | None
    writes_in_place: bool

    def memory_required(self, shape: torch.Size, checkpointing: bool) -> float:
        """Bytes for one pass forward and backward of a latent of this shape, beside the weights."""

    def checkpoint(self, undo: ExitStack) -> None:
        """Compute inner pictures twice instead of keeping them, until ``undo`` is closed."""


class Network:
    """A referee's network as a Passage; the referee itself says what it needs (see ``fit_to_memory``)."""

    precision: torch.dtype | None = None

    def __init__(self, patcher: ModelPatcher):
        self.patcher = patcher
        # ComfyUI's text models: their vision towers always did, the rest does since 0.33
        self.writes_in_place = any(isinstance(m, SDClipModel) for m in patcher.model.modules())

    def memory_required(self, shape: torch.Size, checkpointing: bool) -> float:
        return 0.0

    def checkpoint(self, undo: ExitStack) -> None:
        pass


class Block:
    """A running ``differentiable`` block.

    Attributes:
        at_once: views that go through a referee at a time.
    """

    def __init__(self, passages: Sequence[Passage], also_load: Sequence[ModelPatcher], memory: float, kept: Kept):
        self.stand_ins = [kept.setdefault(id(p.patcher), StandIns(p.patcher, p.precision)) for p in passages]
        self.also_load, self.memory = list(also_load), memory
        self.writes_in_place = any(p.writes_in_place for p in passages)
        self.at_once = 0
        self._undo = ExitStack()

    def load(self) -> None:
        """Load everything; what gradients pass through is loaded whole. As ComfyUI does, in inference mode."""
        whole = [s.patcher for s in self.stand_ins if not s.patcher.is_dynamic()]
        paged = [s.patcher for s in self.stand_ins if s.patcher.is_dynamic()]
        with torch.inference_mode():
            load_whole(
                whole, [*paged, *self.also_load], self.memory + sum(s.bytes for s in self.stand_ins if not s.copied)
            )

    def enter(self) -> None:
        try:
            for s in self.stand_ins:
                with memory_for(f"loading {type(s.patcher.model).__name__}", ROOM):
                    s.put(self._undo)
            use_differentiable_attention(self._undo, [s.patcher.model for s in self.stand_ins])
            self._undo.callback(setattr, comfy.model_management, "in_training", comfy.model_management.in_training)
            comfy.model_management.in_training = True  # no kernels without a backward pass
            use_plain_kernels(self._undo)
            self._undo.enter_context(OrdinaryTensors())
            if self.writes_in_place:
                self._undo.enter_context(CopyBeforeWrite())
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        self._undo.close()

    def refresh(self) -> None:
        """Look again: load what has left its device meanwhile, and exchange what was loaded anew."""
        self.leave()
        if not all(s.patcher.is_dynamic() or is_whole(s.patcher) for s in self.stand_ins):
            self.load()
        self.enter()


_running: list[Block] = []  # those that are entered; while ComfyUI works in the middle of one, it is not among them


@contextmanager
def gradients_through(
    *passages: Passage, also_load: Sequence[ModelPatcher] = (), memory: float = 0.0, kept: Kept | None = None
) -> Iterator[Block]:
    """Load models, leave inference mode and let gradients pass; none are computed for the weights.

    Args:
        also_load: patchers of models without gradients, of which parts may stay behind.
        memory: bytes that the work needs.
        kept: what blocks of the same run share, so that a weight that has to be copied is copied once.
    """
    block = Block(passages, also_load, memory, {} if kept is None else kept)
    block.load()
    with torch.inference_mode(False), torch.enable_grad():
        block.enter()
        _running.append(block)
        try:
            yield block
        finally:
            _running.remove(block)
            block.leave()


@contextmanager
def as_comfyui_does() -> Iterator[None]:
    """For ComfyUI's own work in the middle of a block, such as a guider's call: in inference mode, on its own weights.

    What that work has loaded, moved or replaced is looked after when it ends.
    """
    blocks = list(_running)
    _running.clear()
    for block in reversed(blocks):
        block.leave()
    try:
        with torch.inference_mode():
            yield
    except BaseException:
        for block in blocks:
            block.enter()
        raise
    else:
        for block in blocks:
            block.refresh()
    finally:
        _running[:] = blocks


@contextmanager
def differentiable(
    *passages: Passage,
    loss: LoadedLoss | None = None,
    also_load: Sequence[ModelPatcher] = (),
    shape: torch.Size,
    views: int = 1,
    asked: int = 0,
    kept: Kept | None = None,
) -> Iterator[Block]:
    """Everything that a method needs around its loop: load, let gradients pass, and fit the work to the card's memory.

    Args:
        passages: a Decoder, a DifferentiableModel; what else gradients pass through.
        loss: LoadedLoss or None; its referees are passages too.
        also_load: patchers of models without gradients. shape: of the latent.
        views: in all, of a step. asked: the user's number of views at a time, 0 to choose.
        kept: see ``gradients_through``.
    Yields: the Block, whose ``at_once`` is the number of views at a time.
    """
    core = loss.loss if loss else None
    memory = count_least_bytes(core) + sum(p.memory_required(shape, checkpointing=True) for p in passages)
    referees = [Network(patcher) for patcher in loss.patchers] if loss else []
    device = (referees or passages)[-1].patcher.load_device
    with (
        gradients_through(*passages, *referees, also_load=also_load, memory=memory, kept=kept) as block,
        fit_to_memory(passages, core, device, shape, views, asked) as block.at_once,
    ):
        yield block
