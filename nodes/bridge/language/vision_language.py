"""A vision-language model that ComfyUI has loaded as CLIP, as a referee: "does this figure show ...?"

VQAScore (Lin et al., ECCV 2024): the probability of "yes" against "no" as the first word of the answer. Weights, device
and precision are ComfyUI's own; nothing is loaded twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.sd import CLIP

from ....referee_core.out_of_memory import is_out_of_memory
from ....referee_core.referees.base import RefereeBase
from ...sockets import LoadedReferee
from .model import find_language_model, ids_of
from .reading import Look, lay_out

TERM = "yes"
QUESTION = 'Does this figure show "{}"?'
ANSWER = " Please answer yes or no."
BLIND = (
    "The model on the input 'clip' of Referee from CLIP sees nothing in a picture: its file seems to lack the weights "
    "for pictures, as many GGUF files do. Load one that has them, such as the .safetensors file of Comfy-Org."
)
YES, NO = (("Yes", "yes", "YES", " Yes", " yes"), ("No", "no", "NO", " No", " no"))


@dataclass(frozen=True)
class Question:
    """Ids of the tokens before the picture and after it; a text that ends with a question mark is asked as it is."""

    text: str
    before: list[int]
    after: list[int]


class VisionLanguageReferee(RefereeBase):
    """Asks a Qwen3-VL, Qwen3.5, Gemma 3 or Gemma 4 about pictures. Gradients reach them.

    side: of the pictures in pixels; Gemma 3 has a size of its own, 896, and Gemma 4 reads multiples of 48.

    Raises ValueError, saying why and what to use instead, for a CLIP that cannot answer questions about pictures.
    """

    terms, probability = (TERM,), TERM

    def __init__(self, clip: CLIP, side: int = 448):
        self.network, self._chat = find_language_model(clip, sees=True)
        own = max(side // self._chat.step, 1) * self._chat.step
        self.image_size, self._clip = getattr(self.network, "image_size", own), clip
        self._sees = False
        self._yes, self._no = ([ids_of(clip, self._chat, word)[0] for word in words] for words in (YES, NO))

    def encode(self, text: str) -> Question:
        if not text.strip():
            raise ValueError("The text for the referee is empty: write what the picture should show.")
        text = text.strip()
        question = text if text.endswith("?") else QUESTION.format(text)
        words, picture = self._chat.picture
        ids = ids_of(self._clip, self._chat, self._chat.template.format(picture=words, text=question + ANSWER))
        place = ids.index(picture)
        return Question(text, ids[:place], ids[place + 1 :])

    def encode_images(self, views: torch.Tensor) -> list[Look]:
        """One by one: ComfyUI's preparation reads the first picture of a batch only."""
        if not self._sees:
            self._check_sight()
        return [self._look(view) for view in views]

    def _look(self, view: torch.Tensor) -> Look:
        device = self._clip.patcher.load_device
        return Look(*self._chat.look(self.network, view, device, self._dtype(device)))

    @torch.no_grad()
    def _check_sight(self) -> None:
        """Raises ValueError if a picture makes no difference, as without vision weights: ComfyUI loads such a file with
        a warning in its log only."""
        shape = (3, self.image_size, self.image_size)
        noise = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        cause: Exception | None = None
        try:
            one, other = (self._look(probe).tokens for probe in (noise, torch.zeros(shape)))
            self._sees = bool(one.isfinite().all()) and not torch.equal(one, other)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            cause = error
        if not self._sees:
            raise ValueError(BLIND) from cause

    def losses(self, seen: list[Look], text: Question, terms: Sequence[str]) -> dict[str, torch.Tensor]:
        """-log P(yes), of the spellings of yes and no together."""
        return self.losses_of_all(seen, [text], [terms])[0]

    def losses_of_all(
        self, seen: list[Look], texts: Sequence[Question], terms: Sequence[Sequence[str]]
    ) -> list[dict[str, torch.Tensor]]:
        """A picture is read once for as many questions as fit beside it."""
        each = [torch.cat([self._ask(look, group) for group in self._groups(look, texts)]) for look in seen]
        return [{TERM: loss} for loss in torch.stack(each, dim=1)]

    def _groups(self, look: Look, texts: Sequence[Question]) -> Iterator[list[Question]]:
        """What is asked in one reading: no more than the tokens that a layer can look back on."""
        windows = [w for w in getattr(self.network.model.config, "sliding_attention", None) or () if w]
        group: list[Question] = []
        for text in texts:
            tokens = len(text.before) + len(look.tokens) + sum(len(one.after) for one in (*group, text))
            if group and (not self._chat.together or tokens > min(windows, default=tokens)):
                yield group
                group = []
            group.append(text)
        yield group

    def _ask(self, look: Look, questions: Sequence[Question]) -> torch.Tensor:
        """-log P(yes) of each question."""
        device = look.tokens.device
        dtype = self._dtype(device)

        def embed(ids: torch.Tensor) -> torch.Tensor:
            return self.network.model.embed_tokens(ids[None], out_dtype=dtype)[0].to(dtype)

        parts = (questions[0].before, *(question.after for question in questions))
        before, *after = (torch.tensor(ids, device=device) for ids in parts)
        reading = lay_out(before, Look(look.tokens.to(dtype), look.extra), after, embed)
        hidden = self._chat.read(self.network, reading)
        logits = self._head(hidden[0, reading.ends][:, None])[:, 0].float()
        yes, no = (logits[:, ids].logsumexp(1) for ids in (self._yes, self._no))
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
        chat = self._chat
        patches = (self.image_size // chat.patch) ** 2
        tower = getattr(self.network, chat.tower)
        blocks = max((m for m in tower.modules() if isinstance(m, torch.nn.ModuleList)), key=len, default=tower)
        inputs = sum(m.in_features for m in blocks.modules() if isinstance(m, torch.nn.Linear))
        picture, question = patches // chat.pooled, 40
        tokens = picture + texts * question if chat.together else texts * (picture + question)
        heads = config.num_attention_heads * config.head_dim
        layer = tokens * (4 * config.hidden_size + 5 * heads + 3 * config.intermediate_size)
        linear = list(getattr(config, "layer_types", ())).count("linear_attention")
        solved = 20_000 * tokens * getattr(config, "linear_num_value_heads", 0)
        return round(size * chat.kept * patches * inputs) + size * config.num_hidden_layers * layer + linear * solved

    @staticmethod
    def _dtype(device: torch.device) -> torch.dtype:
        return torch.bfloat16 if comfy.model_management.should_use_bf16(device) else torch.float32


def load_vision_language(clip: CLIP, side: int) -> LoadedReferee:
    with torch.inference_mode(False):
        return LoadedReferee(VisionLanguageReferee(clip, side), clip.patcher)
