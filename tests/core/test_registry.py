"""What the registry publishes, and that its scanners have nothing to say."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pathspec = pytest.importorskip("pathspec", reason="comes with comfy-cli")
ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"__init__.py", "nodes", "referee_core", "web", "locales", "workflows", "subgraphs", "pyproject.toml"}


def files() -> list[str]:
    """All files of the repository, as git has or would have them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A folder with what the registry publishes."""
    folder = tmp_path_factory.mktemp("published")
    left_out = pathspec.GitIgnoreSpec.from_lines((ROOT / ".comfyignore").read_text().splitlines())
    for name in files():
        if not left_out.match_file(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def bandit(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "bandit", "-q", "-r", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_all_that_a_user_needs_is_published_and_no_more(published):
    top = {path.name for path in published.iterdir()}
    assert top >= NEEDED and not top & {"tests", "training", "scripts", ".ci", ".github"}
    shown = [line for line in (published / "README.md").read_text().splitlines() if "](" in line or 'src="' in line]
    assert shown
    for picture in ("benchmarks/results/held-out.png", "web/docs/images/filmstrip.png", "docs/models.md"):
        assert (published / picture).is_file()
    assert sum(path.stat().st_size for path in published.rglob("*") if path.is_file()) < 25e6


def test_what_is_published_has_no_issue_of_medium_severity(published):
    assert bandit(published, "-ll") == ""


def test_nothing_is_unpickled_anywhere():
    tracked = [str(ROOT / name) for name in files() if name.endswith(".py")]
    command = [sys.executable, "-m", "bandit", "-q", "-t", "B301,B302,B403,B614", *tracked]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_comfy_node_validate(published):
    command = [Path(sys.executable).with_name("comfy"), "--skip-prompt", "--no-enable-telemetry", "node", "validate"]
    done = subprocess.run(command, cwd=published, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert done.returncode == 0 and "passed" in said, said
