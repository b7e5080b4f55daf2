"""From a prompt to BLIP-2's token ids: blip_caption's cleaning, then BERT's WordPiece."""

import re
from dataclasses import dataclass
from textwrap import shorten

import torch

PAD, UNK, CLS, SEP, MASK, DEC = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"
MAX_WORDS = 50  # of LAVIS's blip_caption processor
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
SPECIAL = (PAD, UNK, CLS, SEP, MASK, DEC)


@dataclass(frozen=True)
class EncodedText:
    """Token ids of one text.

    match_ids, caption_ids: [1, L], starting with [CLS] and [DEC]; mask: [1, L], True everywhere; text: as cleaned; cut: the
    words beyond the limit ("" when all fit); weights_removed: whether the prompt held ComfyUI's emphasis; unknown: the words
    that the vocabulary lacks, as they were written.
    """

    match_ids: torch.Tensor
    caption_ids: torch.Tensor
    mask: torch.Tensor
    text: str
    cut: str
    weights_removed: bool = False
    unknown: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What the referee does not read of the text: one sentence each, none if it reads all."""
        notes = []
        if self.cut:
            notes.append(f"The referee reads only the beginning; this is cut off: {self.cut!r}")
        if self.weights_removed:
            notes.append(f"The referee knows no prompt weights; it reads {self.text!r}")
        if self.unknown:
            notes.append(f"The referee does not know these words and cannot judge them: {', '.join(self.unknown)}")
        return notes

    def for_images(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(mask, match_ids, caption_ids), one row for each image and on the images' device."""
        rows = (self.mask, self.match_ids, self.caption_ids)
        return tuple(t.to(images.device).expand(len(images), -1) for t in rows)


def strip_weights(prompt: str) -> str:
    """Remove ComfyUI's emphasis: "(red:1.3) (circle)" -> "red circle"; escaped parentheses stay as plain ones."""
    text = re.sub(rf":\s*{NUMBER}\s*(?=\))", "", prompt)
    text = re.sub(r" {2,}", " ", re.sub(r"(?<!\\)[()]", " ", text)).strip(" ")
    return text.replace(r"\(", "(").replace(r"\)", ")")


def clean(text: str) -> str:
    """LAVIS's blip_caption processor without its limit of words: lower case, some punctuation to spaces."""
    text = re.sub(r"([.!\"()*#:;~])", " ", text.lower())
    return re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")


def as_written(word: str, prompt: str) -> str:
    """A word of the cleaned text with the prompt's own capitals."""
    found = re.search(re.escape(word), prompt, re.IGNORECASE)
    return found[0] if found else word


class Tokenizer:
    """WordPiece over a list of tokens whose index is the id."""

    def __init__(self, vocabulary: list[str], max_tokens: int):
        from tokenizers import Tokenizer as Engine
        from tokenizers.models import WordPiece
        from tokenizers.normalizers import BertNormalizer
        from tokenizers.pre_tokenizers import BertPreTokenizer

        missing = [t for t in SPECIAL if t not in vocabulary]
        if missing:
            raise ValueError(f"the referee's vocabulary lacks {', '.join(missing)}: the file is damaged or not BERT's")
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self.ids = {token: i for i, token in enumerate(vocabulary)}
        self.engine = Engine(WordPiece(self.ids, unk_token=UNK))
        self.engine.normalizer = BertNormalizer(lowercase=True)
        self.engine.pre_tokenizer = BertPreTokenizer()

    def words(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and character spans of the word pieces, without special tokens."""
        encoding = self.engine.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def encode(self, prompt: str) -> EncodedText:
        """Clean and tokenise one prompt.

        Raises ValueError when nothing is left to judge, or no word of it is known.
        """
        text = clean(strip_weights(prompt))
        kept = " ".join(text.split(" ")[:MAX_WORDS])
        ids, spans = self.words(kept)
        if not ids:
            raise ValueError("The text for the referee is empty: write what the picture should show.")
        room = self.max_tokens - 2
        end = spans[room][0] if len(ids) > room else len(kept)
        cut = text[end:].strip()
        ids = ids[:room]
        if not any(self._is_word(i) for i in ids):
            raise ValueError(
                f"The referee knows no word of the text {shorten(prompt, 100)!r}. Write what the picture should show in plain "
                "English, such as 'a red circle and a blue square'."
            )
        missed = (kept[start:stop] for i, (start, stop) in zip(ids, spans, strict=False) if i == self.ids[UNK])
        unknown = tuple(dict.fromkeys(as_written(word, prompt) for word in missed))
        ids.append(self.ids[SEP])
        match_ids = torch.tensor([[self.ids[CLS], *ids]])
        caption_ids = torch.tensor([[self.ids[DEC], *ids]])
        mask = torch.ones_like(match_ids, dtype=torch.bool)
        return EncodedText(match_ids, caption_ids, mask, text, cut, text != clean(prompt), unknown)

    def _is_word(self, index: int) -> bool:
        """Whether an id stands for a word or a piece of one: neither [UNK] nor punctuation."""
        return index != self.ids[UNK] and any(c.isalnum() for c in self.vocabulary[index])
