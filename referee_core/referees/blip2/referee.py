"""BLIP-2 behind the Referee interface."""

from collections.abc import Sequence
from typing import Any

import torch

from ..base import RefereeBase
from ..pixels import normalise
from .model import Blip2, caption_loss, itm_loss
from .qformer import Seen
from .text import EncodedText, Tokenizer

HALF_PRECISION_SCALE = 2.0**12
"""In fp16 nearly all of the tower's gradients would be below the smallest normal number; they are carried this much
larger."""


class ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a number."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float) -> torch.Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient * ctx.factor, None


class Blip2Referee(RefereeBase):
    """Judges images by image-text matching (L_itm) and by captioning (L_cg).

    The network is put to evaluation mode and its parameters are frozen; gradients reach the images.
    """

    probability = "itm"

    def __init__(self, network: Blip2, vocabulary: list[str]):
        self.network = network.eval().requires_grad_(False)
        self.image_size = network.config.image_size
        self.terms = ("itm", "caption") if network.config.caption_head else ("itm",)
        self.tokenizer = Tokenizer(vocabulary, network.config.max_text_tokens)

    @property
    def checkpointing(self) -> bool:
        return self.network.vision.checkpointing

    @checkpointing.setter
    def checkpointing(self, on: bool) -> None:
        self.network.vision.checkpointing = on

    def activation_bytes(self, checkpointing: bool, texts: int = 1) -> int:
        """About how many bytes one image judged against so many texts keeps for its backward pass.

        With frozen weights a linear layer keeps nothing and each block of the tower keeps what its norms, attention and
        GELU read; with checkpointing its input, and all of it for the one block at work. The text side is counted at
        its token limit.
        """
        c, net = self.network.config, self.network
        tokens = 1 + (c.image_size // c.patch_size) ** 2
        block = tokens * (6 * c.vision_dim + c.vision_mlp_dim)
        tower = block + c.vision_depth * tokens * c.vision_dim if checkpointing else c.vision_depth * block
        rows = c.queries + c.max_text_tokens
        layers = len(self.terms) * c.layers * rows * (6 * c.dim + 2 * c.mlp_dim)
        cross = 2 * tokens * c.dim * sum(layer.cross_attention is not None for layer in net.qformer.layers)
        words = 3 * c.max_text_tokens * c.vocab_size * c.caption_head
        side = cross + texts * (layers + words)
        return tower * net.vision.cls_token.itemsize + side * net.vision_norm.weight.itemsize

    def encode(self, text: str) -> EncodedText:
        return self.tokenizer.encode(text)

    def notes(self, text: EncodedText) -> list[str]:
        return text.notes

    @property
    def gradient_scale(self) -> float:
        return HALF_PRECISION_SCALE if self.network.vision.cls_token.dtype == torch.float16 else 1.0

    def encode_images(self, views: torch.Tensor) -> Seen:
        return self.network.encode_image(normalise(ScaleGradient.apply(views, 1 / self.gradient_scale)))

    def losses(self, seen: Seen, text: EncodedText, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        net, image = self.network, seen
        mask, match_ids, caption_ids = text.for_images(next(kv for kv in image if kv is not None)[0])
        losses = {}
        if "itm" in terms:
            losses["itm"] = itm_loss(net.itm_logits(image, match_ids, mask))
        if "caption" in terms:
            losses["caption"] = caption_loss(net.caption_logits(image, caption_ids, mask), caption_ids, mask)
        return {term: ScaleGradient.apply(loss, self.gradient_scale) for term, loss in losses.items()}
