"""What a test reads off the editor, and the graphs that it opens there."""

import json

from comfyui.browser.conftest import Editor
from scripts.server import PACK

CHART, FINISH = "canvas.referee-chart", ".referee-finish"
TOAST = ".p-toast-message"  # a message in the page's corner
RUNNERS = "app.graph.nodes.filter(n => ['RefereeOptimizer', 'RefereeSearch'].includes(n.type))"


def template(part: str) -> dict:
    """The bundled graph with this in its name."""
    (path,) = PACK.glob(f"workflows/*{part}*.json")
    return json.loads(path.read_text())


def demo_of(steps: int) -> dict:
    """The graph of three optimizers and a KSampler, with short runs."""
    workflow = template("four ways")
    for node in optimizers(workflow):
        values = node["widgets_values"]
        assert values[2:4] == [160, "paper"] and values[9:11] == [10, "last"]
        values[2], values[9] = steps, 1  # steps and tail
    return workflow


def put_in_a_row(editor: Editor, *kinds: str) -> None:
    """A graph of these nodes alone, each joined to the one before by its first input that fits; a text is "a cat"."""
    editor.page.evaluate(
        """kinds => {
            app.graph.clear()
            const nodes = kinds.map(kind => LiteGraph.createNode(kind))
            nodes.forEach((node, i) => {
                node.pos = [500 * i, 0]
                app.graph.add(node)
                node.widgets?.filter(w => w.name === "text").forEach(w => { w.value = "a cat" })
            })
            nodes.slice(1).forEach((node, i) => {
                const fits = input => nodes[i].outputs.findIndex(({type}) => type === input.type || input.type === "*")
                const slot = node.inputs.findIndex(input => fits(input) >= 0)
                nodes[i].connect(fits(node.inputs[slot]), node, slot)
            })
        }""",
        kinds,
    )


def optimizers(workflow: dict) -> list[dict]:
    return [node for node in workflow["nodes"] if node["type"] == "RefereeOptimizer"]


def rows(editor: Editor) -> list[int]:
    return editor.page.eval_on_selector_all(CHART, "charts => charts.map(c => Number(c.dataset.steps || 0))")


def wait_for_rows(editor: Editor, expected: list[int]) -> None:
    """Until the charts show so many steps; a page that is loaded again asks the server for them."""
    found = f"[...document.querySelectorAll({CHART!r})].map(c => Number(c.dataset.steps || 0)).join()"
    editor.page.wait_for_function(f"{found} === {','.join(map(str, expected))!r}", timeout=20_000)


def texts(editor: Editor) -> list[str | None]:
    """The status line of each optimizer and search."""
    line = "n => n.widgets.find(w => w.name.includes('text-preview'))?.value ?? null"
    return editor.page.evaluate(f"{RUNNERS}.map({line})")


def pictures(editor: Editor) -> list[list[int] | None]:
    """[width, height] of the picture on each optimizer and search."""
    see = "([scale, offset]) => { Object.assign(app.canvas.ds, {scale, offset}); app.canvas.setDirty(true, true) }"
    before = editor.page.evaluate("[app.canvas.ds.scale, [...app.canvas.ds.offset]]")
    editor.page.evaluate(see, [0.2, [0, 0]])  # what is out of sight has no picture
    editor.page.wait_for_timeout(500)
    size = "n => (n.imgs ?? []).map(i => [i.naturalWidth, i.naturalHeight])[0] ?? null"
    found = editor.page.evaluate(f"{RUNNERS}.map({size})")
    editor.page.evaluate(see, before)
    editor.page.wait_for_timeout(500)
    return found
