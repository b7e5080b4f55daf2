"""A graph that is opened anew shows no other graph's run; what the editor brings back shows its own."""

import base64
import json

import pytest

from comfyui.browser.conftest import opened
from comfyui.browser.shown import FINISH, pictures, rows, texts

DEMO = "Referee - 13 Optimizer, quick demo"
OPTIMIZER = "app.graph.nodes.find(n => n.type === 'RefereeOptimizer')"
SET_STEPS = f"""steps => {OPTIMIZER}.widgets.forEach(w => {{
    if (w.name === 'steps') w.value = steps
    if (w.name === 'stop_at') w.value = 0
}})"""
DROP = """([data, name, type]) => {
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0))
    const dataTransfer = new DataTransfer()
    dataTransfer.items.add(new File([bytes], name, {type}))
    app.canvas.canvas.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}))
}"""


pytestmark = pytest.mark.slow


def run(editor, steps: int) -> dict:
    """The run's entry in the history."""
    editor.page.evaluate(SET_STEPS, steps)
    entry = editor.run()
    assert_shows(editor, steps)
    return entry


def show_tab(editor, number: int) -> None:
    editor.page.locator(".workflow-tab").nth(number).click()
    editor.page.wait_for_timeout(1500)


def assert_empty(editor) -> None:
    assert rows(editor) == [0] and texts(editor) == [None] and pictures(editor) == [None]


def assert_shows(editor, steps: int) -> None:
    assert rows(editor) == [steps] and texts(editor)[0].startswith("done in ")
    assert pictures(editor) in ([[128, 128]], [[512, 512]])  # kept, live


def test_two_graphs_of_one_template_keep_their_runs_apart(any_editor):
    any_editor.template(DEMO)
    run(any_editor, 14)
    first = any_editor.page.locator(".workflow-tab").count() - 1
    any_editor.template(DEMO)
    assert_empty(any_editor)
    any_editor.reload()
    assert_empty(any_editor)
    run(any_editor, 15)
    show_tab(any_editor, first)
    assert_shows(any_editor, 14)
    show_tab(any_editor, first + 1)
    assert_shows(any_editor, 15)
    any_editor.reload()
    assert_shows(any_editor, 15)
    assert any_editor.page.locator(".workflow-tab").count() == first + 2


@pytest.mark.slow
def test_a_run_that_goes_on_shows_nothing_on_another_graph(any_editor):
    any_editor.template(DEMO)
    any_editor.page.evaluate(SET_STEPS, 400)
    any_editor.queue()
    button = any_editor.page.locator(f"{FINISH}:visible")
    button.wait_for(timeout=120_000)
    first = any_editor.page.locator(".workflow-tab").count() - 1
    any_editor.template(DEMO)
    any_editor.page.wait_for_timeout(4000)
    assert_empty(any_editor)
    assert button.count() == 0
    show_tab(any_editor, first)
    seen = rows(any_editor)[0]
    assert texts(any_editor)[0].startswith("step ") and pictures(any_editor) != [None]
    any_editor.page.wait_for_timeout(2000)
    assert rows(any_editor)[0] > seen > 0
    button.click()
    any_editor.wait()
    assert "finished by hand" in texts(any_editor)[0]


@pytest.mark.parametrize(("kind", "steps"), [("png", 16), pytest.param("json", 18, marks=pytest.mark.slow)])
def test_a_file_of_an_earlier_state_is_a_graph_of_its_own(any_editor, any_server, kind, steps):
    any_editor.template(DEMO)
    ended = run(any_editor, steps)
    first = any_editor.page.locator(".workflow-tab").count() - 1
    if kind == "png":
        data, media = any_server.image(ended["outputs"]["11"]["images"][0]), "image/png"
    else:
        data, media = json.dumps(any_editor.page.evaluate("app.graph.serialize()")).encode(), "application/json"
    any_editor.page.evaluate("() => { window.before = app.graph.nodes[0] }")
    any_editor.page.evaluate(DROP, [base64.b64encode(data).decode(), f"earlier.{kind}", media])
    any_editor.page.wait_for_function("app.graph.nodes.length && app.graph.nodes[0] !== window.before")
    any_editor.page.wait_for_timeout(1500)
    assert_empty(any_editor)
    show_tab(any_editor, first)
    assert_shows(any_editor, steps)


@pytest.mark.slow
def test_a_saved_graph_shows_its_run_on_another_page(browser, editor, server):
    editor.template(DEMO)
    run(editor, 17)
    page = editor.page
    page.keyboard.press("Control+s")
    page.locator("input[type=text]:focus").fill("mine")
    page.keyboard.press("Enter")
    page.wait_for_function("app.extensionManager.workflow.activeWorkflow.isPersisted")
    with opened(browser, server) as other:
        other.page.keyboard.press("w")
        other.page.get_by_text("mine", exact=True).first.click()
        other.page.wait_for_function("app.graph.nodes.some(n => n.type === 'RefereeOptimizer')")
        other.page.wait_for_timeout(1500)
        assert_shows(other, 17)
