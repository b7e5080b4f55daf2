"""Names and folders of the files that the pack writes."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

RESERVED = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\..*)?", re.IGNORECASE)
LONGEST_NAME = 200  # bytes; file systems end at 255, and .safetensors.part comes after it


def file_name(filename: str) -> str:
    """The name of the file to write. Raises ValueError unless every system takes it."""
    name = re.sub(r"\.safetensors$", "", filename, flags=re.IGNORECASE)
    if name in ("", ".", "..") or re.search(r"[/\\]", name):
        problem = "must be a name without folders"
    elif re.search(r'[<>:"|?*]', name) or not name.isprintable():
        problem = 'must not hold any of < > : " | ? * or invisible characters'
    elif name != name.strip(" ."):
        problem = "must not begin or end with a space or a dot"
    elif RESERVED.fullmatch(name):
        problem = "is a name that Windows keeps for itself"
    elif len(name.encode()) > LONGEST_NAME:
        problem = f"is too long (at most {LONGEST_NAME} letters)"
    else:
        return name + ".safetensors"
    raise ValueError(f"The input 'filename' {problem}, got {filename[:80]!r}. Write for example my_file.")


def writable(folders: Sequence[str], kind: str) -> Path:
    """The first folder of this kind of models in which a file can be made; it is made itself where it does not exist.

    Raises ValueError where there is none.
    """
    problems = []
    for folder in folders:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return Path(folder)
        except OSError as error:
            problems.append(f"{folder} ({error.strerror or error})")
    raise ValueError(
        f"No folder of models/{kind} can be written: {', '.join(problems)}. Make one of them writable, or give another "
        f"one in extra_model_paths.yaml under '{kind}'."
    )
