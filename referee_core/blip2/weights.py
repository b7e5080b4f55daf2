"""Referee files: one safetensors with the network, its sizes and its vocabulary."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .config import Blip2Config
from .model import Blip2
from .referee import Blip2Referee

FORMAT = "referee-blip2"


def save(path: Path, network: Blip2, vocabulary: list[str], dtype: torch.dtype) -> None:
    """Write a referee file."""
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(network.config)),
        "vocabulary": json.dumps(vocabulary, ensure_ascii=False),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().cpu().to(dtype).contiguous() for k, v in network.state_dict().items()}
    save_file(state, path, metadata)


def load(path: Path) -> Blip2Referee:
    """Read a referee file into a single-precision network.

    Raises:
        FileNotFoundError: there is no such file. ValueError: it is not a referee file, is damaged, or its tensors do not fit
        its configuration (every missing, surplus and mis-shaped one is named).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no referee file {path}. Put it into ComfyUI's folder models/referee.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # not a dict: it has no items()
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} cannot be read as safetensors ({error}). It is damaged or cut off, or a pickle with a changed name: "
            "download it again; pickled files are never executed."
        ) from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path.name} is not a referee file: its header does not say {FORMAT!r}. Choose another file.")
    try:
        config, vocabulary = Blip2Config(**json.loads(metadata["config"])), json.loads(metadata["vocabulary"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"The header of {path.name} is damaged ({error!r}): convert or download the file again.") from None
    if len(vocabulary) != config.vocab_size:
        raise ValueError(f"{path.name} has {len(vocabulary)} words for {config.vocab_size} embeddings: it is damaged.")
    with torch.device("meta"):
        network = Blip2(config)
    check_keys(path.name, network.state_dict(), state)
    network.load_state_dict(state, assign=True)
    return Blip2Referee(network, vocabulary)


def check_keys(name: str, expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    """Raise a ValueError that names every missing, surplus and mis-shaped tensor."""
    problems = [f"missing {k}" for k in expected if k not in found]
    problems += [f"surplus {k}" for k in found if k not in expected]
    problems += [
        f"{k} is {tuple(found[k].shape)}, expected {tuple(v.shape)}"
        for k, v in expected.items()
        if k in found and found[k].shape != v.shape
    ]
    if problems:
        raise ValueError(f"{name} does not fit its configuration: " + "; ".join(problems))
