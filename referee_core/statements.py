"""A prompt as statements that can be judged one by one.

Davidsonian Scene Graph (Cho et al., ICLR 2024) and Soft-TIFA (GenEval 2, arXiv 2512.16853) ask a judge about each part
of a prompt and so learn which part a picture disobeys. They split with a language model; here plain rules do it, or
such a model if the user has one.
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
ASKED = """Split a description of a picture into short statements that can be checked one by one: each thing with \
its attributes, each number, each place of one thing by another. Keep the words and the language of the description. \
Write one statement a line, and nothing else.

Description: a red circle left of a blue square, and three stars
a red circle
a blue square
a red circle left of a blue square
three stars

Description: {}
"""
"""What a language model is asked."""
UNSAID = re.compile(r"^.*</think>|<[^<>]*>", re.DOTALL)
BULLET = re.compile(r"^\s*(?:[-*\u2022]+|\d{1,2}[.)])\s+")


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


def read_answer(answer: str) -> list[str]:
    """The statements that a language model wrote: a line each, without bullets, numbers, headings and thoughts."""
    lines = (BULLET.sub("", line).strip() for line in UNSAID.sub("", answer).splitlines())
    return list(dict.fromkeys(line for line in lines if line and not line.endswith(":")))
