"""The nodes of a graph in the UI's format, those inside its subgraphs as well."""

from collections.abc import Iterator
from typing import Any

IN, OUT = -10, -20
"""Ids of a subgraph's edges: links inside come from the first, and leave by the second."""
KEYS = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def nodes_of(workflow: dict) -> Iterator[tuple[str, dict, dict[int, Any]]]:
    """(id, node, what each link of its graph brings) of all nodes; one inside a subgraph has the id "outer:inner".

    A link brings [id of a node, number of its output], or the value that a subgraph's field has.
    """
    inside = {subgraph["id"]: subgraph for subgraph in workflow.get("definitions", {}).get("subgraphs", [])}
    links = [dict(zip(KEYS, link, strict=True)) for link in workflow["links"]]
    yield from _walk(workflow | {"links": links}, inside, "", [])


def _walk(graph: dict, inside: dict, prefix: str, entering: list) -> Iterator[tuple[str, dict, dict[int, Any]]]:
    """entering: what comes in by each slot of the edge; None where nothing does."""
    kinds = {node["id"]: node["type"] for node in graph["nodes"]}
    brought = {}
    for link in graph["links"]:
        origin, slot = link["origin_id"], link["origin_slot"]
        what = entering[slot] if origin == IN else _source(kinds[origin], inside, f"{prefix}{origin}", slot)
        brought[link["id"]] = what
    for node in graph["nodes"]:
        if node["type"] in inside:
            values = iter(node["widgets_values"])
            fields = [next(values) if "widget" in slot else None for slot in node["inputs"]]
            given = [brought.get(slot["link"], field) for slot, field in zip(node["inputs"], fields, strict=True)]
            yield from _walk(inside[node["type"]], inside, f"{prefix}{node['id']}:", given)
        else:
            yield f"{prefix}{node['id']}", node, {link: what for link, what in brought.items() if what is not None}


def _source(kind: str, inside: dict, number: str, slot: int) -> list:
    """[id, output] of the node behind an output; a subgraph's output is that of a node inside."""
    if kind not in inside:
        return [number, slot]
    links = inside[kind]["links"]
    (last,) = (link for link in links if (link["target_id"], link["target_slot"]) == (OUT, slot))
    kinds = {node["id"]: node["type"] for node in inside[kind]["nodes"]}
    origin = last["origin_id"]
    return _source(kinds[origin], inside, f"{number}:{origin}", last["origin_slot"])
