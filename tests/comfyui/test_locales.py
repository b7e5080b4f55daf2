"""The texts of locales/: every language has all that the schemas say and nothing else, and ComfyUI serves them."""

import json
import re

import pytest

from comfyui.test_start import IDS, inputs_of
from scripts.make_locales import english
from scripts.server import PACK

TRANSLATIONS = ("zh", "ja", "fr")
LANGUAGES = ("en", *TRANSLATIONS)


def read(language: str) -> dict:
    """The files of a language by name."""
    folder = PACK / "locales" / language
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))}


def flat(tree: dict, path: tuple = ()) -> dict[tuple, str]:
    """The texts under their keys, e.g. ("nodeDefs", "RefereeLoss", "inputs", "text", "tooltip")."""
    found = {}
    for key, value in tree.items():
        found |= flat(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


@pytest.fixture(scope="module")
def info(server) -> dict:
    everything = server.get("/object_info")
    return {name: everything[name] for name in IDS}


def test_english_says_what_the_schemas_say(info):
    assert read("en") == english(info), "run scripts/make_locales.py, then translate what has changed"
    nodes = read("en")["nodeDefs"]
    assert set(nodes) == IDS
    for name, node in info.items():
        texts = nodes[name]
        assert (texts["display_name"], texts["description"]) == (node["display_name"], node["description"])
        inputs = {(text["name"], text["tooltip"]) for text in texts["inputs"].values()}
        assert {(label, options["tooltip"]) for label, options in inputs_of(node)} <= inputs
        outputs = [(text["name"], text["tooltip"]) for text in texts["outputs"].values()]
        assert outputs == list(zip(node["output_name"], node["output_tooltips"], strict=True))


def test_nested_inputs_are_found_under_the_frontends_keys():
    nodes = read("en")["nodeDefs"]
    assert nodes["RefereeAugmentation"]["inputs"]["preset_rotation"]["name"] == "rotation"
    assert {f"losses_loss_{i}" for i in range(16)} < set(nodes["RefereeCombineLosses"]["inputs"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_is_complete_and_has_nothing_else(info, language):
    found, wanted = set(flat(read(language))), set(flat(english(info)))
    assert not wanted - found, "missing"
    assert not found - wanted, "not in the schemas"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_breaks_the_frontend(language):
    for path, text in flat(read(language)).items():
        assert text and text == text.strip(), path
        assert not re.search(r"[@{}|]", text), f"{path}: vue-i18n takes these characters for its syntax"


@pytest.mark.parametrize("language", TRANSLATIONS)
def test_descriptions_and_tooltips_are_translated(language):
    translated, original = flat(read(language)), flat(read("en"))
    left = [
        path for path, text in translated.items() if path[-1] in ("description", "tooltip") and text == original[path]
    ]
    assert not left


def test_the_server_offers_every_language(server):
    served = server.get("/i18n")
    for language in LANGUAGES:
        texts = read(language)
        assert served[language] == {**texts["main"], "nodeDefs": texts["nodeDefs"]}
