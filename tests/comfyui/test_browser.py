"""The pack in a real browser: headless Chromium on a running ComfyUI."""

import json
import time

import pytest

from comfyui.conftest import PROMPT, Demo
from scripts.make_screenshots import FLAGS, READY, chromium
from scripts.make_subgraph import SUBGRAPH, behind_ksampler
from scripts.server import PACK
from scripts.workflow import to_api

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium")

GRAPHS = sorted((PACK / "workflows").glob("*.json"))
CHART = "canvas.referee-chart"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    """The editor, empty; ``page.errors`` collects what goes wrong in the pack's own script."""
    page = browser.new_page(viewport={"width": 1800, "height": 1200})
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" and "eferee" in m.text else None)
    page.goto(server.url)
    page.wait_for_function(f"!!({READY})", timeout=90_000)
    page.wait_for_timeout(1000)
    yield page
    page.close()


def load(page, workflow: dict) -> None:
    page.evaluate("w => app.loadGraphData(w)", workflow)
    page.wait_for_function("n => app.graph.nodes.length === n", arg=len(workflow["nodes"]))


def demo_of(steps: int) -> dict:
    """The demo graph with short runs."""
    workflow = json.loads((PACK / "workflows" / "demo.json").read_text())
    for node in workflow["nodes"]:
        if node["type"] == "RefereeOptimizer":
            values = node["widgets_values"]
            assert values[2:4] == [200, "paper"] and values[8:10] == [10, "last"]
            values[2], values[8] = steps, 1  # steps and tail
    return workflow


@pytest.mark.parametrize("path", GRAPHS, ids=lambda p: p.stem)
def test_example_graphs_open_whole(page, server, path):
    workflow = json.loads(path.read_text())
    load(page, workflow)
    unknown = page.evaluate("app.graph.nodes.map(n => n.type).filter(t => !(t in LiteGraph.registered_node_types))")
    assert unknown == []
    saved = page.evaluate("app.graph.serialize()")
    assert sorted(map(tuple, saved["links"])) == sorted(map(tuple, workflow["links"]))
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    expected = to_api(workflow, server.get("/object_info"))
    for number, node in sent.items():
        if node["class_type"] == "PreviewAny":  # older frontends send what it shows
            node["inputs"] = {name: v for name, v in node["inputs"].items() if name in expected[number]["inputs"]}
    assert {k: v["inputs"] for k, v in sent.items()} == {k: v["inputs"] for k, v in expected.items()}
    assert page.errors == []


def rows(page) -> list[int]:
    return page.eval_on_selector_all(CHART, "charts => charts.map(c => Number(c.dataset.steps || 0))")


def run_to_the_end(page, server) -> None:
    before = len(server.get("/history"))
    page.evaluate("app.queuePrompt(0)")
    end = time.monotonic() + 240
    while len(server.get("/history")) == before:
        assert time.monotonic() < end, "the run did not end"
        page.wait_for_timeout(300)
    page.wait_for_timeout(1000)


def drawn(page) -> list[int]:
    """How many pixels of each chart are not empty."""
    return page.eval_on_selector_all(
        CHART,
        """charts => charts.map(c => {
            if (!c.width) return 0
            const data = c.getContext("2d").getImageData(0, 0, c.width, c.height).data
            return data.filter((v, i) => i % 4 === 3 && v > 0).length
        })""",
    )


def test_every_optimizer_draws_its_own_chart_which_survives_a_reload(page, server):
    workflow = demo_of(6)
    load(page, workflow)
    optimizers = [n for n in workflow["nodes"] if n["type"] == "RefereeOptimizer"]
    assert len(optimizers) == 3 and len(rows(page)) == 3
    run_to_the_end(page, server)
    assert rows(page) == [6, 6, 6]
    assert all(count > 500 for count in drawn(page))
    labels = page.eval_on_selector_all(CHART, "charts => charts.map(c => c.getAttribute('aria-label'))")
    assert sum("itm" in label and "caption" in label for label in labels) == 2, "score distillation alone has no loss"
    page.reload()
    page.wait_for_function(f"!!({READY})", timeout=90_000)
    load(page, workflow)
    page.wait_for_timeout(500)
    assert rows(page) == [6, 6, 6]
    assert page.errors == []


def test_nodes_2_show_one_picture_and_a_low_chart(page, server):
    server.post("/settings/Comfy.VueNodes.Enabled", True)
    try:
        page.reload()
        page.wait_for_function(f"!!({READY})", timeout=90_000)
        page.wait_for_timeout(1000)
        workflow = demo_of(5)
        load(page, workflow)
        run_to_the_end(page, server)
        assert rows(page) == [5, 5, 5]
        for number in (n["id"] for n in workflow["nodes"] if n["type"] == "RefereeOptimizer"):
            node = page.locator(f'[data-node-id="{number}"]')
            assert node.locator("img").count() == 1
            assert node.locator(CHART).bounding_box()["height"] < 0.25 * node.bounding_box()["height"]
        assert page.errors == []
    finally:
        server.post("/settings/Comfy.VueNodes.Enabled", False)


def test_the_chart_is_neither_saved_nor_sent(page):
    workflow = demo_of(6)
    load(page, workflow)
    node = page.evaluate("app.graph.serialize().nodes.find(n => n.type === 'RefereeOptimizer')")
    expected = next(n for n in workflow["nodes"] if n["id"] == node["id"])
    assert node["widgets_values"] == expected["widgets_values"]
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    assert not any("referee_chart" in n["inputs"] for n in sent.values())


def test_an_older_frontend_shows_no_chart_and_no_error(page):
    page.evaluate("delete LGraphNode.prototype.addDOMWidget; LGraphNode.prototype.addDOMWidget = undefined")
    load(page, demo_of(6))
    assert rows(page) == []
    assert page.errors == []


def test_the_subgraph_is_offered_and_unpacks_to_a_prompt(page, server):
    offered = page.evaluate("async () => (await fetch('/api/global_subgraphs')).json()")
    assert SUBGRAPH.stem in [entry["name"] for entry in offered.values()]
    load(page, json.loads(SUBGRAPH.read_text()))
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    kinds = sorted(n["class_type"] for n in sent.values())
    assert kinds == [
        "RefereeAugmentation", "RefereeEMARestart", "RefereeLoss", "RefereeOptimizer", "RefereeSDSGuidance"
    ]  # fmt: skip
    assert page.errors == []


def test_the_subgraph_runs_behind_a_ksampler(page, server):
    load(page, behind_ksampler(server.get("/object_info"), prompt=PROMPT))
    fields = "app.graph.nodes.find(n => n.widgets?.some(w => w.name === 't_max')).widgets"
    for name, value in {"prompt": PROMPT, "steps": 12}.items():  # older frontends do not take them from the file
        page.evaluate(f"v => {{ {fields}.find(w => w.name === v[0]).value = v[1] }}", [name, value])
    sent = page.evaluate("async () => (await app.graphToPrompt()).output")
    (optimizer,) = (n for n in sent.values() if n["class_type"] == "RefereeOptimizer")
    assert sent[optimizer["inputs"]["latent_image"][0]]["class_type"] == "KSampler"
    assert optimizer["inputs"]["steps"] == 12
    (loss,) = (n for n in sent.values() if n["class_type"] == "RefereeLoss")
    assert loss["inputs"]["text"] == PROMPT
    run_to_the_end(page, server)
    (ended,) = [entry for entry in server.get("/history").values() if str(entry["prompt"]).count("obeyed")]
    failed = dict(ended["status"]["messages"]).get("execution_error")
    assert failed is None, failed["exception_message"]
    assert [e["filename"] for o in ended["outputs"].values() for e in o["images"] if e["type"] == "output"]
    assert page.errors == []


def test_help_opens(page):
    load(page, demo_of(6))
    text = page.evaluate("async () => (await fetch('/extensions/ComfyUI-Referee/docs/RefereeOptimizer/en.md')).text()")
    assert text.startswith("# Referee Optimizer")


def test_two_pages_see_the_same_run(page, browser, server):
    other = browser.new_page()
    other.goto(server.url)
    other.wait_for_function(f"!!({READY})", timeout=90_000)
    for p in (page, other):
        load(p, demo_of(5))
    run_to_the_end(page, server)
    other.wait_for_timeout(500)
    assert rows(page) == rows(other) == [5, 5, 5]
    other.close()
    graph = Demo()
    graph.optimise()
    assert server.run(graph)
