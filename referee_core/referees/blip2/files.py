"""Published BLIP-2 files, in whichever form they were downloaded, as one set of tensors with our names."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import UnknownFile
from ..tensor_files import PART, Tensors, find_beside, find_named, parts, read
from .config import Blip2Config
from .keys import from_tower, has_language_model, infer_config, is_hugging_face, is_lavis, is_tower, translate
from .model import Blip2
from .vocabulary import find_vocabulary

LAVIS_FILE = "blip2_pretrained.pth"
TOWER_FILE = "eva_vit_g.pth"


@dataclass(frozen=True)
class Source:
    """A referee that has been found but not yet read.

    Attributes:
        tensors: by our names; checked against ``config``. vocabulary: the word of each id. files: what it was put
        together from. unknown: names in the files that mean nothing to us.
    """

    config: Blip2Config
    tensors: Tensors
    vocabulary: list[str]
    files: tuple[Path, ...]
    unknown: tuple[str, ...] = ()


def in_folder(folder: Path) -> Path:
    """The file of a downloaded folder to begin with."""
    whole = [f for n in ("model.safetensors", "pytorch_model.bin", LAVIS_FILE) if (f := find_named(folder, n))]
    first = sorted(f for f in folder.iterdir() if (m := PART.fullmatch(f.name)) and int(m[2]) == 1)
    others = sorted(f for f in folder.iterdir() if f.suffix.lower() == ".safetensors")
    found = [*whole, *first, *others]
    if not found:
        raise FileNotFoundError(f"The folder {folder} holds no {LAVIS_FILE} and no safetensors file.")
    return found[0]


def open_published(path: Path) -> Source:
    """Find everything that belongs to a published BLIP-2 file or folder.

    From LAVIS: blip2_pretrained.pth, with eva_vit_g.pth beside it. From Hugging Face: the folder or file of
    blip2-itm-vit-g (-coco); it has no caption head, which is taken from a blip2_pretrained.pth beside it if there
    is a good one.

    Raises:
        FileNotFoundError: a file that must lie beside it does not. UnknownFile: it is another kind of model.
        ValueError: a file is damaged, or tensors are missing or mis-shaped (every one is named).
    """
    path = in_folder(path) if path.is_dir() else path
    files, absent = parts(path)
    tensors: Tensors = {}
    for file in files:
        tensors |= read(file)
    if has_language_model(tensors):
        raise ValueError(
            f"{path.name} is BLIP-2 with a language model, which writes text but cannot judge. Use model.safetensors "
            f"of "
            f"blip2-itm-vit-g, or {LAVIS_FILE}, instead."
        )
    if absent:
        some = ", ".join(absent[:3]) + (f" and {len(absent) - 3} more" if len(absent) > 3 else "")
        raise FileNotFoundError(f"{path.name} is one part of several; {some} must lie beside it.")
    if is_tower(tensors):
        raise ValueError(
            f"{path.name} is only the vision tower. Choose {LAVIS_FILE} instead and leave this file beside it."
        )
    if is_hugging_face(tensors):
        head = find_beside(path, LAVIS_FILE)
        if head is not None:
            try:
                return assemble(path, tensors | caption_head(tensors, read(head)), [*files, head])
            except ValueError as error:
                logging.warning("[Referee] %s is used without the caption head of %s: %s", path.name, head, error)
    elif is_lavis(tensors):
        if not any(k.startswith("visual_encoder.") for k in tensors):
            tower = find_beside(path, TOWER_FILE) or find_beside(path, Path(TOWER_FILE).stem + ".safetensors")
            if tower is None:
                raise FileNotFoundError(
                    f"{path.name} holds no vision tower: put {TOWER_FILE} (from LAVIS, about 2 GB) beside it."
                )
            files.append(tower)
            tensors |= from_tower(read(tower))
    else:
        some = ", ".join(list(tensors)[:3])
        raise UnknownFile(
            f"{path.name} is not a BLIP-2 stage-1 model (it holds {some or 'no tensors'} ...). Use blip2-itm-vit-g or "
            f"{LAVIS_FILE}."
        )
    return assemble(path, tensors, files)


def assemble(path: Path, tensors: Tensors, files: list[Path]) -> Source:
    """Tensors by their published names as a whole, checked model. Raises ValueError if it is not one."""
    ours, unknown = translate(tensors)
    try:
        config = infer_config(ours)
    except KeyError as error:
        raise ValueError(f"{path.name} is not a whole BLIP-2 stage-1 model: missing {error.args[0]}.") from None
    check(path.name, config, ours)
    vocabulary_files, vocabulary = find_vocabulary(path, config.vocab_size)
    return Source(config, ours, vocabulary, (*files, *vocabulary_files), tuple(unknown))


def caption_head(hugging_face: Tensors, lavis: Tensors) -> Tensors:
    """The caption head of LAVIS's file. Raises ValueError unless both hold the same word embeddings."""
    names = "embeddings.word_embeddings.weight", "Qformer.bert.embeddings.word_embeddings.weight"
    same = names[0] in hugging_face and names[1] in lavis
    if same:
        a, b = hugging_face[names[0]].read(), lavis[names[1]].read()
        same = a.shape == b.shape and torch.allclose(a[::97].float(), b[::97].float(), rtol=1e-2, atol=1e-3)
    if not same:
        raise ValueError(f"the {LAVIS_FILE} beside it belongs to another model")
    return {k: v for k, v in lavis.items() if k.startswith("Qformer.cls.")}


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
