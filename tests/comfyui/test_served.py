"""What a running server hands out of the pack's folders, byte for byte."""

import urllib.parse
import urllib.request

import pytest

from scripts.server import PACK

TEMPLATES = PACK / "workflows"


def fetch(server, path: str) -> bytes:
    with urllib.request.urlopen(server.url + urllib.parse.quote(path), timeout=30) as answer:
        return answer.read()


def test_the_list_of_templates_is_the_folder(server):
    (listed,) = server.get("/workflow_templates").values()
    assert sorted(listed) == sorted(path.stem for path in TEMPLATES.glob("*.json"))


@pytest.mark.parametrize("path", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_every_template_and_picture_is_served(server, path):
    ((pack, _),) = server.get("/workflow_templates").items()
    assert fetch(server, f"/api/workflow_templates/{pack}/{path.name}") == path.read_bytes()


def test_every_template_has_a_picture():
    assert {p.stem for p in TEMPLATES.glob("*.json")} == {p.stem for p in TEMPLATES.glob("*.jpg")}


def test_only_one_folder_of_templates_exists():
    """ComfyUI serves these under one address, where the first hides the others."""
    names = ("example_workflows", "example", "examples", "workflow", "workflows")
    assert [name for name in names if (PACK / name).exists()] == [TEMPLATES.name]


@pytest.mark.parametrize("path", sorted((PACK / "web" / "js").iterdir()), ids=lambda path: path.name)
def test_scripts_are_served(server, path):
    assert fetch(server, f"/extensions/ComfyUI-Referee/js/{path.name}") == path.read_bytes()


@pytest.mark.parametrize("question", ["", "?workflow=", "?workflow=never-run"])
def test_runs_of_graphs_that_are_not_named_stay_here(server, question):
    assert server.get(f"/referee/curves{question}") == []
