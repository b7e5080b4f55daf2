"""The bundled graphs in the editor: each opens whole, from the dialog where a user finds it too."""

import json

import pytest

from scripts.server import PACK
from scripts.workflow import to_api

GRAPHS = sorted((PACK / "workflows").glob("*.json"))


@pytest.mark.parametrize("path", GRAPHS, ids=lambda p: p.stem)
def test_example_graphs_open_whole(editor, server, path):
    workflow = json.loads(path.read_text())
    editor.load(workflow)
    unknown = "app.graph.nodes.map(n => n.type).filter(t => !(t in LiteGraph.registered_node_types))"
    assert editor.page.evaluate(unknown) == []
    saved = editor.page.evaluate("app.graph.serialize()")
    assert sorted(map(tuple, saved["links"])) == sorted(map(tuple, workflow["links"]))
    sent, expected = editor.sent(), to_api(workflow, server.get("/object_info"))
    for number, node in sent.items():
        if node["class_type"] == "PreviewAny":  # older frontends send what it shows
            node["inputs"] = {name: v for name, v in node["inputs"].items() if name in expected[number]["inputs"]}
    assert {k: v["inputs"] for k, v in sent.items()} == {k: v["inputs"] for k, v in expected.items()}


def test_a_click_in_the_templates_dialog_opens_a_graph(any_editor):
    page, path = any_editor.page, GRAPHS[0]
    any_editor.template(path.stem)
    kinds = sorted(node["type"] for node in json.loads(path.read_text())["nodes"])
    assert sorted(page.evaluate("app.graph.nodes.map(n => n.type)")) == kinds


def test_help_opens(editor):
    page = "/extensions/ComfyUI-Referee/docs/RefereeOptimizer/en.md"
    text = editor.page.evaluate("async page => (await fetch(page)).text()", page)
    assert text.startswith("# Referee Optimizer")


def as_saved_before(node: dict) -> dict:
    """A node as it was saved before the field "preset" brought fields of its own."""
    place = {"RefereeOptimizer": 3, "RefereeSampler": 5}.get(node["type"])
    if place is None:
        return node
    assert node["widgets_values"][place] == "paper"
    values = node["widgets_values"][: place + 1] + node["widgets_values"][place + 2 :]
    assert len(values) == 14
    return node | {"widgets_values": values}


@pytest.mark.parametrize("holds", ["RefereeOptimizer", "RefereeSampler"])
def test_a_graph_saved_by_an_earlier_version_keeps_its_values(any_editor, any_server, holds):
    """And runs as it did: without noise on the gradient."""
    graphs = [json.loads(path.read_text()) for path in GRAPHS]
    workflow = next(g for g in graphs if any(node["type"] == holds for node in g["nodes"]))
    any_editor.load(workflow | {"nodes": [as_saved_before(node) for node in workflow["nodes"]]})
    expected = to_api(workflow, any_server.get("/object_info"))
    sent = {k: v["inputs"] for k, v in any_editor.sent().items() if v["class_type"] == holds}
    assert sent and sent == {k: expected[k]["inputs"] | {"preset.gradient_noise": 0} for k in sent}
