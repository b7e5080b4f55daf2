"""The numbers of the live chart: sent while a run goes on, and kept for pages that are opened or reloaded later."""

from server import PromptServer

EVENT = "referee.steps"
ROUTE = "/referee/curves"
MOST_RUNS = 32

curves: dict[str, dict] = {}
"""The latest run of each node, by "workflow|node": {"workflow", "node", "steps": in all, "rows": as in ``send``}."""


def serve() -> None:
    """Let the browser ask for the numbers that it has missed. A server without such routes shows no chart."""
    routes = getattr(getattr(PromptServer, "instance", None), "routes", None)
    if routes is None:
        return
    from aiohttp import web

    @routes.get(ROUTE)
    async def get(request):
        return web.json_response(list(curves.values()))


def begin(workflow: str, node: str, steps: int) -> dict:
    """A node starts a run; the oldest ones are forgotten. ``workflow`` is the graph's id, "" if nobody knows it.

    Returns: the run, for ``send``.
    """
    key = f"{workflow}|{node}"
    curves.pop(key, None)
    while len(curves) >= MOST_RUNS:
        curves.pop(next(iter(curves)))
    curves[key] = {"workflow": workflow, "node": node, "steps": steps, "rows": []}
    send(curves[key], [])
    return curves[key]


def send(run: dict, rows: list[dict]) -> None:
    """New rows {"step", "restart", "values": {name: number}}; none of them at the start of a run."""
    run["rows"] += rows
    PromptServer.instance.send_sync(EVENT, run | {"rows": rows})
