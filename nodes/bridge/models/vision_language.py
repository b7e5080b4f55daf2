"""A vision-language model that ComfyUI has loaded as CLIP, as a referee: "does this figure show ...?"

VQAScore (Lin et al., ECCV 2024): the probability of "yes" against "no" as the first word of the answer. Weights, device
and precision are ComfyUI's own; nothing is loaded twice.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import comfy.model_management
import torch
from comfy.sd import CLIP
from comfy.text_encoders.flux import Flux2TEModel

from ....referee_core.referees.base import RefereeBase
from ...sockets import LoadedReferee
from . import gemma3
from .qwen35_positions import in_their_places

TERM = "yes"
QUESTION = 'Does this figure show "{}"?'
ANSWER = " Please answer yes or no."
USE = (
    "Load one of qwen3vl_4b or qwen3vl_8b (fp8_scaled, int8_convrot or bf16) with Load CLIP, type krea2 or qwen_image; "
    "or LTX-2's gemma_3_12B_it, type ltxv."
)
YES, NO = (("Yes", "yes", "YES", " Yes", " yes"), ("No", "no", "NO", " No", " no"))


def _ids(tokenize: gemma3.Tokenize, text: str) -> list[int]:
    return tokenize(text)["input_ids"]


def _look(network: Any, picture: torch.Tensor, device: torch.device, dtype: torch.dtype) -> tuple[torch.Tensor, Any]:
    """As ComfyUI looks at a picture [3, h, w] from 0 to 1; see Look."""
    return network.preprocess_embed({"type": "image", "data": picture.movedim(0, -1)[None]}, device)


class Chat(NamedTuple):
    """How a family of models is asked.

    Attributes:
        template: its own, with the question for ``{}``.
        picture: the id of the picture.
        ids: of a text, by the model's tokenizer.
        look: what it reads of a picture, see ``_look``.
        around: surrounds a call of the language model, which it is given, with where the picture's tokens are.
        tower: name of the vision tower. patch: side of its patches. pooled: patches to a token.
        kept: numbers that the tower keeps for its backward pass, for each that its linear maps read (measured).
    """

    template: str
    picture: int
    ids: Callable[[gemma3.Tokenize, str], list[int]] = _ids
    look: Callable[[Any, torch.Tensor, torch.device, torch.dtype], tuple[torch.Tensor, Any]] = _look
    around: Callable[[Any, slice], AbstractContextManager] = lambda model, picture: nullcontext()
    tower: str = "visual"
    patch: int = 16
    pooled: int = 4
    kept: float = 2


VISION = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
GEMMA3 = Chat(
    gemma3.TEMPLATE,
    gemma3.SPECIAL["<image_soft_token>"],
    ids=gemma3.ids,
    look=gemma3.look,
    around=gemma3.seen_whole,
    tower="vision_model",
    patch=14,
    pooled=16,
    kept=1.1,
)
CHATS = {
    "Qwen3VL": Chat(VISION, 151655),
    "Qwen35": Chat(VISION + "<think>\n\n</think>\n\n", 248056, around=lambda model, picture: in_their_places(model)),
    "Gemma3_12B": GEMMA3,
    "Gemma3_4B_Vision": GEMMA3,
}
"""By ComfyUI's class. ComfyUI's own template adds an empty block of thoughts for Qwen3-VL too, whose Instruct models
were not trained on one; Qwen3.5 without thinking is asked with one."""


@dataclass(frozen=True)
class Question:
    """Ids of the tokens before the picture and after it; a text that ends with a question mark is asked as it is."""

    text: str
    before: list[int]
    after: list[int]


class Look(NamedTuple):
    """A picture as the language model reads it: tokens [n, d], and their grid with what goes into deeper layers."""

    tokens: torch.Tensor
    extra: Any


class VisionLanguageReferee(RefereeBase):
    """Asks a Qwen3-VL, Qwen3.5 or Gemma 3 about pictures. Gradients reach them.

    side: of the pictures in pixels; Gemma 3 has a size of its own, 896.

    Raises ValueError, saying why and what to use instead, for a CLIP that cannot answer questions about pictures.
    """

    terms, probability = (TERM,), TERM

    def __init__(self, clip: CLIP, side: int = 448):
        self.network, self._chat = _language_model(clip)
        self.image_size, self._clip = getattr(self.network, "image_size", side), clip
        self._yes, self._no = ([self._ids(word)[0] for word in words] for words in (YES, NO))

    def _ids(self, text: str) -> list[int]:
        """By the model's own tokenizer: ComfyUI's around it may add a template, and reads "embedding:name"."""
        tokenizer = self._clip.tokenizer
        own = getattr(tokenizer, getattr(tokenizer, "clip", ""), tokenizer)
        return self._chat.ids(own.tokenizer, text)

    def encode(self, text: str) -> Question:
        if not text.strip():
            raise ValueError("The text for the referee is empty: write what the picture should show.")
        text = text.strip()
        question = text if text.endswith("?") else QUESTION.format(text)
        ids = self._ids(self._chat.template.format(question + ANSWER))
        place = ids.index(self._chat.picture)
        return Question(text, ids[:place], ids[place + 1 :])

    def encode_images(self, views: torch.Tensor) -> list[Look]:
        """One by one: ComfyUI's preparation reads the first picture of a batch only."""
        device = self._clip.patcher.load_device
        dtype = self._dtype(device)
        return [Look(*self._chat.look(self.network, view, device, dtype)) for view in views]

    def losses(self, seen: list[Look], text: Question, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        """-log P(yes), of the spellings of yes and no together."""
        return {TERM: torch.stack([self._ask(look, text) for look in seen])}

    def _ask(self, look: Look, question: Question) -> torch.Tensor:
        device = look.tokens.device
        dtype = self._dtype(device)
        words = [torch.tensor([ids], device=device) for ids in (question.before, question.after)]
        before, after = (self.network.model.embed_tokens(ids, out_dtype=dtype)[0].to(dtype) for ids in words)
        embeds = torch.cat([before, look.tokens.to(dtype), after])[None]
        about = {"type": "image", "index": len(before), "size": len(look.tokens), "extra": look.extra}
        with self._chat.around(self.network.model, slice(len(before), len(before) + len(look.tokens))):
            hidden = self.network(None, embeds=embeds, embeds_info=[about])[0]
        logits = self._head(hidden[:, -1:])[0, 0].float()
        yes, no = (logits[ids].logsumexp(0) for ids in (self._yes, self._no))
        return torch.nn.functional.softplus(no - yes)

    def _head(self, hidden: torch.Tensor) -> torch.Tensor:
        """The output head itself: ComfyUI's own function takes the input embeddings in its place at times."""
        head = getattr(self.network.model, "lm_head", None)
        return self.network.logits(hidden) if head is None else head(hidden)

    def activation_bytes(self, checkpointing: bool, texts: int = 1) -> int:
        """About what one picture keeps, by attention kernels that keep no matrix, as on a card. Measured: a layer of
        the language model keeps what its norms, attention and gate read; one of the vision tower ``kept`` times what
        its linear maps read; a linear layer of Qwen3.5 also 20 kB for each token and head, as it solves 64 tokens at a
        time."""
        config, size = self.network.model.config, self._dtype(self._clip.patcher.load_device).itemsize
        patches = (self.image_size // self._chat.patch) ** 2
        parts = getattr(self.network, self._chat.tower).modules()
        tower = max((m for m in parts if isinstance(m, torch.nn.ModuleList)), key=len)
        seen = self._chat.kept * patches * sum(m.in_features for m in tower.modules() if isinstance(m, torch.nn.Linear))
        tokens = patches // self._chat.pooled + 60
        layer = tokens * (10 * config.hidden_size + 3 * config.intermediate_size)
        linear = list(getattr(config, "layer_types", ())).count("linear_attention")
        solved = 20_000 * tokens * getattr(config, "linear_num_value_heads", 0)
        return round(size * seen) + texts * (size * config.num_hidden_layers * layer + linear * solved)

    @staticmethod
    def _dtype(device: torch.device) -> torch.dtype:
        return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32


def _language_model(clip: CLIP) -> tuple[Any, Chat]:
    """The language model inside and how it is asked; a ValueError says why there is none that can judge."""
    model = clip.cond_stage_model
    holders = (getattr(model, str(getattr(model, "clip", "")), None), model, *model.children())
    network = next((held.transformer for held in holders if hasattr(held, "transformer")), None)
    families = {kind.__name__ for kind in type(network).__mro__}
    why = _why_not(model, network, families)
    if why:
        raise ValueError(f"The input 'clip' ({type(model).__name__}) cannot judge pictures: {why}. {USE}")
    return network, next(chat for family, chat in CHATS.items() if family in families)


def _why_not(model: torch.nn.Module, network: Any, families: set[str]) -> str:
    """Why a language model cannot judge pictures, or nothing. families: its classes' names in ComfyUI."""
    config = getattr(getattr(network, "model", None), "config", None)
    if any(family.startswith("Gemma4") for family in families):
        return "Gemma 4 is not supported, as ComfyUI rounds its pictures, and no gradient passes through that"
    if not hasattr(config, "hidden_size"):
        return "it only encodes text and gives no answers, like CLIP and T5"
    if "Mistral3Small24B" in families:
        return "Mistral reads text only here, without an output head, and the pruned file without its last layers"
    if isinstance(model, Flux2TEModel):
        return (
            "type flux2 (or flux) loads only the part that reads text, of a Qwen3-VL too. "
            "If the file is a Qwen3-VL, choose the type krea2 or qwen_image"
        )
    if not hasattr(network, "preprocess_embed"):
        return "it reads text only"
    if "Qwen25_7BVLI" in families:
        return "ComfyUI holds it without its output head, so its answers are gibberish"
    if not getattr(config, "final_norm", True):
        return "it is cut off after some of its layers, without an output head"
    if not families & CHATS.keys():
        return "it is of a kind that is not supported"
    return ""


def load_vision_language(clip: CLIP, side: int) -> LoadedReferee:
    with torch.inference_mode(False):
        return LoadedReferee(VisionLanguageReferee(clip, side), clip.patcher)
