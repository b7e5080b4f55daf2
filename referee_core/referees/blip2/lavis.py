"""LAVIS's own BLIP-2 as a referee, where salesforce-lavis imports (it wants transformers < 4.27, which ComfyUI does
not).

from lavis.models import load_model
referee = LavisReferee(load_model("blip2_image_text_matching", "pretrain"))
"""

from collections.abc import Sequence
from typing import Any

import torch

from ..base import RefereeBase
from ..pixels import normalise
from .model import caption_loss, itm_loss
from .text import EncodedText, Tokenizer


class LavisReferee(RefereeBase):
    """Judges as Blip2Referee does, computed by LAVIS's modules throughout.

    Args:
        model: a Blip2ITM or Blip2Qformer of LAVIS 1.0.2; it is put to evaluation mode and frozen.
    """

    terms = ("itm", "caption")
    probability = "itm"

    def __init__(self, model: Any):
        self.model = model.eval().requires_grad_(False)
        self.image_size = model.visual_encoder.patch_embed.img_size[0]
        words = model.tokenizer.get_vocab()
        self.tokenizer = Tokenizer(sorted(words, key=words.get), model.max_txt_len)

    def encode(self, text: str) -> EncodedText:
        return self.tokenizer.encode(text)

    def notes(self, text: EncodedText) -> list[str]:
        return text.notes

    def encode_images(self, views: torch.Tensor) -> torch.Tensor:
        return self.model.ln_vision(self.model.visual_encoder(normalise(views)))

    def losses(self, seen: torch.Tensor, text: EncodedText, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        model, embeds = self.model, seen
        mask, match_ids, caption_ids = text.for_images(embeds)
        queries = model.query_tokens.expand(len(embeds), -1, -1)
        visible = torch.ones(embeds.shape[:-1], dtype=torch.long, device=embeds.device)
        both = torch.cat([visible.new_ones(queries.shape[:-1]), mask.long()], dim=1)
        image = {"encoder_hidden_states": embeds, "encoder_attention_mask": visible, "return_dict": True}
        losses = {}
        if "itm" in terms:
            hidden = model.Qformer.bert(match_ids, query_embeds=queries, attention_mask=both, **image).last_hidden_state
            losses["itm"] = itm_loss(model.itm_head(hidden[:, : queries.shape[1]]).mean(dim=1))
        if "caption" in terms:
            read = model.Qformer.bert(query_embeds=queries, use_cache=True, **image).past_key_values
            logits = model.Qformer(
                caption_ids, attention_mask=both, past_key_values=read, return_dict=True, is_decoder=True
            ).logits
            losses["caption"] = caption_loss(logits, caption_ids, mask)
        return losses
