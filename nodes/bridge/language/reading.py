"""What a language model reads: a picture, and questions about it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch


class Look(NamedTuple):
    """A picture as the language model reads it: tokens [n, d], and what goes into deeper layers with their grid."""

    tokens: torch.Tensor
    extra: Any


class Reading(NamedTuple):
    """One sequence of n tokens: what comes before the picture, the picture, and questions, each of which sees what is
    before it but no other question.

    Attributes:
        embeds: [1, n, d]. ids: [1, n], 0 in the picture's place.
        picture: where it is, as ComfyUI's ``embeds_info`` tells it.
        places: [1, n], counted from the beginning; every question begins where the picture ends.
        sees: [1, n, n], 1 where a token (row) may see another (column), if that comes before it.
        ends: index of each question's last token.
    """

    embeds: torch.Tensor
    ids: torch.Tensor
    picture: dict[str, Any]
    places: torch.Tensor
    sees: torch.Tensor
    ends: list[int]


def lay_out(
    before: torch.Tensor,
    look: Look,
    questions: Sequence[torch.Tensor],
    embed: Callable[[torch.Tensor], torch.Tensor],
) -> Reading:
    """before, questions: token ids [n] each. embed: gives their embeddings [n, d]."""
    start, count, device = len(before), len(look.tokens), look.tokens.device
    first = start + count
    asked = torch.cat(list(questions))
    embeds = torch.cat([embed(before), look.tokens, embed(asked)])[None]
    ids = torch.cat([before, before.new_zeros(count), asked])[None]
    lengths = [len(question) for question in questions]
    places = torch.cat([torch.arange(first), *(first + torch.arange(length) for length in lengths)]).to(device)
    whose = torch.repeat_interleave(torch.arange(len(questions) + 1), torch.tensor([first, *lengths])).to(device)
    sees = (whose[None] == 0) | (whose[None] == whose[:, None])
    ends = [first - 1 + sum(lengths[: i + 1]) for i in range(len(lengths))]
    picture = {"type": "image", "index": start, "size": count, "extra": look.extra}
    return Reading(embeds, ids, picture, places[None], sees[None].to(embeds.dtype), ends)
