"""The bundled graphs in the editor: each opens whole, from the dialog where a user finds it too."""

import json

import pytest

from scripts.server import PACK
from scripts.workflow import to_api

GRAPHS = sorted((PACK / "workflows").glob("*.json"))


OF_OTHERS_NODES = (3, 4, 5, 6, 9, 10, 11, 17, 19, 20, 22, 25, 27)  # graphs made of nodes that others hold too


def _each(path):
    number = int(path.stem.split()[2])
    return pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if number in OF_OTHERS_NODES else [])


@pytest.mark.parametrize("path", list(map(_each, GRAPHS)))
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


NOTES = "app.graph.nodes.filter(n => n.type === 'MarkdownNote')"
EACH_NOTE = f"""async measure => {{
    const found = []
    for (const n of {NOTES}) {{
        Object.assign(app.canvas.ds, {{scale: 1, offset: [200 - n.pos[0], 200 - n.pos[1]]}})
        app.canvas.setDirty(true, true)
        await new Promise(done => setTimeout(done, 300))
        found.push(measure(n))
    }}
    return found
}}"""
IS_WHOLE = """n => {
    const text = n.widgets[0].element.querySelector(".tiptap")
    return text.clientHeight > 0 && text.scrollHeight <= text.clientHeight
}"""
ROOM = """n => {
    const box = document.querySelector(`[data-node-id="${n.id}"]`)
    const text = [...box.querySelectorAll("p, li")].at(-1)
    return Math.round(box.getBoundingClientRect().bottom - text.getBoundingClientRect().bottom)
}"""


@pytest.mark.slow
def test_no_note_is_cut_off(editor):
    for path in GRAPHS:
        editor.load(json.loads(path.read_text()))
        whole = editor.page.evaluate(f"({EACH_NOTE})({IS_WHOLE})")
        assert whole and all(whole), path.stem


@pytest.mark.slow
def test_notes_fit_in_nodes_2(editor, server):
    """There the text is higher, and a note that is too small for it grows over its neighbours."""
    server.post("/settings/Comfy.VueNodes.Enabled", True)
    try:
        editor.reload()
        for path in GRAPHS:
            workflow = json.loads(path.read_text())
            editor.load(workflow)
            size = {n["id"]: n["size"] for n in workflow["nodes"] if n["type"] == "MarkdownNote"}
            now = editor.page.evaluate(f"Object.fromEntries({NOTES}.map(n => [n.id, [...n.size]]))")
            assert {int(k): v for k, v in now.items()} == size, path.stem
            rooms = editor.page.evaluate(f"({EACH_NOTE})({ROOM})")
            assert all(20 <= room < 40 for room in rooms), (path.stem, rooms)
    finally:
        server.post("/settings/Comfy.VueNodes.Enabled", False)


def test_a_click_in_the_templates_dialog_opens_a_graph_to_be_read(any_editor):
    page, path = any_editor.page, GRAPHS[0]
    page.set_viewport_size({"width": 1600, "height": 1000})
    any_editor.template(path.stem)
    titles = sorted(node["title"] for node in json.loads(path.read_text())["nodes"])
    assert sorted(page.evaluate("app.graph.nodes.map(n => n.title)")) == titles
    assert page.evaluate("app.canvas.ds.scale") >= 0.6


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
