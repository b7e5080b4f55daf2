"""The help page of every node: served where the editor asks for it, and complete."""

import re
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest

from comfyui.test_start import IDS, inputs_of
from scripts.server import PACK

DOCS = "/extensions/ComfyUI-Referee/docs/"
PICTURE = re.compile(r"images/[\w.]+")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def nodes(server):
    found = server.get("/object_info")
    return {name: info for name, info in found.items() if "ComfyUI-Referee" in info["python_module"]}


def fetch(server, path: str) -> bytes:
    with urlopen(server.url + path, timeout=30) as answer:
        return answer.read()


def page_of(server, name: str) -> str:
    return fetch(server, f"{DOCS}{name}/en.md").decode("utf-8")


def names(info: dict) -> set[str]:
    return {name for name, _ in inputs_of(info)} | set(info["output_name"])


def test_every_page_belongs_to_a_node(nodes):
    assert {page.parent.name for page in (PACK / "web" / "docs").glob("*/*.md")} == set(nodes)


@pytest.mark.parametrize("name", sorted(IDS))
def test_the_page_begins_with_the_nodes_name(server, nodes, name):
    assert page_of(server, name).splitlines()[0] == f"# {nodes[name]['display_name']}"


@pytest.mark.parametrize("name", sorted(IDS))
def test_the_page_names_every_input_and_output(server, nodes, name):
    page = page_of(server, name)
    assert not {label for label in names(nodes[name]) if f"`{label}`" not in page}


@pytest.mark.parametrize("name", sorted(IDS))
def test_the_pages_pictures_are_there(server, name):
    """The editor takes a picture's address as relative to docs/, not to the page's own folder."""
    pictures = IMAGE.findall(page_of(server, name))
    assert pictures
    for description, address in pictures:
        assert description, f"{address} has no description"
        path = urljoin(DOCS, address)
        assert path.startswith(DOCS), f"{address} leads out of web/docs"
        assert fetch(server, path) == (PACK / "web" / "docs" / path.removeprefix(DOCS)).read_bytes()


def test_no_picture_is_left_over():
    texts = [page.read_text(encoding="utf-8") for page in (PACK / "web" / "docs").glob("*/*.md")]
    texts.append((PACK / "README.md").read_text(encoding="utf-8"))
    shown = {Path(address).name for text in texts for address in PICTURE.findall(text)}
    assert {path.name for path in (PACK / "web" / "docs" / "images").iterdir()} <= shown
