"""The button "finish now": a long run ends early, and gives out the best so far."""

import pytest

from comfyui.browser.shown import FINISH, template, texts
from comfyui.conftest import PROMPT
from scripts.subgraphs import OBEY, behind_ksampler

LONG = 3000
BUTTON = f"{FINISH}:visible"


pytestmark = pytest.mark.slow


def long_optimizer(info: dict) -> dict:
    workflow = template("quick demo")
    (values,) = (node["widgets_values"] for node in workflow["nodes"] if node["type"] == "RefereeOptimizer")
    assert (values[2], values[13]) == (160, 0.9)
    values[2], values[13] = LONG, 0  # steps and stop_at
    return workflow


def long_search(info: dict) -> dict:
    workflow = template("Search until")
    (values,) = (node["widgets_values"] for node in workflow["nodes"] if node["type"] == "RefereeSearch")
    assert values[2:4] == [8, 0.9]
    values[2:4] = [300, 0]  # attempts and stop_at
    return workflow


def long_subgraph(info: dict) -> dict:
    workflow = behind_ksampler(info, prompt=PROMPT, steps=LONG)
    (host,) = (node for node in workflow["nodes"] if node.get("title") == OBEY.name)
    host["widgets_values"][0] = "a purple cross and a cyan circle"  # what KSampler paints never matches it already
    return workflow


def finish(editor) -> None:
    """Click the button, which is there while the run goes on and no longer, and look at what comes out."""
    editor.page.locator(BUTTON).click(timeout=120_000)
    entry = editor.wait()
    assert entry["status"]["status_str"] == "success"
    assert any(output.get("images") for output in entry["outputs"].values())
    editor.page.wait_for_timeout(500)
    assert editor.page.locator(BUTTON).count() == 0
    inside = editor.page.locator(".referee-status:visible").all_inner_texts()
    (text,) = [text for text in [*texts(editor), *inside] if text]
    assert text.startswith("done in ") and "finished by hand" in text


def queue_anew(editor) -> None:
    """With a new seed: ComfyUI does not run again what it has run."""
    set_seed = "w => { if (w.name === 'seed') w.value = Math.floor(Math.random() * 1e9) }"
    editor.page.evaluate(f"() => app.graph.nodes.forEach(n => n.widgets?.forEach({set_seed}))")
    editor.queue()


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "long_run", [pytest.param(long_optimizer, marks=SLOW), pytest.param(long_search, marks=SLOW), long_subgraph]
)
def test_a_click_ends_this_run_and_the_next(any_editor, any_server, long_run):
    any_editor.load(long_run(any_server.get("/object_info")))
    assert any_editor.page.locator(BUTTON).count() == 0
    queue_anew(any_editor)
    finish(any_editor)
    queue_anew(any_editor)
    finish(any_editor)


def test_it_is_back_on_a_page_that_is_loaded_again(any_editor):
    any_editor.load(long_optimizer({}))
    queue_anew(any_editor)
    any_editor.page.locator(BUTTON).wait_for()
    any_editor.reload()
    finish(any_editor)


@SLOW
def test_it_works_in_nodes_2(editor, server):
    server.post("/settings/Comfy.VueNodes.Enabled", True)
    try:
        editor.reload()
        editor.load(long_optimizer({}))
        queue_anew(editor)
        finish(editor)
    finally:
        server.post("/settings/Comfy.VueNodes.Enabled", False)
