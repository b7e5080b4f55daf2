"""The chart of each node that runs: live, after a reload, and in both of the editor's ways to draw nodes."""

from comfyui.browser.shown import CHART, demo_of, optimizers, pictures, rows, texts, wait_for_rows

PIXELS = """charts => charts.map(c => {
    if (!c.width) return 0
    const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data
    return data.filter((v, i) => i % 4 === 3 && v > 0).length
})"""


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
