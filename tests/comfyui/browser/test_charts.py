"""The chart of each node that runs: live, after a reload, and in both of the editor's ways to draw nodes."""

import pytest

from comfyui.browser.shown import CHART, demo_of, optimizers, pictures, put_in_a_row, rows, texts, wait_for_rows

PIXELS = """charts => charts.map(c => {
    if (!c.width) return 0
    const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data
    return data.filter((v, i) => i % 4 === 3 && v > 0).length
})"""
PLACE = [100, 40]  # of the graph on the screen, with the first node in sight
TELL = """([node, names]) => {
    const row = step => ({step, marked: false, scalars: {match: Object.fromEntries(names.map(n => [n, 0.1 * step]))}})
    const run = {workflow: app.graph.id, node, steps: 3, status: "", picture: "", running: true}
    const detail = {...run, rows: [0, 1, 2].map(row)}
    window.comfyAPI.api.api.dispatchEvent(new CustomEvent("referee.steps", {detail}))
}"""
DETAIL = """c => [c.width / c.getBoundingClientRect().width, c.height / c.getBoundingClientRect().height]
    .map(ratio => ratio / window.devicePixelRatio)"""
LISTEN = """() => {
    const write = CanvasRenderingContext2D.prototype.fillText
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
        const right = x + this.measureText(text).width
        const isName = this.canvas.matches("canvas.referee-chart") && this.textAlign === "left"
        if (isName) window.written[[x, y]] = {text, left: x, right, bottom: y, width: this.canvas.clientWidth}
        return write.apply(this, arguments)
    }
}"""


NODES_2 = pytest.param(True, id="Nodes 2.0", marks=pytest.mark.slow)


@pytest.fixture(params=[pytest.param(False, id="drawn nodes"), NODES_2])
def chart(request, editor, server):
    """The editor with a single optimizer, whose chart is in sight."""
    server.post("/settings/Comfy.VueNodes.Enabled", request.param)
    editor.reload()
    put_in_a_row(editor, "RefereeOptimizer")
    look_at(editor, 1, PLACE)
    editor.page.locator(CHART).wait_for()
    editor.page.wait_for_timeout(500)
    yield editor
    server.post("/settings/Comfy.VueNodes.Enabled", False)


def tell(editor, names: list[str]) -> None:
    """A run of three steps, as the server tells of it."""
    editor.page.evaluate(TELL, [editor.page.evaluate("String(app.graph.nodes[0].id)"), names])


def assert_sharp(editor) -> None:
    """The chart has as many pixels as the screen shows of it."""
    editor.page.wait_for_timeout(700)
    assert editor.page.locator(CHART).evaluate(DETAIL) == pytest.approx([1, 1], rel=0.25)


def look_at(editor, scale: float, offset: list[int]) -> None:
    editor.page.evaluate(
        "view => { Object.assign(app.canvas.ds, view); app.canvas.setDirty(true, true) }",
        {"scale": scale, "offset": offset},
    )


def test_a_chart_is_sharp_at_every_zoom_and_size(chart):
    tell(chart, ["a red circle"])
    assert_sharp(chart)
    for scale in (0.7, 1.6):
        look_at(chart, scale, PLACE)
        assert_sharp(chart)
    chart.page.evaluate("() => { const n = app.graph.nodes[0]; n.setSize([1.5 * n.size[0], n.size[1]]) }")
    assert_sharp(chart)
    look_at(chart, 1.6, [9000, 9000])  # out of sight
    chart.page.wait_for_timeout(500)
    tell(chart, ["a red circle"])
    look_at(chart, 1.2, PLACE)
    assert_sharp(chart)


def test_long_names_lie_inside_the_chart(chart):
    chart.page.evaluate(LISTEN)
    for count in (1, 2, 6, 14):
        chart.page.evaluate("() => { window.written = {} }")
        tell(
            chart,
            [f"statement {i}: a purple cross lies to the left of a cyan circle and of a star" for i in range(count)],
        )
        written = list(chart.page.evaluate("window.written").values())
        assert len(written) == count
        for name in written:
            assert name["text"].startswith("st") and name["text"].endswith("… 0.20")
            assert 0 <= name["left"] < name["right"] <= name["width"] and name["bottom"] < 40


def test_every_optimizer_draws_its_own_run_which_survives_a_reload(editor):
    workflow = demo_of(6)
    editor.load(workflow)
    assert len(optimizers(workflow)) == 3 and rows(editor) == [0, 0, 0]
    editor.run()
    assert rows(editor) == [6, 6, 6]
    assert all(count > 500 for count in editor.page.eval_on_selector_all(CHART, PIXELS))
    labels = editor.page.eval_on_selector_all(CHART, "charts => charts.map(c => c.getAttribute('aria-label'))")
    assert sum("itm" in label and "caption" in label for label in labels) == 2, "score distillation alone has no loss"
    before = texts(editor)
    assert all(text.startswith("done in ") for text in before)
    editor.reload()
    wait_for_rows(editor, [6, 6, 6])
    assert editor.page.eval_on_selector_all(CHART, "charts => charts.map(c => c.getAttribute('aria-label'))") == labels
    assert texts(editor) == before
    assert pictures(editor) == [[128, 128]] * 3


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
