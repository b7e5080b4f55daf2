"""Learned tokens as files: one safetensors a prompt, which says for which text encoder it is."""

from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from ....referee_core.prompt_tokens import SIDES, Inserted
from ...sockets import PROMPTS, LoadedPrompt
from .own_files import file_name, writable

FORMAT = "referee prompt tokens 1"


def save_prompt(prompt: LoadedPrompt, folders: Sequence[str], filename: str) -> str:
    """Write learned tokens into the first of these folders that can be written; the new file's name.

    Raises ValueError if there are no tokens, the name is no plain file name or taken, or nothing can be written.
    """
    if not prompt.inserted.tokens:
        raise ValueError(
            "The input 'tokens' is empty: nothing that was learned did better than the prompt alone. There is nothing "
            "to save; use the prompt as it is."
        )
    name = file_name(filename)
    target = writable(folders, PROMPTS) / name
    if target.exists():
        raise ValueError(f"The input 'filename': {name} exists already in models/{PROMPTS}. Choose another name.")
    about = {"format": FORMAT, "model": prompt.family, "attending": str(int(prompt.inserted.attending))}
    save_file({side: tokens.contiguous() for side, tokens in prompt.inserted.tokens.items()}, target, about)
    return name


def load_prompt(path: str | Path) -> LoadedPrompt:
    """Read such a file. Raises ValueError for any other."""
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            tokens = {side: file.get_tensor(side).float() for side in SIDES if side in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(f"The file {Path(path).name} is no safetensors file, or it is damaged: {error}.") from error
    if about.get("format") != FORMAT or not tokens:
        raise ValueError(
            f"The file {Path(path).name} holds no tokens of Optimize Prompt or Train Prompt Tokens: choose one that "
            "Save Prompt Tokens wrote."
        )
    return LoadedPrompt(Inserted(tokens, about.get("attending") == "1"), about.get("model", ""))
