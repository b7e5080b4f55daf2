"""The language model inside a CLIP of ComfyUI: which one it is, how it is asked, and what it writes."""

from typing import Any

import torch
from comfy.sd import CLIP
from comfy.text_encoders.flux import Flux2TEModel

from .chats import CHATS, Chat

SEEING = (
    "Load one of qwen3vl_4b or qwen3vl_8b (fp8_scaled, int8_convrot or bf16) with Load CLIP, type krea2 or qwen_image; "
    "or LTX-2's gemma_3_12B_it, type ltxv; or a gemma4, of any type."
)
WRITING = (
    "Connect the one behind Referee from CLIP, or Z-Image's qwen_3_4b (Load CLIP, type lumina2). Without 'clip' rules "
    "split the text."
)
MOST_TOKENS = 512


def find_language_model(clip: CLIP, sees: bool) -> tuple[Any, Chat]:
    """The language model inside and how it is asked.

    sees: it has to read pictures too. Raises ValueError, saying why and what to use instead, if there is none.
    """
    model = clip.cond_stage_model
    holders = (getattr(model, str(getattr(model, "clip", "")), None), model, *model.children())
    network = next((held.transformer for held in holders if hasattr(held, "transformer")), None)
    sizes = getattr(getattr(network, "model", None), "config", None)
    families = {kind.__name__ for of in (network, sizes) for kind in type(of).__mro__}
    why = _why_no_answer(sizes, families) or (_why_blind(model, network) if sees else _why_mute(network))
    if not why and not families & CHATS.keys():
        why = "it is of a kind that is not supported"
    if why:
        task, use = ("judge pictures", SEEING) if sees else ("split a text", WRITING)
        raise ValueError(f"The input 'clip' ({type(model).__name__}) cannot {task}: {why}. {use}")
    return network, next(chat for family, chat in CHATS.items() if family in families)


def _why_no_answer(sizes: Any, families: set[str]) -> str:
    """Why a network gives no sensible answers, or nothing. families: its classes' names in ComfyUI."""
    if not hasattr(sizes, "hidden_size"):
        return "it only encodes text and gives no answers, like CLIP and T5"
    if "Mistral3Small24B" in families:
        return "Mistral reads text only here, without an output head, and the pruned file without its last layers"
    if "Qwen25_7BVLI" in families:
        return "ComfyUI holds it without its output head, so its answers are gibberish"
    if not getattr(sizes, "final_norm", True):
        return "it is cut off after some of its layers, without an output head"
    return ""


def _why_mute(network: Any) -> str:
    """Why a language model writes no text, or nothing."""
    return "" if hasattr(network, "generate") else "this ComfyUI writes no text with it"


def _why_blind(model: torch.nn.Module, network: Any) -> str:
    """Why a language model reads no pictures, or nothing."""
    if isinstance(model, Flux2TEModel):
        return (
            "type flux2 (or flux) loads only the part that reads text, of a Qwen3-VL too. "
            "If the file is a Qwen3-VL, choose the type krea2 or qwen_image"
        )
    return "" if hasattr(network, "preprocess_embed") else "it reads text only"


def ids_of(clip: CLIP, chat: Chat, text: str) -> list[int]:
    """By the model's own tokenizer: ComfyUI's around it may add a template, and reads "embedding:name"."""
    tokenizer = clip.tokenizer
    own = getattr(tokenizer, getattr(tokenizer, "clip", ""), tokenizer)
    return chat.ids(own.tokenizer, text)


def write(clip: CLIP, text: str) -> str:
    """What the language model of a CLIP answers to a text, always the same. ValueError if it writes none."""
    _, chat = find_language_model(clip, sees=False)
    ids = ids_of(clip, chat, chat.template.format(picture="", text=text))
    name, rows = getattr(clip.tokenizer, "clip_name", None), [[(number, 1.0) for number in ids]]
    tokens = {name: rows} if name else rows  # a tokenizer without others beside it names no rows
    written = clip.generate(tokens, do_sample=False, max_length=MOST_TOKENS, seed=0)
    return clip.decode(written, skip_special_tokens=True)
