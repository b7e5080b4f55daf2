"""Published BLIP-2 files, in whichever form they were downloaded, as one set of tensors with our names.

Nothing but tensors is ever read from a pickle (``weights_only``), and no tensor before it is needed.
"""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open

from .config import Blip2Config
from .keys import (
    PUBLISHED,
    LazyTensor,
    Tensors,
    from_tower,
    infer_config,
    is_hugging_face,
    is_lavis,
    is_tower,
    translate,
)
from .model import Blip2
from .text import DEC, SPECIAL

LAVIS_FILE = "blip2_pretrained.pth"
TOWER_FILE = "eva_vit_g.pth"
VOCABULARY_FILE = "vocab.txt"
BERT_WORDS = PUBLISHED.vocab_size - 1
BERT_IDS = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
PICKLES = (".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True)
class Source:
    """A referee that has been found but not yet read.

    Attributes:
        tensors: by our names; checked against ``config``. vocabulary: the word of each id. files: what it was put together
        from. unknown: names in the files that mean nothing to us.
    """

    config: Blip2Config
    tensors: Tensors
    vocabulary: list[str]
    files: tuple[Path, ...]
    unknown: tuple[str, ...] = ()


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises ValueError if it is damaged."""
    try:
        file = safe_open(path, framework="pt")
        names = list(file.keys())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} cannot be read as safetensors ({error}). It is damaged or cut off, or a pickle with a changed name: "
            "download it again; pickled files are never executed."
        ) from None
    return {n: LazyTensor(s, lambda n=n: file.get_tensor(n)) for n, s in shapes.items()}, file.metadata() or {}


def read_pickle(path: Path) -> Tensors:
    """Tensors of a PyTorch checkpoint, plain or under "model" or "state_dict". Raises ValueError if it is damaged or holds
    more than tensors."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path) or None)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path.name} cannot be read as a PyTorch checkpoint ({reason}). It is damaged or cut off, or "
            "holds code besides weights, which is never executed: download it again from its publisher."
        ) from None
    for key in ("model", "state_dict"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict):
        raise ValueError(f"{path.name} is a PyTorch file but holds no named tensors: it is not a referee.")
    tensors = {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)}
    return {k: LazyTensor(tuple(v.shape), lambda v=v: v) for k, v in tensors.items()}


def read(path: Path) -> Tensors:
    return read_pickle(path) if path.suffix in PICKLES else read_safetensors(path)[0]


def parts(path: Path) -> list[Path]:
    """All files of a model that is stored in several, as its index names them; otherwise the file itself."""
    index = path.parent / (path.name.split("-00")[0] + ".safetensors.index.json")
    if "-of-" not in path.name or not index.is_file():
        return [path]
    names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    absent = [n for n in names if not (path.parent / n).is_file()]
    if absent:
        raise FileNotFoundError(f"{path.name} is one part of several; {', '.join(absent)} must lie beside it.")
    return [path.parent / n for n in names]


def beside(path: Path, name: str) -> Path | None:
    """A file of that name next to ``path`` or one folder further up."""
    return next((f for f in (path.parent / name, path.parent.parent / name) if f.is_file() and f != path), None)


def in_folder(folder: Path) -> Path:
    """The file of a downloaded folder to begin with."""
    candidates = [LAVIS_FILE, "model.safetensors", "pytorch_model.bin"]
    candidates += sorted(f.name for f in folder.glob("*-00001-of-*.safetensors"))
    candidates += sorted(f.name for f in folder.glob("*.safetensors"))
    found = next((folder / n for n in candidates if (folder / n).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"The folder {folder} holds no {LAVIS_FILE} and no safetensors file.")
    return found


def open_published(path: Path) -> Source:
    """Find everything that belongs to a published BLIP-2 file or folder.

    From LAVIS: blip2_pretrained.pth, with eva_vit_g.pth and vocab.txt beside it. From Hugging Face: the folder or file of
    blip2-itm-vit-g (-coco); it has no caption head, which is taken from a blip2_pretrained.pth beside it if there is one.

    Raises:
        FileNotFoundError: a file that must lie beside it does not. ValueError: a file is damaged, of another kind, or tensors
        are missing or mis-shaped (every one is named).
    """
    path = in_folder(path) if path.is_dir() else path
    files = parts(path)
    tensors: Tensors = {}
    for file in files:
        tensors |= read(file)
    if is_tower(tensors):
        raise ValueError(
            f"{path.name} is only the vision tower. Choose {LAVIS_FILE} instead and leave this file beside it."
        )
    if is_hugging_face(tensors):
        head = beside(path, LAVIS_FILE)
        lavis = read_pickle(head) if head is not None else {}
        if head is not None and same_words(tensors, lavis):
            files.append(head)
            tensors |= {k: v for k, v in lavis.items() if k.startswith("Qformer.cls.")}
    elif is_lavis(tensors):
        if not any(k.startswith("visual_encoder.") for k in tensors):
            tower = beside(path, TOWER_FILE) or beside(path, Path(TOWER_FILE).stem + ".safetensors")
            if tower is None:
                raise FileNotFoundError(
                    f"{path.name} holds no vision tower: put {TOWER_FILE} (from LAVIS, about 2 GB) beside it."
                )
            files.append(tower)
            tensors |= from_tower(read(tower))
    else:
        some = ", ".join(list(tensors)[:3])
        raise ValueError(
            f"{path.name} is not a BLIP-2 stage-1 model (it holds {some or 'no tensors'} ...). Use blip2-itm-vit-g or {LAVIS_FILE}."
        )
    ours, unknown = translate(tensors)
    try:
        config = infer_config(ours)
    except KeyError as error:
        raise ValueError(f"{path.name} is not a whole BLIP-2 stage-1 model: missing {error.args[0]}.") from None
    check(path.name, config, ours)
    file, vocabulary = find_vocabulary(path, config.vocab_size)
    return Source(config, ours, vocabulary, (*files, file), tuple(unknown))


def same_words(hugging_face: Tensors, lavis: Tensors) -> bool:
    """Whether two files hold the same word embeddings, so that the caption head of one belongs to the other."""
    names = "embeddings.word_embeddings.weight", "Qformer.bert.embeddings.word_embeddings.weight"
    if names[0] not in hugging_face or names[1] not in lavis:
        return False
    a, b = hugging_face[names[0]].read(), lavis[names[1]].read()
    return a.shape == b.shape and torch.allclose(a[::97].float(), b[::97].float(), rtol=1e-2, atol=1e-3)


def find_vocabulary(path: Path, size: int) -> tuple[Path, list[str]]:
    """BERT's words from vocab.txt beside the file, and the caption's start token after them.

    Raises FileNotFoundError when there is none, ValueError when it is not the one the model was trained with.
    """
    file = beside(path, VOCABULARY_FILE)
    if file is None:
        raise FileNotFoundError(
            f"{path.name} needs the words of its text side: put {VOCABULARY_FILE} of bert-base-uncased (232 kB; the same file is "
            "in the repository of blip2-itm-vit-g) beside it."
        )
    words = file.read_text(encoding="utf-8").split("\n")
    words = words[:-1] if words[-1] == "" else words
    words = [w.removesuffix("\r") for w in words]
    if DEC not in words:
        words.append(DEC)
    if len(words) != size:
        raise ValueError(f"{file.name} has {len(words)} words and {path.name} {size}: it is not bert-base-uncased's.")
    wrong = [t for t in SPECIAL if t not in words]
    if len(words) == BERT_WORDS + 1:
        wrong += [t for t, i in BERT_IDS.items() if words[i] != t]
    if wrong:
        raise ValueError(f"{file.name} is not bert-base-uncased's vocabulary: {', '.join(wrong)} not where it must be.")
    return file, words


def check(name: str, config: Blip2Config, found: Tensors) -> None:
    """Raise a ValueError that names every missing, surplus and mis-shaped tensor."""
    with torch.device("meta"):
        expected = {k: tuple(v.shape) for k, v in Blip2(config).state_dict().items()}
    problems = [f"missing {k}" for k in expected if k not in found]
    problems += [f"surplus {k}" for k in found if k not in expected]
    problems += [
        f"{k} is {found[k].shape}, expected {shape}"
        for k, shape in expected.items()
        if k in found and found[k].shape != shape
    ]
    if problems:
        raise ValueError(f"{name} does not fit its configuration: " + "; ".join(problems))
