"""The subgraph on every frontend that can be had: what is typed into it stays, and it shows the run inside."""

import base64
import json

import pytest

from comfyui.conftest import PROMPT
from scripts.subgraphs import OBEY, behind_ksampler, in_place_of_ksampler, restored

HOST = "app.graph.nodes.find(n => n.isSubgraphNode?.())"
TYPED = {"prompt": "a purple cross and a cyan circle", "steps": 12, "seed": 7, "t_max": 600}
STATUSES = """() => {
    window.seen = new Set()
    const look = () => document.querySelectorAll('.referee-status').forEach(e => window.seen.add(e.textContent))
    new MutationObserver(look).observe(document.body, {subtree: true, childList: true, characterData: true})
}"""


def type_in(editor, values: dict, host: str = HOST) -> None:
    set_values = f"values => {{ for (const w of {host}.widgets) if (w.name in values) w.value = values[w.name] }}"
    editor.page.evaluate(set_values, values)


def shown(editor) -> dict:
    """The values on the subgraph's node."""
    values = editor.page.evaluate(f"Object.fromEntries({HOST}.widgets.map(w => [w.name, w.value]))")
    return {name: values[name] for name in OBEY.fields}


def used(editor) -> dict:
    """The same values as the nodes inside get them."""
    by_class = {node["class_type"]: node["inputs"] for node in editor.sent().values()}
    optimizer = by_class["RefereeOptimizer"]
    return {
        "prompt": by_class["RefereeLoss"]["text"], "steps": optimizer["steps"], "seed": optimizer["seed"],
        "t_max": by_class["RefereeSDSGuidance"]["t_max"],
    }  # fmt: skip


def saved(editor) -> dict:
    return json.loads(editor.page.evaluate("JSON.stringify(app.graph.serialize())"))


@pytest.fixture
def graph(any_server):
    return behind_ksampler(any_server.get("/object_info"), prompt=PROMPT)


def test_it_is_offered_and_unpacks_to_a_prompt(any_editor):
    offered = any_editor.page.evaluate("async () => (await fetch('/api/global_subgraphs')).json()")
    assert OBEY.name in [entry["name"] for entry in offered.values()]
    any_editor.load(json.loads(OBEY.path.read_text()))
    sent = any_editor.sent().values()
    (inputs,) = (node["inputs"] for node in sent if node["class_type"] == "RefereeOptimizer")
    assert (inputs["stop_at"], inputs["result"]) == (0.9, "best of start and run")
    kinds = sorted(node["class_type"] for node in sent)
    assert kinds == [
        "RefereeAugmentation", "RefereeEMARestart", "RefereeLoss", "RefereeOptimizer", "RefereeSDSGuidance"
    ]  # fmt: skip


def test_what_is_typed_survives_saving_and_loading(any_editor, graph):
    any_editor.load(graph)
    type_in(any_editor, TYPED)
    first = saved(any_editor)
    type_in(any_editor, {"prompt": "something else", "steps": 99})
    any_editor.reload()
    any_editor.load(first)
    assert shown(any_editor) == used(any_editor) == TYPED
    any_editor.load(saved(any_editor))
    assert shown(any_editor) == used(any_editor) == TYPED
    assert not any("proxyWidgetErrorQuarantine" in node["properties"] for node in saved(any_editor)["nodes"])


def test_it_shows_the_run_inside_and_its_values_come_back_from_the_picture(any_editor, any_server, graph):
    any_editor.load(graph)
    type_in(any_editor, TYPED)
    any_editor.page.evaluate(STATUSES)
    ended = any_editor.run()
    seen = any_editor.page.evaluate("[...window.seen]")
    assert any(text.startswith("step ") and "/12 · match " in text and " · loss " in text for text in seen)
    page = any_editor.page
    status = page.locator(".referee-status:visible").inner_text()
    assert status.startswith("done in ")
    assert_panel(page, status, 12)

    ((picture,),) = (output["images"] for output in ended["outputs"].values() if output.get("images"))
    png = base64.b64encode(any_server.image(picture)).decode()
    any_editor.reload()
    page.wait_for_timeout(1000)
    assert_panel(page, status, 12)
    page.evaluate("() => { window.before = app.graph.nodes[0] }")
    page.evaluate(
        """async png => {
            const bytes = Uint8Array.from(atob(png), c => c.charCodeAt(0))
            await app.handleFile(new File([bytes], "run.png", {type: "image/png"}))
        }""",
        png,
    )
    page.wait_for_function(f"!!{HOST} && app.graph.nodes[0] !== window.before")
    page.wait_for_timeout(1000)
    assert shown(any_editor) == used(any_editor) == TYPED
    assert page.locator(".referee-status:visible").inner_text() == "", "another graph's run"


def assert_panel(page, status: str, steps: int) -> None:
    """Chart, status line and picture inside the subgraph's node."""
    panel = page.locator(".referee-status:visible").locator("..")
    assert panel.locator(".referee-status").inner_text() == status
    assert panel.locator("canvas").get_attribute("data-steps") == str(steps)
    assert panel.locator("img").evaluate("i => [i.naturalWidth, i.naturalHeight]") == [128, 128]
    place, x, y = page.evaluate(f"(n => [[...n.pos, ...n.size], ...app.canvas.ds.offset])({HOST})")
    scale, box = page.evaluate("app.canvas.ds.scale"), panel.bounding_box()
    left, top, width, height = place
    assert scale * (left + x) <= box["x"] and box["x"] + box["width"] <= scale * (left + x + width) + 1
    assert scale * (top + y) <= box["y"] and box["y"] + box["height"] <= scale * (top + y + height) + 1


def test_two_instances_show_their_own_runs(any_editor, graph):
    (host,) = (node for node in graph["nodes"] if node.get("title") == OBEY.name)
    twin = json.loads(json.dumps(host)) | {"id": host["id"] + 50, "pos": [host["pos"][0], host["pos"][1] + 900]}
    for slot in twin["inputs"]:
        slot["link"] = None
    for slot in twin["outputs"]:
        slot["links"] = []
    any_editor.load(graph | {"nodes": [*graph["nodes"], twin], "last_node_id": twin["id"]})
    page = any_editor.page
    paths = page.evaluate(
        """() => app.graph.nodes.filter(n => n.isSubgraphNode?.()).map(n => {
            const inner = n.subgraph.nodes.find(i => i.type === "RefereeOptimizer")
            return `${n.id}:${inner.id}`
        })"""
    )
    tell = """([node, rows, status]) => {
        const api = window.comfyAPI.api.api, workflow = app.graph.id
        const told = extra => api.dispatchEvent(new CustomEvent("referee.steps", {
            detail: {workflow, node, steps: 9, ...extra}}))
        told({rows: [], status: "", picture: "", running: true})
        const row = step => ({step, marked: false, scalars: {loss: {loss: 1}}})
        told({rows: [...Array(rows).keys()].map(row), status})
    }"""
    page.evaluate(tell, [paths[0], 3, "the first"])
    page.evaluate(tell, [paths[1], 5, "the second"])
    status = "panels => panels.map(p => [p.textContent, p.parentElement.querySelector('canvas').dataset.steps])"
    assert sorted(page.eval_on_selector_all(".referee-status", status)) == [["the first", "3"], ["the second", "5"]]
    inside = "[...document.querySelectorAll('canvas.referee-chart')].filter(c => !c.parentElement.querySelector('img'))"
    for number, rows in enumerate(("3", "5")):
        host = "app.graph.nodes.filter(n => n.isSubgraphNode?.())[i]"
        page.evaluate(f"i => {{ const host = {host}; app.canvas.openSubgraph(host.subgraph, host) }}", number)
        page.wait_for_function(f"rows => {inside}.some(c => c.dataset.steps === rows)", arg=rows)
        page.evaluate("app.canvas.setGraph(app.rootGraph)")


def test_the_search_takes_ksamplers_place(any_editor, any_server):
    """Its fields reach the nodes inside, and it ends with the attempts that it was given."""
    typed = {
        "prompt": PROMPT,
        "seed": 3,
        "steps": 4,
        "cfg": 3.0,
        "sampler_name": "euler_ancestral",
        "scheduler": "karras",
    }
    typed |= {"denoise": 1.0, "attempts": 2, "stop_at": 0.0}
    any_editor.load(in_place_of_ksampler(any_server.get("/object_info"), prompt=PROMPT))
    type_in(any_editor, typed)
    inside = {node["class_type"]: node["inputs"] for node in any_editor.sent().values()}
    assert inside["RefereeLoss"]["text"] == PROMPT and inside["CFGGuider"]["cfg"] == 3.0
    assert inside["KSamplerSelect"]["sampler_name"] == "euler_ancestral"
    assert [inside["BasicScheduler"][name] for name in ("scheduler", "steps", "denoise")] == ["karras", 4, 1.0]
    assert [inside["RefereeSearch"][name] for name in ("seed", "attempts", "stop_at")] == [3, 2, 0.0]
    any_editor.run()
    assert "2 of 2 attempts" in any_editor.page.locator(".referee-status:visible").inner_text()


def test_in_nodes_2_it_shows_the_run_too(editor, server):
    server.post("/settings/Comfy.VueNodes.Enabled", True)
    try:
        editor.reload()
        fields = {"prompt": PROMPT, "steps": 4, "attempts": 2, "stop_at": 0.0}
        editor.load(in_place_of_ksampler(server.get("/object_info"), **fields))
        editor.run()
        node = editor.page.locator(f"[data-node-id='{editor.page.evaluate(HOST + '.id')}']")
        assert "2 of 2 attempts" in node.locator(".referee-status").inner_text()
        assert node.locator("canvas.referee-chart").get_attribute("data-steps") == "2"
        assert node.locator("img.referee-picture").evaluate("i => [i.naturalWidth, i.naturalHeight]") == [128, 128]
        box, panel = node.bounding_box(), node.locator("img.referee-picture").bounding_box()
        assert panel["y"] + panel["height"] <= box["y"] + box["height"] + 1
        assert all(field.is_visible() for field in node.get_by_test_id("node-widget").all())
        assert node.locator("textarea").bounding_box()["height"] < box["height"] / 3
    finally:
        server.post("/settings/Comfy.VueNodes.Enabled", False)


@pytest.mark.slow
def test_precise_restore_gives_picture_and_residual(any_editor, any_server):
    any_editor.load(restored(any_server.get("/object_info"), steps=4))
    type_in(any_editor, {"seed": 5, "steps": 6, "denoise": 0.5})
    inside = {node["class_type"]: node["inputs"] for node in any_editor.sent().values()}
    assert inside["BasicScheduler"]["steps"] == 6 and inside["RandomNoise"]["noise_seed"] == 5
    ended = any_editor.run()
    assert any(output.get("images") for output in ended["outputs"].values())
    assert " · residual 0." in any_editor.page.locator(".referee-status:visible").inner_text()
