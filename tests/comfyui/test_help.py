"""The help page of every node, in every language: served where the editor asks for it, complete, and translated."""

import re
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest

from comfyui.test_locales import LANGUAGES, TRANSLATIONS
from comfyui.test_start import IDS, inputs_of
from scripts.make_locales import input_texts
from scripts.server import PACK

DOCS = "/extensions/ComfyUI-Referee/docs/"
PICTURE = re.compile(r"images/[\w.]+")
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IN_OR_OUT = ("input", "output", "entrée", "sortie", "入力", "出力", "输入", "输出")  # the first cell of such a table
TEMPLATE = re.compile(r"(?<!\*)\*(\d+) ([A-Z][^*]*)\*(?!\*)")
LONG = 60  # characters; a line of this length in both languages was not translated

every_page = pytest.mark.parametrize(("name", "language"), [(n, lang) for n in sorted(IDS) for lang in LANGUAGES])
every_translation = pytest.mark.parametrize(
    ("name", "language"), [(n, lang) for n in sorted(IDS) for lang in TRANSLATIONS]
)


@pytest.fixture(scope="module")
def nodes(server):
    found = server.get("/object_info")
    return {name: info for name, info in found.items() if "ComfyUI-Referee" in info["python_module"]}


@pytest.fixture(scope="module")
def texts(server):
    """The nodes' texts by language, as the editor gets them."""
    return {language: texts["nodeDefs"] for language, texts in server.get("/i18n").items()}


def fetch(server, path: str) -> bytes:
    with urlopen(server.url + path, timeout=30) as answer:
        return answer.read()


def page_of(server, name: str, language: str = "en") -> str:
    """The page as the editor gets it. The editor shows the English one where this address answers 404."""
    path = f"{DOCS}{name}/{language}.md"
    try:
        return fetch(server, path).decode("utf-8")
    except HTTPError as error:
        pytest.fail(f"{path}: {error}")


def shown(info: dict, texts: dict) -> set[str]:
    """The inputs and outputs as the node shows them with these texts; an id where they have no name for it.

    Of the sockets that an input grows only the input itself counts.
    """
    ids = {name for name, _ in inputs_of(info)}
    inputs = {key: text["name"] for key, text in input_texts(info["input"]).items() if text["name"] in ids}
    outputs = {str(slot): name for slot, name in enumerate(info["output_name"])}
    return {
        texts.get(kind, {}).get(key, {}).get("name", name)
        for kind, names in (("inputs", inputs), ("outputs", outputs))
        for key, name in names.items()
    }


def lines(page: str, start: str) -> list[str]:
    return [line for line in page.splitlines() if line.startswith(start)]


def test_every_node_has_a_page_in_every_language_and_there_are_no_others(nodes):
    found = {(page.parent.name, page.stem) for page in (PACK / "web" / "docs").glob("*/*.md")}
    assert found == {(name, language) for name in nodes for language in LANGUAGES}


@every_page
def test_the_page_begins_with_the_nodes_name(server, texts, name, language):
    assert page_of(server, name, language).splitlines()[0] == f"# {texts[language][name]['display_name']}"


@every_page
def test_the_page_names_every_input_and_output(server, nodes, texts, name, language):
    page = page_of(server, name, language)
    assert not {label for label in shown(nodes[name], texts[language].get(name, {})) if f"`{label}`" not in page}


@every_page
def test_tables_fit_a_narrow_panel(server, name, language):
    """Two columns where inputs and outputs are explained, and nowhere more than four."""
    page = page_of(server, name, language).splitlines()
    headers = [row for row, rule in zip(page, page[1:], strict=False) if rule.startswith("|---")]
    for header in headers:
        first, *others = (cell.strip() for cell in header.strip("|").split("|"))
        assert len(others) == 1 if first.startswith(IN_OR_OUT) else len(others) < 4, header


@every_page
def test_each_template_that_it_names_is_there(server, name, language):
    for number, words in TEMPLATE.findall(page_of(server, name, language)):
        (found,) = (path.stem for path in PACK.glob(f"workflows/Referee - {number} *.json"))
        assert all(word in found for word in words.split()), (number, words)


@every_translation
def test_a_translation_keeps_pictures_links_and_tables(server, name, language):
    page, english = page_of(server, name, language), page_of(server, name)
    assert [path for _, path in IMAGE.findall(page)] == [path for _, path in IMAGE.findall(english)]
    assert LINK.findall(page) == LINK.findall(english)
    assert len(lines(page, "|")) == len(lines(english, "|")), "rows of tables"
    assert len(lines(page, "- ")) == len(lines(english, "- ")), "items of lists"


@every_translation
def test_a_translation_is_one(server, name, language):
    page, english = page_of(server, name, language), page_of(server, name)
    headings, originals = lines(page, "#"), lines(english, "#")
    assert [h.split()[0] for h in headings] == [h.split()[0] for h in originals], "levels of headings"
    assert not set(headings) & set(originals)
    assert not {text for text, _ in IMAGE.findall(page)} & {text for text, _ in IMAGE.findall(english)}
    assert not [line for line in set(page.splitlines()) & set(english.splitlines()) if len(line) >= LONG]


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
    texts += [page.read_text(encoding="utf-8") for page in (PACK / "README.md", *(PACK / "docs").glob("*.md"))]
    shown = {Path(address).name for text in texts for address in PICTURE.findall(text)}
    assert {path.name for path in (PACK / "web" / "docs" / "images").iterdir()} <= shown
