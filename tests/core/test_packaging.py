"""What the registry and ComfyUI's manager read."""

from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_requirements_are_the_same_in_both_places():
    assert (ROOT / "requirements.txt").read_text().split() == PROJECT["project"]["dependencies"]


def test_the_registrys_entry_is_complete():
    entry = PROJECT["tool"]["comfy"]
    assert entry["PublisherId"] and entry["DisplayName"] and entry["requires-comfyui"].startswith(">=")
    assert (ROOT / entry["Icon"].rsplit("/", 1)[1]).is_file()
    assert (ROOT / PROJECT["project"]["license"]["file"]).is_file()
    version = PROJECT["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
