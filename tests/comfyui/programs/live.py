"""Status line, rows and kept runs, from steps made by hand."""

import json
from types import SimpleNamespace

import torch
from server import PromptServer

from pack.nodes.bridge.judging.scores import Scores
from pack.nodes.bridge.show import curves, panel

found = {}

messages, texts = [], []
PromptServer.instance = SimpleNamespace(
    client_id="page",
    send_sync=lambda event, data, sid=None: messages.append((data, sid)),
    send_progress_text=lambda text, node: texts.append((node, text)),
)


def step(index, steps=10, loss=(1.0,), marked=False, **more):
    values = {"loss": {"loss": torch.tensor(loss)}, "gradient norm": {"referee": torch.tensor([2.0])}}
    defaults = dict(match=None, note="", ending="", views_at_once=4, picture=lambda: torch.zeros(1, 3, 8, 8))
    return SimpleNamespace(index=index, steps=steps, scalars=values, marked=marked, **{**defaults, **more})


progress = panel.Progress("12:3", 10, {"workflow": {"id": "mine"}})
progress.update(step(0, match=torch.tensor([0.936]), note="restart in 37", loss=(1.204, 9.0)))
found["status"] = texts[-1]
progress.update(step(1))
progress.update(step(9, loss=(float("nan"), float("inf"), 3.0), marked=True))
progress.update(step(9, loss=(float("nan"),)))
scores = Scores([float("nan"), 0.5, 0.7], [{}, {"itm": 0.5}, {"itm": 0.7}], [None, 0.25, 0.9], ["a red circle"])
progress.finish(torch.full((1, 3, 512, 256), 0.5), scores)
found["closing"] = texts[-1]
found["kept"], found["unnamed"] = curves.runs_of("mine"), curves.runs_of("") + curves.runs_of("other")
found["to"] = sorted({sid for _, sid in messages})
json.dumps(messages, allow_nan=False)
found["sent rows"] = sum((data["rows"] for data, _ in messages), [])

short = panel.Progress("1", 10, {"workflow": {"id": "short of memory"}})
short.update(step(0))
short.update(step(9, views_at_once=2))
found["less memory"] = texts[-1][1]

texts.clear()
messages.clear()
for asked in (None, {}, {"workflow": None}, {"workflow": "made by a script"}, {"workflow": {}}, "text"):
    panel.Progress("1", 10, asked).update(step(0))
found["graphs without a name"] = sorted({data["workflow"] for data, _ in messages})
texts.clear()
messages.clear()
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
