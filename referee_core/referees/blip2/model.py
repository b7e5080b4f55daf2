"""BLIP-2 stage 1 with its two heads that judge an image against a text (Referee Can Play, arXiv 2402.16305, A.2)."""

import torch
import torch.nn.functional as F
from torch import nn

from .config import Blip2Config
from .qformer import BERT_EPS, QFormer, Seen
from .vision import VisionTransformer

LABEL_SMOOTHING = 0.1
MATCH = 1  # class index of "match" in the ITM head


class CaptionHead(nn.Module):
    """BERT's language-model head; its decoder weight is the word embedding itself."""

    def __init__(self, config: Blip2Config):
        super().__init__()
        self.dense = nn.Linear(config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=BERT_EPS)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: torch.Tensor, word_embeddings: nn.Embedding) -> torch.Tensor:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), word_embeddings.weight, self.bias)


def match_mask(text_mask: torch.Tensor, queries: int) -> torch.Tensor:
    """Bidirectional: every token sees all queries and all text but padding. text_mask [B, L] -> [B, 1, Q+L, Q+L]."""
    b, length = text_mask.shape
    visible = torch.cat([text_mask.new_ones(b, queries), text_mask], dim=1)
    return visible[:, None, None, :].expand(b, 1, queries + length, queries + length)


def caption_mask(text_mask: torch.Tensor, queries: int) -> torch.Tensor:
    """Multimodal causal: queries see only queries, text sees all queries and the text up to itself."""
    b, length = text_mask.shape
    total = queries + length
    allowed = torch.ones(total, total, dtype=torch.bool, device=text_mask.device).tril()
    allowed[:queries, :queries] = True
    visible = torch.cat([text_mask.new_ones(b, queries), text_mask], dim=1)
    return (allowed & visible[:, None, :])[:, None]


def at_least_single(x: torch.Tensor) -> torch.Tensor:
    """Half-precision numbers in single precision, for the sums of a loss."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Blip2(nn.Module):
    """Vision tower, Q-Former, image-text-matching head and caption head."""

    def __init__(self, config: Blip2Config):
        super().__init__()
        self.config = config
        self.vision = VisionTransformer(config)
        self.vision_norm = nn.LayerNorm(config.vision_dim)
        self.qformer = QFormer(config)
        self.itm_head = nn.Linear(config.dim, 2)
        self.caption_head = CaptionHead(config) if config.caption_head else None

    def encode_image(self, pixels: torch.Tensor) -> Seen:
        """Normalised pixels [B, 3, S, S] -> what the Q-Former reads of the images, shared by both heads.

        The tower computes in its own weights' precision, everything after it in the Q-Former's.
        """
        tokens = self.vision(pixels.to(self.vision.cls_token.dtype))
        return self.qformer.image_keys_values(self.vision_norm(tokens.to(self.vision_norm.weight.dtype)))

    def itm_logits(self, image: Seen, ids: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
        """Two-class logits [B, 2] (no match, match), averaged over the queries. ids starts with [CLS]."""
        hidden = self.qformer(ids, match_mask(text_mask, self.config.queries), image)
        return at_least_single(self.itm_head(hidden[:, : self.config.queries]).mean(dim=1))

    def caption_logits(self, image: Seen, ids: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
        """Next-token logits [B, L, vocab], of a network with a caption head. ids starts with [DEC]."""
        assert self.caption_head is not None
        hidden = self.qformer(ids, caption_mask(text_mask, self.config.queries), image)
        return at_least_single(self.caption_head(hidden[:, self.config.queries :], self.qformer.word_embeddings))


def itm_loss(logits: torch.Tensor) -> torch.Tensor:
    """L_itm: cross-entropy towards "match", [B, 2] -> [B]."""
    target = torch.full((len(logits),), MATCH, device=logits.device)
    return F.cross_entropy(logits, target, reduction="none")


def caption_loss(logits: torch.Tensor, ids: torch.Tensor, text_mask: torch.Tensor) -> torch.Tensor:
    """L_cg: mean cross-entropy of each next token with label smoothing 0.1, [B, L, V] -> [B]."""
    targets, real = ids[:, 1:], text_mask[:, 1:]
    losses = F.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none", label_smoothing=LABEL_SMOOTHING)
    return (losses * real).sum(dim=1) / real.sum(dim=1)
