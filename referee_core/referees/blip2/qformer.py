"""The Q-Former: a BERT whose learned queries read the image through cross-attention (BLIP-2, section 3.1).

One sequence holds the queries first and the text after them; which token sees which is the mask's business.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from .config import Blip2Config

BERT_EPS = 1e-12

KeysValues = tuple[torch.Tensor, torch.Tensor]
Seen = Sequence[KeysValues | None]
"""Of an image, by layer; None where a layer does not read it."""


class Attention(nn.Module):
    """BERT attention with its residual and post-norm; keys and values may come from another sequence."""

    def __init__(self, dim: int, heads: int, source_dim: int | None = None):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(source_dim or dim, dim)
        self.value = nn.Linear(source_dim or dim, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=BERT_EPS)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, source: torch.Tensor) -> KeysValues:
        return self.split(self.key(source)), self.split(self.value(source))

    def forward(self, x: torch.Tensor, keys_values: KeysValues, mask: torch.Tensor | None = None) -> torch.Tensor:
        attended = F.scaled_dot_product_attention(self.split(self.query(x)), *keys_values, attn_mask=mask)
        return self.norm(x + self.out(attended.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """BERT feed-forward with its residual and post-norm."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim, eps=BERT_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.fc2(F.gelu(self.fc1(x))))


class Layer(nn.Module):
    def __init__(self, config: Blip2Config, reads_image: bool):
        super().__init__()
        self.attention = Attention(config.dim, config.heads)
        self.cross_attention = Attention(config.dim, config.heads, config.vision_dim) if reads_image else None
        self.query_mlp = FeedForward(config.dim, config.mlp_dim)
        self.text_mlp = FeedForward(config.dim, config.mlp_dim)

    def forward(
        self, x: torch.Tensor, queries: int, mask: torch.Tensor, image_keys_values: KeysValues | None
    ) -> torch.Tensor:
        x = self.attention(x, self.attention.keys_values(x), mask)
        q, text = x[:, :queries], x[:, queries:]
        if self.cross_attention is not None:
            q = self.cross_attention(q, image_keys_values)
        return torch.cat([self.query_mlp(q), self.text_mlp(text)], dim=1)


class QFormer(nn.Module):
    def __init__(self, config: Blip2Config):
        super().__init__()
        self.queries = config.queries
        self.query_tokens = nn.Parameter(torch.zeros(1, config.queries, config.dim))
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim)
        self.position_embeddings = nn.Embedding(config.max_positions, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=BERT_EPS)
        self.layers = nn.ModuleList(
            Layer(config, reads_image=i % config.cross_attention_every == 0) for i in range(config.layers)
        )

    def image_keys_values(self, image_tokens: torch.Tensor) -> Seen:
        """Cross-attention keys and values of every layer, computed once for all passes over the same images."""
        return [
            layer.cross_attention.keys_values(image_tokens) if isinstance(layer.cross_attention, Attention) else None
            for layer in self.layers
        ]

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, image_keys_values: Seen) -> torch.Tensor:
        """One pass over [queries; text].

        Args:
            ids: token ids [B, L].
            mask: bool [B, 1, Q + L, Q + L], True where the row may see the column.
            image_keys_values: from image_keys_values, for B images.
        Returns: hidden states [B, Q + L, dim].
        """
        positions = torch.arange(ids.shape[1], device=ids.device)
        text = self.word_embeddings(ids) + self.position_embeddings(positions)
        x = self.norm(torch.cat([self.query_tokens.expand(len(ids), -1, -1), text], dim=1))
        for layer, keys_values in zip(self.layers, image_keys_values, strict=True):
            x = layer(x, self.queries, mask, keys_values)
        return x
