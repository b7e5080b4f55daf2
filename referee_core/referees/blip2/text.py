"""From a prompt to BLIP-2's token ids: blip_caption's cleaning, then BERT's WordPiece."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch

PAD, UNK, CLS, SEP, MASK, DEC = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]"
MAX_WORDS = 50  # of LAVIS's blip_caption processor
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
SPECIAL = (PAD, UNK, CLS, SEP, MASK, DEC)


@dataclass(frozen=True)
class EncodedText:
    """Token ids of one text.

    match_ids, caption_ids: [1, L], starting with [CLS] and [DEC]; mask: [1, L], True everywhere; text: as cleaned;
    cut: the words beyond the limit ("" when all fit); weights_removed: whether the prompt held ComfyUI's emphasis;
    unknown: words that the referee does not know, as they were written.
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
        """What the user should know about the text, one sentence each."""
        notes = []
        if self.cut:
            notes.append(f"The referee reads only the beginning; this is cut off: {self.cut!r}")
        if self.weights_removed:
            notes.append(f"The referee knows no prompt weights; it reads {self.text!r}")
        if self.unknown:
            notes.append(
                f"The referee does not know {', '.join(map(repr, self.unknown))}; it judges by the other words."
            )
        return notes

    def for_images(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(mask, match_ids, caption_ids), one row for each image and on the images' device."""
        rows = (self.mask, self.match_ids, self.caption_ids)
        mask, match_ids, caption_ids = (t.to(images.device).expand(len(images), -1) for t in rows)
        return mask, match_ids, caption_ids


def strip_weights(prompt: str) -> str:
    """Remove ComfyUI's emphasis: "(red:1.3) (circle)" -> "red circle"; escaped parentheses stay as plain ones."""
    text = re.sub(rf":\s*{NUMBER}\s*(?=\))", "", prompt)
    text = re.sub(r" {2,}", " ", re.sub(r"(?<!\\)[()]", " ", text)).strip(" ")
    return text.replace(r"\(", "(").replace(r"\)", ")")


def tidy(text: str) -> str:
    """Some punctuation to spaces, and no more than one space at a time."""
    text = re.sub(r"([.!\"()*#:;~])", " ", text)
    return re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ")


def clean(text: str) -> str:
    """LAVIS's blip_caption processor without its limit of words: lower case, some punctuation to spaces."""
    return tidy(text.lower())


def is_spelled(pieces: list[str]) -> bool:
    """Whether a word of a script other than Latin falls apart into about its letters."""
    word = "".join(pieces)
    return word.isalpha() and not re.search(r"[a-z]", word) and len(pieces) > len(word) / 2


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

    def words(self, text: str) -> tuple[list[int], list[tuple[int, int]], list[bool]]:
        """Of each word piece, without special tokens: its id, its character span, and whether its word is unknown.

        Unknown is also a word of a foreign script that falls apart into single letters.
        """
        encoding = self.engine.encode(text, add_special_tokens=False)
        pieces = defaultdict(list)
        for piece, word in zip(encoding.tokens, encoding.word_ids, strict=True):
            pieces[word].append(piece.removeprefix("##"))
        unknown = [UNK in pieces[word] or is_spelled(pieces[word]) for word in encoding.word_ids]
        return encoding.ids, encoding.offsets, unknown

    def encode(self, prompt: str) -> EncodedText:
        """Clean and tokenise one prompt.

        Raises ValueError when nothing is left to judge, or no word of it is known.
        """
        plain = strip_weights(prompt)
        text, written = clean(plain), tidy(plain)
        written = written if len(written) == len(text) else text  # a few capitals become two characters
        kept = " ".join(text.split(" ")[:MAX_WORDS])
        ids, spans, unknown = self.words(kept)
        if not ids:
            raise ValueError("The text for the referee is empty: write what the picture should show.")
        room = self.max_tokens - 2
        end = spans[room][0] if len(ids) > room else len(kept)
        cut = text[end:].strip()
        read = list(zip(spans, unknown, strict=True))[:room]
        if not any(re.search(r"\w", kept[a:b]) for (a, b), strange in read if not strange):
            raise ValueError(
                f"The referee knows no word of the text {written!r}. Write in plain words what the picture should "
                f"show: BLIP-2 "
                "knows English, the demo's referee only its colours and shapes."
            )
        strange = tuple(dict.fromkeys(self._whole_words(written, [span for span, strange in read if strange])))
        ids = ids[:room] + [self.ids[SEP]]
        match_ids = torch.tensor([[self.ids[CLS], *ids]])
        caption_ids = torch.tensor([[self.ids[DEC], *ids]])
        mask = torch.ones_like(match_ids, dtype=torch.bool)
        return EncodedText(match_ids, caption_ids, mask, text, cut, text != clean(prompt), strange)

    @staticmethod
    def _whole_words(text: str, spans: list[tuple[int, int]]) -> Iterator[str]:
        """What stands at the spans, with adjoining ones put together."""
        start = stop = 0
        for a, b in [*spans, (-1, -1)]:
            if a > stop or a < 0:
                if stop > start:
                    yield text[start:stop]
                start = a
            elif stop == 0:
                start = a
            stop = max(stop, b)
