"""Files of tensors as people download them: safetensors and PyTorch checkpoints, whole or in parts.

Nothing but tensors is ever read from a pickle (``weights_only``), and no tensor before it is needed. A file that
cannot be read is refused with what it is instead and what to do.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError, safe_open

PICKLES = (".pth", ".pt", ".bin", ".ckpt")
POINTER = b"version https://git-lfs"
PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)", re.IGNORECASE)


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that stays in its file until it is read."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]

    def third(self, index: int) -> "LazyTensor":
        """The index-th third of the first axis: q, k or v of a joint projection."""
        size = self.shape[0] // 3
        return LazyTensor((size, *self.shape[1:]), lambda: self.read()[index * size : (index + 1) * size])


Tensors = dict[str, LazyTensor]


def is_pickle(path: Path) -> bool:
    """Whether the suffix, in any case, is one of PyTorch's."""
    return path.suffix.lower() in PICKLES


def read(path: Path) -> Tensors:
    """The tensors of a file. Raises ValueError if it is damaged or something else."""
    return read_pickle(path) if is_pickle(path) else read_safetensors(path)[0]


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises ValueError if it is damaged or something else."""
    try:
        file = safe_open(path, framework="pt")
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError:
        raise ValueError(f"{path.name} cannot be read as safetensors: {fault(path)}") from None
    return {n: LazyTensor(s, partial(file.get_tensor, n)) for n, s in shapes.items()}, file.metadata() or {}


def read_pickle(path: Path) -> Tensors:
    """Tensors of a PyTorch checkpoint, plain or under "model" or "state_dict". Raises ValueError if it is damaged or
    holds more than tensors."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path) or None)
    except Exception as error:  # a damaged file can make anything of its reader
        # PyTorch's own words are kept back: they advise to load the file unsafely.
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise ValueError(
            f"{path.name} cannot be read as a PyTorch checkpoint: {fault(path, code and code[1])}"
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ValueError(f"{path.name} is a PyTorch file but holds no named tensors: it is not a referee.")
    tensors = {k: v for k, v in loaded.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    return {k: LazyTensor(tuple(v.shape), v.detach) for k, v in tensors.items()}


def fault(path: Path, code: str | None = None) -> str:
    """Why a file cannot be read, and the remedy, as the end of a sentence. code: what a pickle wants to run, if
    known."""
    with open(path, "rb") as file:
        start = file.read(512)
    again = "download it again."
    if not start:
        return f"it is damaged, an empty file: {again}"
    if start.startswith(POINTER):
        return (
            "it is only a git-LFS pointer, about 130 bytes, to the real file. Run 'git lfs pull' in its folder, or "
            "download the file itself from its publisher's page."
        )
    if re.match(rb"\s*<(!doctype|html|\?xml)", start, re.IGNORECASE):
        return (
            "it is damaged: a web page was saved under its name. Download the file itself, not the page that shows it."
        )
    if path.stat().st_size < 512 and (text := start.decode("utf-8", "replace")).replace("\n", " ").isprintable():
        return f"it is damaged, a short text instead of weights ({text.strip()[:80]!r}): {again}"
    if is_zipfile(path):
        try:
            with ZipFile(path) as archive:
                names = archive.namelist()
        except BadZipFile:
            return f"it is damaged: {again}"
        if any(name.endswith("constants.pkl") for name in names):
            return "it holds a program (TorchScript), which is never executed. Choose its publisher's file of weights."
        if not any(name.endswith("data.pkl") for name in names):
            some = ", ".join(names[:3]) or "nothing"
            return f"it is a zip archive of something else (it holds {some}). Unpack it and choose the file of weights."
    elif start.startswith(b"PK\x03\x04"):
        return f"it is damaged, the end is missing: the download was cut off; {again}"
    if is_pickle(path):
        if start[8:9] == b"{":
            return "it is a safetensors file under a changed name. Rename it to .safetensors."
        if code:
            return (
                f"it holds code besides weights ({code}), which is never executed. Use a safetensors "
                "version, or the file of its publisher."
            )
    elif start.startswith((b"PK", b"\x80")):
        return "it is a PyTorch file (a pickle) under a changed name; such files are never executed. Rename it to .pth."
    return f"it is damaged or cut off: {again}"


def parts(path: Path) -> tuple[list[Path], list[str]]:
    """All files of a model that is stored in several, ``model-00001-of-00002.safetensors`` and so on, and the
    names of those
    that are absent. Their names follow from one of them: what an index.json names is never opened."""
    match = PART.fullmatch(path.name)
    if not match:
        return [path], []
    stem, _, count, suffix = match.groups()
    files = [path.with_name(f"{stem}-{i + 1:05d}-of-{count}{suffix}") for i in range(int(count))]
    return [f for f in files if f.is_file()], [f.name for f in files if not f.is_file()]


def find_named(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, in capital or small letters."""
    if not folder.is_dir():
        return None
    found = sorted(f for f in folder.iterdir() if f.name.lower() == name.lower() and f.is_file())
    return found[0] if found else None


def find_beside(path: Path, name: str) -> Path | None:
    """A file of that name next to ``path`` or one folder further up."""
    return next((f for d in (path.parent, path.parent.parent) if (f := find_named(d, name)) and f != path), None)
