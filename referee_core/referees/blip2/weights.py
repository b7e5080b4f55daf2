"""Referee files: one safetensors with the network, its sizes and its vocabulary."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from .. import FULL, Precision
from ..tensor_files import LazyTensor, is_pickle, read_safetensors
from .config import Blip2Config
from .files import Source, check, open_published
from .model import Blip2
from .referee import Blip2Referee

FORMAT = "referee-blip2"

COMPACT = Precision(tower=torch.bfloat16)
"""What conversion writes: 2.7 GB at the published size."""


def open_source(path: Path) -> Source:
    """Find a referee in a file of ours, or in a published file or folder (see files.open_published).

    Raises:
        FileNotFoundError: there is no such file, or one that must lie beside it is absent. UnknownFile: it is of
        another kind. ValueError: it is damaged, or its tensors do not fit its configuration.
    """
    path = Path(path)
    if path.is_dir() or path.is_file() and is_pickle(path):
        return open_published(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no referee file {path}. Put it into ComfyUI's folder models/referee.")
    tensors, metadata = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        return open_published(path)
    try:
        config, vocabulary = Blip2Config(**json.loads(metadata["config"])), json.loads(metadata["vocabulary"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"The header of {path.name} is damaged ({error!r}): convert or download the file again."
        ) from None
    if len(vocabulary) != config.vocab_size:
        raise ValueError(f"{path.name} has {len(vocabulary)} words for {config.vocab_size} embeddings: it is damaged.")
    check(path.name, config, tensors)
    return Source(config, tensors, vocabulary, (path,))


def dtype_of(name: str, precision: Precision) -> torch.dtype:
    return precision.tower if name.startswith("vision.") else precision.rest


def load(path: Path, precision: Precision = FULL) -> Blip2Referee:
    """Read a referee. Raises what ``open_source`` raises."""
    return build(open_source(path), precision)


def build(source: Source, precision: Precision = FULL) -> Blip2Referee:
    """Read what was found."""
    with torch.device("meta"):
        network = Blip2(source.config)
    state = {name: tensor.read().to(dtype_of(name, precision)).clone() for name, tensor in source.tensors.items()}
    network.load_state_dict(state, assign=True)
    return Blip2Referee(network, source.vocabulary)


def save(path: Path, network: Blip2, vocabulary: list[str], dtype: torch.dtype) -> None:
    """Write a network as a referee file."""
    state = network.state_dict()
    tensors = {k: LazyTensor(tuple(v.shape), v.detach().cpu) for k, v in state.items()}
    write(path, Source(network.config, tensors, vocabulary, ()), Precision(dtype, dtype))


def write(
    path: Path,
    source: Source,
    precision: Precision = COMPACT,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a referee file. It appears under its name only when it is whole; until then it is ``<name>.part``.

    Args:
        progress: called with (bytes ready, bytes in all) after each tensor is read; may raise to stop.
    Raises:
        OSError: the disk is full, or cannot be reached.
    """
    sizes = {k: torch.Size(t.shape).numel() * dtype_of(k, precision).itemsize for k, t in source.tensors.items()}
    tensors, done = {}, 0
    for name, tensor in source.tensors.items():
        tensors[name] = tensor.read().to(dtype_of(name, precision), copy=True).contiguous()
        done += sizes[name]
        if progress is not None:
            progress(done, sum(sizes.values()))
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(source.config)),
        "vocabulary": json.dumps(source.vocabulary, ensure_ascii=False),
        "sources": ", ".join(f"{f.name} ({f.stat().st_size} bytes, {f.stat().st_mtime_ns})" for f in source.files),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        save_file(tensors, part, metadata)
        part.replace(path)
    except SafetensorError as error:  # which is what the library makes of a full disk
        raise OSError(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
