"""What a vision-language referee keeps for its backward pass, beside its estimate, at two sizes each."""

import torch
from comfy.sd import CLIP

from pack.nodes.bridge.gradients.block import Network, gradients_through
from pack.nodes.bridge.language.vision_language import load_vision_language
from programs import small_gemma, small_gemma4, small_qwen
from programs.asked_directly import TEXTS

found = {}


def kept(clip: CLIP, side: int, texts: list[str]) -> list[int]:
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

        picture = torch.rand(1, 3, referee.image_size, referee.image_size, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            asked = [referee.encode(text) for text in texts]
            losses = referee.losses_of_all(referee.encode_images(picture), asked, [referee.terms] * len(texts))
        sum(loss["yes"].sum() for loss in losses).backward()
    return [sum(seen.values()), referee.activation_bytes(False, len(texts))]


with torch.inference_mode():
    clips = {"qwen3-vl": small_qwen.as_clip(small_qwen.transformers_model(True), True)}
    clips |= {
        f"gemma 4 {kind}": small_gemma4.as_clip(small_gemma4.transformers_model(kind), kind)
        for kind in small_gemma4.KINDS
    }
    gemma3 = small_gemma.as_clip(small_gemma.transformers_model(), "ltx")
for name, clip in clips.items():
    for side in (144, 432):
        for texts in (TEXTS[:1], TEXTS):
            found[f"{name}, {side} pixels, {len(texts)} questions"] = kept(clip, side, texts)
found["gemma 3, 1 question"] = kept(gemma3, 0, TEXTS[:1])
found["gemma 3, 3 questions"] = kept(gemma3, 0, TEXTS)
