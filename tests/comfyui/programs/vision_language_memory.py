"""What a vision-language referee keeps for its backward pass, beside its estimate, at two sizes."""

import torch

from pack.nodes.bridge.gradients.block import Network, gradients_through
from pack.nodes.bridge.models.vision_language import load_vision_language
from programs import small_qwen

found = {}
model = small_qwen.transformers_model(True)
with torch.inference_mode():
    clip = small_qwen.as_clip(model, True)


def kept(side: int) -> list[int]:
    """Bytes that autograd keeps of one picture, and the estimate of them. The weights are left out, and the matrices of
    attention, which a card's kernels do not keep."""
    with torch.inference_mode():
        loaded = load_vision_language(clip, side)
    referee = loaded.referee
    with torch.inference_mode(), gradients_through(Network(loaded.patcher)):
        weights = {p.untyped_storage().data_ptr() for p in loaded.patcher.model.parameters()}
        seen = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            matrix = tensor.ndim > 2 and tensor.shape[-1] == tensor.shape[-2] > 32
            if storage.data_ptr() not in weights and not matrix:
                seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        picture = torch.rand(1, 3, side, side, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = referee.losses(referee.encode_images(picture), referee.encode("a red circle"), referee.terms)
        loss["yes"].sum().backward()
    return [sum(seen.values()), referee.activation_bytes(False)]


found["bytes"] = {str(side): kept(side) for side in (128, 448)}
