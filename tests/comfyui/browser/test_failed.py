"""A run that fails, is cancelled or is refused leaves no line of an earlier run on its node."""

import random

import pytest

from comfyui.browser.shown import FINISH, rows, template, texts

FIELD = "app.graph.nodes.find(n => n.type === 'RefereeOptimizer').widgets.find(w => w.name === name)"


pytestmark = pytest.mark.slow


def type_in(editor, **values) -> None:
    set_all = f"values => Object.entries(values).forEach(([name, value]) => {{ {FIELD}.value = value }})"
    editor.page.evaluate(set_all, values)


@pytest.fixture
def done(any_editor):
    """The editor with a run that is done."""
    any_editor.load(template("quick demo"))
    type_in(any_editor, steps=20, seed=random.randrange(10**9))  # ComfyUI does not run again what it has run
    any_editor.run()
    assert texts(any_editor)[0].startswith("done in ")
    yield any_editor
    any_editor.server.post("/interrupt", {})


def test_a_failed_run(done):
    type_in(done, steps=5)  # fewer than the tail
    done.queue()
    done.wait()
    assert texts(done)[0] == "failed before the first step" and rows(done) == [0]


def test_a_cancelled_run(done):
    type_in(done, steps=2000)
    done.queue()
    done.page.locator(f"{FINISH}:visible").wait_for(timeout=120_000)
    done.page.wait_for_function("() => Number(document.querySelector('canvas.referee-chart').dataset.steps) > 1")
    assert texts(done)[0].endswith(" left")
    done.page.evaluate("app.extensionManager.command.execute('Comfy.Interrupt')")
    done.wait()
    assert texts(done)[0].startswith("cancelled at step ") and "left" not in texts(done)[0]
    assert done.page.locator(f"{FINISH}:visible").count() == 0


def test_a_refused_run(done):
    done.page.evaluate(
        "() => { const n = app.graph.nodes.find(n => n.type === 'RefereeOptimizer'); "
        "n.disconnectInput(n.inputs.findIndex(i => i.name === 'vae')) }"
    )
    done.page.evaluate("app.queuePrompt(0)")
    done.page.wait_for_timeout(2000)
    assert texts(done) == ["not run: see its error"] and rows(done) == [0]
