"""A ComfyUI MODEL through which gradients pass: the counterpart of the Decoder."""

from collections.abc import Iterator
from contextlib import ExitStack

import torch
from comfy.model_patcher import ModelPatcher

from .attention import in_pytorch
from .checkpointing import checkpoint_blocks


class DifferentiableModel:
    """The diffusion model of a ModelPatcher as a Passage (block.py).

    Inside the block, ``patcher.model.apply_model`` and what is built on it (``comfy.samplers.calc_cond_batch``, a
    guider) give gradients by the latent and by the conditioning, if ``options`` are its model_options.

    Raises:
        ValueError: the weights are quantised, or computed outside PyTorch.
    """

    precision: torch.dtype | None = None
    writes_in_place: bool = True

    def __init__(self, patcher: ModelPatcher):
        self.patcher, self.network = patcher, patcher.model.diffusion_model
        obstacle = _obstacle(self.network)
        if obstacle:
            raise ValueError(
                f"No gradient passes through the MODEL of the input 'model': {obstacle}. Load it in "
                "bf16, fp16 or fp32: Load Diffusion Model with weight_dtype 'default', a file that is not quantised."
            )

    def options(self, model_options: dict) -> dict:
        """The same options with PyTorch's own attention: other kernels have no backward pass, or a wrong one."""
        transformer = {**model_options.get("transformer_options", {}), "optimized_attention_override": in_pytorch}
        return {**model_options, "transformer_options": transformer}

    def memory_required(self, shape: torch.Size, checkpointing: bool) -> float:
        """Bytes for one pass forward and backward, a rough estimate: what ComfyUI counts for one forward pass, as often
        as there are blocks; checkpointed, three times that (both ends of the network and a block at work)."""
        blocks = sum(1 for _ in self._blocks())
        return self.patcher.model.memory_required(list(shape)) * (3 if checkpointing else max(3, blocks))

    def checkpoint(self, undo: ExitStack) -> None:
        checkpoint_blocks(self._blocks(), undo, self.writes_in_place)

    def _blocks(self) -> Iterator[torch.nn.Module]:
        """The members of the network's lists; of a UNet's sequences, their layers."""
        for part in self.network.children():
            for block in part if isinstance(part, torch.nn.ModuleList) else ():
                yield from block if isinstance(block, torch.nn.Sequential) else (block,)


def _obstacle(network: torch.nn.Module) -> str:
    """Why no gradient passes, or nothing."""
    weights = [p for p in network.parameters()]
    if not weights:
        return "it is computed outside PyTorch"
    names = {type(p).__name__ for p in weights} & {"QuantizedTensor", "GGMLTensor", "GGUFParameter"}
    if names or not any(p.is_floating_point() for p in weights):
        return "its weights are quantised"
    if any(type(m).__qualname__.startswith("fp8_ops") for m in network.modules()):
        return "it multiplies in fp8"
    return ""
