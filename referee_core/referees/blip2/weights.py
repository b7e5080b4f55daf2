"""Referee files: one safetensors with the network, its sizes and its vocabulary."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .. import FULL, Precision
from ..tensor_files import LazyTensor, is_pickle, read_safetensors
from .config import Blip2Config
from .files import Source, check, open_published
from .model import Blip2
from .referee import Blip2Referee

FORMAT = "referee-blip2"
CODES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


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
    """Write a referee file, one tensor at a time, so that no more than one is in memory.

    The file appears under its name only when it is whole. Until then it grows as ``<name>.part``; a run that was cut
    short is continued by the next one from the same files.

    Args:
        progress: called with (bytes written, bytes in all) after each tensor; may raise to stop.
    """
    entries: dict[str, dict[str, Any]] = {}
    end = 0
    for name, tensor in source.tensors.items():
        dtype, start = dtype_of(name, precision), end
        end += torch.Size(tensor.shape).numel() * dtype.itemsize
        entries[name] = {"dtype": CODES[dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    metadata = {
        "format": FORMAT,
        "config": json.dumps(asdict(source.config)),
        "vocabulary": json.dumps(source.vocabulary, ensure_ascii=False),
        "sources": ", ".join(f"{f.name} ({f.stat().st_size} bytes, {f.stat().st_mtime_ns})" for f in source.files),
    }
    text = json.dumps({"__metadata__": metadata, **entries}).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    written = _continue(part, header)
    with open(part, "r+b") as file:
        for name, tensor in source.tensors.items():
            start, stop = entries[name]["data_offsets"]
            if stop > written:
                file.seek(len(header) + start)
                raw = tensor.read().to(dtype_of(name, precision)).contiguous().flatten().view(torch.uint8)
                file.write(raw.numpy().data)
            if progress is not None:
                progress(stop, end)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _continue(part: Path, header: bytes) -> int:
    """Bytes of tensors that an earlier run left in ``part``; a part of something else is begun anew."""
    if part.is_file():
        with open(part, "rb") as file:
            if file.read(len(header)) == header:
                return part.stat().st_size - len(header)
    part.write_bytes(header)
    return 0
