"""The numbers of the live chart: sent while a run goes on, and kept for pages that are opened or reloaded later."""

from server import PromptServer

EVENT = "referee.steps"
ROUTE = "/referee/curves"
MOST_RUNS = 32

curves: dict[str, dict] = {}
"""By node id, the latest run: {"steps": in all, "rows": as in ``send``}."""


def serve() -> None:
    """Let the browser ask for the numbers that it has missed. A server without such routes shows no chart."""
    routes = getattr(getattr(PromptServer, "instance", None), "routes", None)
    if routes is None:
        return
    from aiohttp import web

    @routes.get(ROUTE)
    async def get(request):
        return web.json_response(curves)


def begin(node_id: str, steps: int) -> None:
    """A node starts a run; the oldest ones are forgotten."""
    curves.pop(node_id, None)
    while len(curves) >= MOST_RUNS:
        curves.pop(next(iter(curves)))
    curves[node_id] = {"steps": steps, "rows": []}
    send(node_id, steps, [])


def send(node_id: str, steps: int, rows: list[dict]) -> None:
    """New rows {"step", "restart", "values": {name: number}}; none of them at the start of a run."""
    curves[node_id]["rows"] += rows
    PromptServer.instance.send_sync(EVENT, {"node": node_id, "steps": steps, "rows": rows})
