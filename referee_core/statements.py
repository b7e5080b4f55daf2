"""A prompt as statements that can be judged one by one.

Davidsonian Scene Graph (Cho et al., ICLR 2024) and Soft-TIFA (GenEval 2, arXiv 2512.16853) ask a judge about each part
of a prompt and so learn which part a picture disobeys. They split with a language model; here plain rules do it.
"""

import re

COUNTED = "one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|no|both|another|\\d+"
NOUN = rf"(?:an?|the|{COUNTED})\s"
"""How the name of a thing begins."""
PLACES = (
    "to the left of|to the right of|on the left of|on the right of|left of|right of|above|below|on top of|under|"
    "underneath|beneath|over|behind|in front of|next to|beside|near|inside|on|in|between"
)
NO_THING = "left|right|top|bottom|middle|center|centre|front|background|foreground|distance|air|style|morning|evening"
ENDS = re.compile(r"[.;!]+(?:\s+|$)|\n+")
LISTED = re.compile(rf"\s*(?:,\s*and\s+|,\s*|\s+and\s+)(?={NOUN})", re.IGNORECASE)
PLACED = re.compile(
    rf"^(?P<one>{NOUN}[^,]+?)\s+(?:(?:is|are|stands?|sits?|lies?)\s+)?(?:{PLACES})\s+"
    rf"(?P<other>{NOUN}(?!(?:{NO_THING})\b)[^,]+)$",
    re.IGNORECASE,
)


def split_statements(text: str) -> list[str]:
    """The statements of a prompt, each once, in their order.

    Sentences are apart, and so are the things of a list: "a red circle and a blue square". Where one thing has a place
    by another, both are statements of their own, before the place: "a cat on a mat" gives "a cat", "a mat", "a cat on a
    mat".
    """
    found: list[str] = []
    for sentence in filter(None, (part.strip() for part in ENDS.split(text))):
        for part in filter(None, (part.strip(" ,") for part in LISTED.split(sentence))):
            placed = PLACED.match(part)
            found += [placed["one"], placed["other"], part] if placed else [part]
    return list(dict.fromkeys(found))


def read_lines(text: str) -> list[str]:
    """The statements that someone wrote, one a line."""
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
