"""The sizes of a BLIP-2 stage-1 network."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Blip2Config:
    """Defaults are those of the published ViT-g model (1.2 billion parameters)."""

    image_size: int = 224
    patch_size: int = 14
    vision_dim: int = 1408
    vision_depth: int = 39
    vision_heads: int = 16
    vision_mlp_dim: int = 6144
    dim: int = 768
    layers: int = 12
    heads: int = 12
    mlp_dim: int = 3072
    cross_attention_every: int = 2
    queries: int = 32
    vocab_size: int = 30523
    max_positions: int = 512
    max_text_tokens: int = 32
    """Text limit in tokens, [CLS] and [SEP] included."""
    caption_head: bool = True
    """Hugging Face's files come without one; then there is no caption loss."""
