"""A vision-language model that ComfyUI has loaded as CLIP, as a referee: "does this figure show ...?"

VQAScore (Lin et al., ECCV 2024): the probability of "yes" against "no" as the first word of the answer. Weights, device
and precision are ComfyUI's own; nothing is loaded twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.model_management
import torch
from comfy.sd import CLIP

from ....referee_core.referees.base import RefereeBase
from ...sockets import LoadedReferee

TERM = "yes"
QUESTION = 'Does this figure show "{}"?'
ANSWER = " Please answer yes or no."
CHAT = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
"""Qwen's own template; ComfyUI's adds an empty block of thoughts, which the Instruct models were not trained on."""
PICTURE = 151655  # <|image_pad|>
YES, NO = (("Yes", "yes", "YES", " Yes", " yes"), ("No", "no", "NO", " No", " no"))
USE = (
    "Load one of qwen3vl_4b or qwen3vl_8b (fp8_scaled, int8_convrot or bf16) with Load CLIP, type krea2 or qwen_image."
)


@dataclass(frozen=True)
class Question:
    """Ids of the tokens before the picture and after it; a text that ends with a question mark is asked as it is."""

    text: str
    before: list[int]
    after: list[int]


class Look(NamedTuple):
    """A picture as the language model reads it: tokens [n, d], their grid and what is injected into deeper layers."""

    tokens: torch.Tensor
    extra: dict


class VisionLanguageReferee(RefereeBase):
    """Asks a Qwen3-VL about pictures of ``side`` pixels. Gradients reach the pictures.

    Raises ValueError, saying why and what to use instead, for a CLIP that cannot answer questions about pictures.
    """

    terms, probability = (TERM,), TERM

    def __init__(self, clip: CLIP, side: int = 448):
        self.network = _language_model(clip)
        self.image_size, self._clip = side, clip
        self._yes, self._no = ([self._ids(word)[0] for word in words] for words in (YES, NO))

    def _ids(self, text: str) -> list[int]:
        ((row, *_),) = self._clip.tokenize(text, skip_template=True).values()
        return [int(token[0]) for token in row]

    def encode(self, text: str) -> Question:
        if not text.strip():
            raise ValueError("The text for the referee is empty: write what the picture should show.")
        text = text.strip()
        question = text if text.endswith("?") else QUESTION.format(text)
        ids = self._ids(CHAT.format(question + ANSWER))
        place = ids.index(PICTURE)
        return Question(text, ids[:place], ids[place + 1 :])

    def encode_images(self, views: torch.Tensor) -> list[Look]:
        """One by one: ComfyUI's preparation reads the first picture of a batch only."""
        device = self._clip.patcher.load_device
        pictures = (view.movedim(0, -1)[None] for view in views)
        looks = (self.network.preprocess_embed({"type": "image", "data": p}, device) for p in pictures)
        return [Look(*look) for look in looks]

    def losses(self, seen: list[Look], text: Question, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        """-log P(yes), of the spellings of yes and no together."""
        return {TERM: torch.stack([self._ask(look, text) for look in seen])}

    def _ask(self, look: Look, question: Question) -> torch.Tensor:
        device = look.tokens.device
        half = comfy.model_management.should_use_bf16(device)
        dtype = torch.bfloat16 if half else torch.float32
        words = [torch.tensor([ids], device=device) for ids in (question.before, question.after)]
        before, after = (self.network.model.embed_tokens(ids)[0].to(dtype) for ids in words)
        embeds = torch.cat([before, look.tokens.to(dtype), after])[None]
        about = {"type": "image", "index": len(before), "size": len(look.tokens), "extra": look.extra}
        positions, mask, deepstack = self.network.build_image_inputs(embeds, [about])
        hidden = self.network.model(
            None, embeds=embeds, position_ids=positions, visual_pos_masks=mask, deepstack_embeds=deepstack
        )[0]
        logits = self._head(hidden[:, -1:])[0, 0].float()
        yes, no = (logits[ids].logsumexp(0) for ids in (self._yes, self._no))
        return torch.nn.functional.softplus(no - yes)

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output head itself: ComfyUI's own function takes the input embeddings in its place at times."""
        head = getattr(self.network.model, "lm_head", None)
        return self.network.logits(hidden) if head is None else head(hidden)

    def activation_bytes(self, checkpointing: bool, texts: int = 1) -> int:
        """About what one picture keeps: each layer of the language model what its norms, attention and gate read."""
        config = self.network.model.config
        tokens = (self.image_size // 32) ** 2 + 60
        layer = tokens * (8 * config.hidden_size + 3 * config.intermediate_size)
        return texts * config.num_hidden_layers * layer * 2


def _language_model(clip: CLIP) -> Any:
    """The language model inside, or why there is none that can judge."""
    model = clip.cond_stage_model
    network = getattr(getattr(model, str(getattr(model, "clip", "")), None), "transformer", None)
    kind = type(model).__name__
    config = getattr(getattr(network, "model", None), "config", None)
    if config is None or not hasattr(network, "preprocess_embed") or not hasattr(network, "logits"):
        why = "it reads text only"
    elif not hasattr(network, "build_image_inputs") or not hasattr(network, "visual"):
        why = "it sees no pictures as loaded here (Gemma is not supported yet)"
    elif type(config).__name__.startswith("Qwen25"):
        why = "ComfyUI holds it without its output head, so its answers are gibberish"
    elif not getattr(config, "final_norm", True):
        why = "it is cut off after some of its layers, without an output head"
    else:
        return network
    raise ValueError(f"The input 'clip' ({kind}) cannot judge pictures: {why}. {USE}")


def load_vision_language(clip: CLIP, side: int) -> LoadedReferee:
    with torch.inference_mode(False):
        return LoadedReferee(VisionLanguageReferee(clip, side), clip.patcher)
