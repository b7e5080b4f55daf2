"""What a node shows of its run: sent to the browser, and kept for a page that is loaded again.

A run is {"workflow": the graph's id, "node": the node's path ("12:3" inside a subgraph), "steps": in all, "rows",
"status": one line, "picture": a small JPEG as a data URL}. A row is
{"step", "marked", "scalars": {group: {name: number}}}.
"""

from typing import Any

from server import PromptServer

EVENT = "referee.steps"
ROUTE = "/referee/curves"
MOST_RUNS, MOST_ROWS = 32, 1000

_runs: dict[tuple[str, str], dict] = {}  # the latest of each node, by workflow and node


def serve() -> None:
    """Answer GET /referee/curves?workflow=ID with the runs of that graph. A server without routes has no charts."""
    routes = getattr(getattr(PromptServer, "instance", None), "routes", None)
    if routes is None:
        return
    from aiohttp import web

    @routes.get(ROUTE)
    async def get(request):
        return web.json_response(runs_of(request.query.get("workflow", "")))


def runs_of(workflow: str) -> list[dict]:
    """The kept runs of a graph; none without its id."""
    return [run for run in _runs.values() if workflow and run["workflow"] == workflow]


def workflow_id(extra_pnginfo: Any) -> str:
    """The id of the graph that was queued; "" if whoever queued it named none."""
    workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, dict) else None
    return str(workflow.get("id") or "") if isinstance(workflow, dict) else ""


def begin(workflow: str, node: str, steps: int) -> dict:
    """A node starts a run in place of its last one; the oldest are forgotten. Returns the run, for ``send``."""
    run = {"workflow": workflow, "node": node, "steps": steps, "rows": [], "status": "", "picture": ""}
    _runs.pop((workflow, node), None)
    while len(_runs) >= MOST_RUNS:
        _runs.pop(next(iter(_runs)))
    _runs[workflow, node] = run
    _send(dict(run))
    return run


def send(run: dict, rows: list[dict], **news: str) -> None:
    """Add rows to a run, and a new ``status`` or ``picture``; only what is new travels."""
    run["rows"] = thinned(run["rows"] + rows)
    run.update(news)
    _send({**{name: run[name] for name in ("workflow", "node", "steps")}, "rows": rows, **news})


def _send(message: dict) -> None:
    """To the page that queued the run, like ComfyUI's own progress."""
    PromptServer.instance.send_sync(EVENT, message, PromptServer.instance.client_id)


def thinned(rows: list[dict]) -> list[dict]:
    """At most MOST_ROWS rows: of the unmarked ones only every 2nd, 4th, 8th ... step; the last one stays."""
    if not rows:
        return rows
    marked, span = sum(row["marked"] for row in rows), rows[-1]["step"] - rows[0]["step"]
    every = 1
    while marked + span // every + 2 > MOST_ROWS and every <= span:
        every *= 2
    kept = [row for row in rows[:-1] if row["marked"] or row["step"] % every == 0]
    return [*kept, rows[-1]][-MOST_ROWS:]
