"""The word of each of BLIP-2's token ids.

bert-base-uncased.txt.gz is vocab.txt of BERT (https://github.com/google-research/bert), Copyright 2018 The Google
AI Language Team Authors, Apache License 2.0; unchanged but compressed. SHA-256 of the text:
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3
"""

import gzip
from pathlib import Path

from ..tensor_files import find_beside
from .keys import PUBLISHED
from .text import DEC, SPECIAL

BUNDLED = Path(__file__).with_name("bert-base-uncased.txt.gz")
VOCABULARY_FILE = "vocab.txt"


def bert_base_uncased() -> list[str]:
    """BERT's 30522 words and the caption's start token after them: the vocabulary of the published models."""
    return [*gzip.decompress(BUNDLED.read_bytes()).decode("utf-8").split("\n")[:-1], DEC]


def find_vocabulary(path: Path, size: int) -> tuple[tuple[Path, ...], list[str]]:
    """Files and words for a model with ``size`` word embeddings: the published one's, or those of vocab.txt beside it.

    Raises FileNotFoundError when there is none, ValueError when it does not fit.
    """
    if size == PUBLISHED.vocab_size:
        return (), bert_base_uncased()
    file = find_beside(path, VOCABULARY_FILE)
    if file is None:
        raise FileNotFoundError(
            f"{path.name} has {size} words instead of bert-base-uncased's {PUBLISHED.vocab_size}: put the "
            f"{VOCABULARY_FILE} it "
            "was trained with beside it."
        )
    try:
        words = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise ValueError(f"{file.name} beside {path.name} is no text: download it again.") from None
    words = words[:-1] if words[-1] == "" else words
    words = [w.removesuffix("\r") for w in words]
    words += [DEC] if DEC not in words else []
    if len(words) != size:
        raise ValueError(f"{file.name} has {len(words)} words and {path.name} {size}: it belongs to another model.")
    absent = [t for t in SPECIAL if t not in words]
    if absent:
        raise ValueError(f"{file.name} is not a vocabulary of BERT's kind: {', '.join(absent)} missing.")
    return (file,), words
