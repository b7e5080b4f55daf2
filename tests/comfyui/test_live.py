"""Status line, rows and kept runs, from steps made by hand, inside ComfyUI."""

import pytest

from comfyui.inside import run

STEPS = """
import json
from types import SimpleNamespace

import torch
from server import PromptServer

messages, texts = [], []
PromptServer.instance = SimpleNamespace(
    client_id="page", send_sync=lambda event, data, sid=None: messages.append((data, sid)),
    send_progress_text=lambda text, node: texts.append((node, text)))

from pack.nodes.bridge.show import curves, panel
from pack.nodes.bridge.judging.scores import Scores

def step(index, steps=10, loss=(1.0,), marked=False, **more):
    values = {"loss": {"loss": torch.tensor(loss)}, "gradient norm": {"referee": torch.tensor([2.0])}}
    defaults = dict(match=None, note="", ending="", views_at_once=4, picture=lambda: torch.zeros(1, 3, 8, 8))
    return SimpleNamespace(index=index, steps=steps, scalars=values, marked=marked, **{**defaults, **more})
"""


@pytest.fixture(scope="module")
def found() -> dict:
    code = """
progress = panel.Progress("12:3", 10, {"workflow": {"id": "mine"}})
progress.update(step(0, match=torch.tensor([0.936]), note="restart in 37", loss=(1.204, 9.0)))
found["status"] = texts[-1]
progress.next_preview = 0
progress.update(step(1, views_at_once=2))
found["less memory"] = texts[-1][1]
progress.next_preview = 0
progress.update(step(9, loss=(float("nan"), float("inf"), 3.0), marked=True))
progress.update(step(9, loss=(float("nan"),)))
scores = Scores([float("nan"), 0.5, 0.7], [{}, {"itm": 0.5}, {"itm": 0.7}], [None, 0.25, 0.9], ["a red circle"])
progress.finish(torch.full((1, 3, 512, 256), 0.5), scores)
found["closing"] = texts[-1]
found["kept"], found["unnamed"] = curves.runs_of("mine"), curves.runs_of("") + curves.runs_of("other")
found["to"] = sorted({sid for _, sid in messages})
json.dumps(messages, allow_nan=False)
found["sent rows"] = sum((data["rows"] for data, _ in messages), [])

texts.clear(), messages.clear()
for given in (None, {}, {"workflow": None}, {"workflow": "made by a script"}, {"workflow": {}}, "text"):
    panel.Progress("1", 10, given).update(step(0))
found["graphs without a name"] = sorted({data["workflow"] for data, _ in messages})
texts.clear(), messages.clear()
called = panel.Progress(None, 10, None)
called.update(step(0))
called.finish(torch.zeros(1, 3, 8, 8), None)
found["called"] = [list(texts), list(messages)]

PromptServer.instance.referee_runs.clear()
run = curves.begin("long", "1", 10000)
for i in range(0, 10000, 25):
    curves.send(run, [{"step": j, "marked": j % 37 == 36, "scalars": {}} for j in range(i, i + 25)])
    assert len(run["rows"]) <= 1000 and run["rows"][-1]["step"] == i + 24
found["long"] = run["rows"]
for i in range(100):
    curves.begin("many", str(i), 1)
found["hours"] = [panel.format_time(s) for s in (5, 65, 3599.6, 7265)]
found["many"] = [r["node"] for r in curves.runs_of("many")]
"""
    return run(STEPS + code)


def test_the_status_line(found):
    node, text = found["status"]
    assert node == "12:3"
    assert text.startswith("step 1/10 · match 0.94 · loss 1.20 · restart in 37 · 0:") and text.endswith(" left")


def test_the_status_line_tells_when_memory_ran_out(found):
    text = found["less memory"]
    assert text.startswith("step 2/10 · loss 1.00 · ") and "memory ran out, 2 views at a time" in text


def test_the_closing_line_is_of_the_best_image(found):
    assert found["closing"] == ["12:3", "done in 0:00 · match 0.25 · loss 0.50 · best of 3: image 2"]


def test_a_run_is_kept_with_rows_status_and_picture(found):
    (kept,) = found["kept"]
    assert {name: kept[name] for name in ("workflow", "node", "steps", "status")} == {
        "workflow": "mine", "node": "12:3", "steps": 10, "status": found["closing"][1]
    }  # fmt: skip
    assert kept["picture"].startswith("data:image/jpeg;base64,") and len(kept["picture"]) < 20_000
    norms = {"gradient norm": {"referee": 2.0}}
    assert kept["rows"] == found["sent rows"] == [
        {"step": 0, "marked": False, "scalars": {"loss": {"loss": 5.102}} | norms},
        {"step": 1, "marked": False, "scalars": {"loss": {"loss": 1.0}} | norms},
        {"step": 9, "marked": True, "scalars": {"loss": {"loss": 3.0}} | norms},
        {"step": 9, "marked": False, "scalars": {"loss": {}} | norms},
    ]  # fmt: skip


def test_runs_go_to_the_page_that_asked_and_to_who_names_the_graph(found):
    assert found["to"] == ["page"] and found["unnamed"] == []


def test_a_graph_without_a_name_and_a_node_called_by_another_node_run(found):
    assert found["graphs without a name"] == [""]
    assert found["called"] == [[], []]


def test_hours_are_told_as_hours(found):
    assert found["hours"] == ["0:05", "1:05", "1:00:00", "2:01:05"]


def test_long_and_many_runs_are_bounded(found):
    steps = [row["step"] for row in found["long"]]
    assert [row["step"] for row in found["long"] if row["marked"]] == list(range(36, 10000, 37))
    plain = [row["step"] for row in found["long"][:-1] if not row["marked"]]
    assert steps == sorted(set(steps)) and steps[-1] == 9999
    gaps = {b - a for a, b in zip(plain, plain[1:], strict=False)}
    assert gaps <= {16, 32}, "evenly thin; a marked one may lie between"
    assert found["many"] == [str(i) for i in range(68, 100)]
