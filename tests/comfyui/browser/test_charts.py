"""The chart of each node that runs: live, after a reload, and in both of the editor's ways to draw nodes."""

import json

import pytest

from comfyui.browser.conftest import Editor, opened
from scripts.server import PACK

CHART = "canvas.referee-chart"
PIXELS = """charts => charts.map(c => {
    if (!c.width) return 0
    const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data
    return data.filter((v, i) => i % 4 === 3 && v > 0).length
})"""


def demo_of(steps: int) -> dict:
    """The graph of three optimizers and a KSampler, with short runs."""
    (path,) = PACK.glob("workflows/*four ways*.json")
    workflow = json.loads(path.read_text())
    for node in optimizers(workflow):
        values = node["widgets_values"]
        assert values[2:4] == [160, "paper"] and values[9:11] == [10, "last"]
        values[2], values[9] = steps, 1  # steps and tail
    return workflow


def optimizers(workflow: dict) -> list[dict]:
    return [node for node in workflow["nodes"] if node["type"] == "RefereeOptimizer"]


def rows(editor: Editor) -> list[int]:
    return editor.page.eval_on_selector_all(CHART, "charts => charts.map(c => Number(c.dataset.steps || 0))")


def texts(editor: Editor, workflow: dict) -> list[str | None]:
    """The status line of each optimizer."""
    line = "id => app.graph.getNodeById(id).widgets.find(w => w.name.includes('text-preview'))?.value"
    return [editor.page.evaluate(line, node["id"]) for node in optimizers(workflow)]


def pictures(editor: Editor, workflow: dict) -> list[list[int]]:
    """[width, height] of the picture on each optimizer."""
    see_all = "app.canvas.ds.scale = 0.2; app.canvas.ds.offset = [0, 0]; app.canvas.setDirty(true, true)"
    editor.page.evaluate(f"() => {{ {see_all} }}")  # what is out of sight has no picture
    editor.page.wait_for_timeout(500)
    size = "id => (app.graph.getNodeById(id).imgs ?? []).map(i => [i.naturalWidth, i.naturalHeight])[0]"
    return [editor.page.evaluate(size, node["id"]) for node in optimizers(workflow)]


def test_every_optimizer_draws_its_own_run_which_survives_a_reload(editor):
    workflow = demo_of(6)
    editor.load(workflow)
    assert len(optimizers(workflow)) == 3 and rows(editor) == [0, 0, 0]
    editor.run()
    assert rows(editor) == [6, 6, 6]
    assert all(count > 500 for count in editor.page.eval_on_selector_all(CHART, PIXELS))
    labels = editor.page.eval_on_selector_all(CHART, "charts => charts.map(c => c.getAttribute('aria-label'))")
    assert sum("itm" in label and "caption" in label for label in labels) == 2, "score distillation alone has no loss"
    before = texts(editor, workflow)
    assert all(text.startswith("done in ") for text in before)
    editor.reload()
    editor.load(workflow)
    editor.page.wait_for_timeout(500)
    assert rows(editor) == [6, 6, 6]
    assert editor.page.eval_on_selector_all(CHART, "charts => charts.map(c => c.getAttribute('aria-label'))") == labels
    assert texts(editor, workflow) == before
    assert pictures(editor, workflow) == [[128, 128]] * 3


def test_nodes_2_show_one_picture_and_a_low_chart(editor, server):
    server.post("/settings/Comfy.VueNodes.Enabled", True)
    try:
        editor.reload()
        workflow = demo_of(5)
        editor.load(workflow)
        editor.run()
        assert rows(editor) == [5, 5, 5]
        for number in (node["id"] for node in optimizers(workflow)):
            node = editor.page.locator(f'[data-node-id="{number}"]')
            assert node.locator("img").count() == 1
            assert node.locator(CHART).bounding_box()["height"] < 0.25 * node.bounding_box()["height"]
    finally:
        server.post("/settings/Comfy.VueNodes.Enabled", False)


def test_the_chart_is_neither_saved_nor_sent(editor):
    workflow = demo_of(6)
    editor.load(workflow)
    node = editor.page.evaluate("app.graph.serialize().nodes.find(n => n.type === 'RefereeOptimizer')")
    (expected,) = (n for n in workflow["nodes"] if n["id"] == node["id"])
    assert node["widgets_values"] == expected["widgets_values"]
    assert not any("referee_chart" in n["inputs"] for n in editor.sent().values())


def test_an_older_frontend_shows_no_chart_and_no_error(editor):
    editor.page.evaluate("delete LGraphNode.prototype.addDOMWidget; LGraphNode.prototype.addDOMWidget = undefined")
    editor.load(demo_of(6))
    assert rows(editor) == []


@pytest.fixture
def other(browser, server):
    """A second page."""
    with opened(browser, server) as other:
        yield other


def test_another_page_gets_the_run_of_the_graph_it_opens_and_of_no_other(editor, other):
    workflow = demo_of(5)
    editor.load(workflow)
    editor.run()
    assert rows(editor) == [5, 5, 5]
    other.load(workflow | {"id": "00000000-0000-0000-0000-000000000001"})
    assert rows(other) == [0, 0, 0]
    other.load(workflow)
    other.page.wait_for_timeout(500)
    assert rows(other) == [5, 5, 5]
