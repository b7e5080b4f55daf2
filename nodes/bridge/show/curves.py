"""What a node shows of its run: sent to the browser, and kept for a page that is loaded again.

A run is {"workflow": the graph's id, "node": the node's path ("12:3" inside a subgraph), "steps": in all, "rows",
"status": one line, "picture": a small JPEG as a data URL, "running"}. A row is
{"step", "marked", "scalars": {group: {name: number}}}.

The worker's thread writes runs, the server's thread reads them and takes the user's wish to finish one.
"""

import logging
from pathlib import Path
from threading import Lock
from typing import Any

EVENT = "referee.steps"
CURVES, FINISH = "/referee/curves", "/referee/finish"
MOST_RUNS, MOST_ROWS = 32, 1000
HERE = str(Path(__file__).absolute().parents[3])

_lock = Lock()


def server() -> Any:
    """ComfyUI's server, or None in a script that only imports the nodes."""
    from server import PromptServer

    return getattr(PromptServer, "instance", None)


def _kept() -> dict[tuple[str, str], dict]:
    """The latest run of each node, by workflow and node; one dictionary for all copies of the pack in a process."""
    found = server()
    return {} if found is None else vars(found).setdefault("referee_runs", {})


def serve() -> None:
    """Answer GET /referee/curves?workflow=ID with the runs of that graph, and POST /referee/finish with whether a run
    was asked to finish. Once a process: the pack may be installed twice. A server without routes has neither."""
    found = server()
    routes = getattr(found, "routes", None)
    if routes is None:
        return
    if hasattr(found, "referee_home"):
        logging.warning("[Referee] The pack is installed twice: %s and %s. Remove one.", found.referee_home, HERE)
        return
    found.referee_home = HERE
    from aiohttp import web

    @routes.get(CURVES)
    async def curves(request):
        return web.json_response(runs_of(request.query.get("workflow", "")))

    @routes.post(FINISH)
    async def finish(request):
        wanted = await request.json()
        return web.json_response(finish_run(str(wanted.get("workflow", "")), str(wanted.get("node", ""))))


def runs_of(workflow: str) -> list[dict]:
    """The kept runs of a graph; none without its id."""
    with _lock:
        return [dict(run) for run in _kept().values() if workflow and run["workflow"] == workflow]


def finish_run(workflow: str, node: str) -> bool:
    """Ask a run to end and to give out the best so far; whether there is such a run."""
    with _lock:
        run = _kept().get((workflow, node))
        if run is None or not run["running"]:
            return False
        run["finish"] = True
        return True


def workflow_id(extra_pnginfo: Any) -> str:
    """The id of the graph that was queued; "" if whoever queued it named none."""
    workflow = extra_pnginfo.get("workflow") if isinstance(extra_pnginfo, dict) else None
    return str(workflow.get("id") or "") if isinstance(workflow, dict) else ""


def begin(workflow: str, node: str, steps: int) -> dict:
    """A node starts a run in place of its last one; the oldest are forgotten. Returns the run, for ``send``."""
    run = {"workflow": workflow, "node": node, "steps": steps, "rows": [], "status": "", "picture": ""}
    run |= {"running": True, "finish": False}
    with _lock:
        kept = _kept()
        kept.pop((workflow, node), None)
        while len(kept) >= MOST_RUNS:
            kept.pop(next(iter(kept)))
        kept[workflow, node] = run
        message = dict(run)
    _send(message)
    return run


def send(run: dict, rows: list[dict], **news: str | bool) -> None:
    """Add rows to a run, and a new ``status``, ``picture`` or ``running``; only what is new travels."""
    with _lock:
        run["rows"] = thin(run["rows"] + rows)
        run.update(news)
    _send({**{name: run[name] for name in ("workflow", "node", "steps")}, "rows": rows, **news})


def _send(message: dict) -> None:
    """To the page that queued the run, like ComfyUI's own progress."""
    found = server()
    if found is not None:
        found.send_sync(EVENT, message, found.client_id)


def thin(rows: list[dict]) -> list[dict]:
    """At most MOST_ROWS rows: of the unmarked ones only every 2nd, 4th, 8th ... step; the last one stays."""
    if not rows:
        return rows
    marked, span = sum(row["marked"] for row in rows), rows[-1]["step"] - rows[0]["step"]
    every = 1
    while marked + span // every + 2 > MOST_ROWS and every <= span:
        every *= 2
    kept = [row for row in rows[:-1] if row["marked"] or row["step"] % every == 0]
    return [*kept, rows[-1]][-MOST_ROWS:]
