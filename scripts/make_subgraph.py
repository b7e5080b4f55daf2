"""The subgraph "Make this image obey its prompt": the method as one node for a graph that a user already has."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

from .server import PACK
from .workflow import Node, Workflow

NAME = "Make this image obey its prompt"
DESCRIPTION = (
    "Takes the latent of a finished picture, for example KSampler's, and optimises it until the referee agrees with "
    "the prompt, while the same diffusion model keeps it natural. A picture that is right comes out as it came in, and "
    "what comes out is never worse."
)
SOCKETS = {
    "latent": "LATENT",
    "model": "MODEL",
    "positive": "CONDITIONING",
    "negative": "CONDITIONING",
    "vae": "VAE",
    "referee": "REFEREE",
}
FIELDS = {"prompt": "STRING", "steps": "INT", "seed": "INT", "t_max": "INT"}
OUTPUTS = {"latent": "LATENT", "image": "IMAGE", "history": "REFEREE_HISTORY"}
STEPS, IN, OUT = 100, -10, -20
SUBGRAPH = PACK / "subgraphs" / f"{NAME}.json"


def identify(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"referee/subgraph/{text}"))


def boundary(number: int, sockets: dict[str, str], values: dict) -> Node:
    """The inside of the subgraph's edge, as a node. Older frontends take the fields' values from the nodes inside."""
    fields = {name: {"value": value} for name, value in values.items()}
    outputs = [{"name": name, "type": kind, "links": []} | fields.get(name, {}) for name, kind in sockets.items()]
    return Node(id=number, outputs=outputs)


def build(info: dict, judged: Callable, preset: dict, values: dict) -> tuple[Workflow, Node, Node]:
    """The inner graph, its edge, and the node whose outputs leave it."""
    w, edge = Workflow(NAME, info), boundary(IN, SOCKETS | FIELDS, values)
    loss, regularizers = judged(w, edge.out("referee"), edge.out("prompt"), preset)
    pair = {name: edge.out(name) for name in ("model", "positive", "negative", "t_max")}
    strength = {"weight": preset["weight"][0], "weight_end": preset["weight"][1], "cfg": preset["cfg"]}
    prior = w.add("RefereeSDSGuidance", "The prior: keeps it natural", **pair, **strength)
    inputs = {
        "vae": edge.out("vae"),
        "latent_image": edge.out("latent"),
        "seed": edge.out("seed"),
        "steps": edge.out("steps"),
        "stop_at": 0.9,
        "result": "best of start and run",
    }
    optimizer = w.add("RefereeOptimizer", loss=loss, prior=prior, **inputs, **regularizers, **preset["loop"])
    w.place("", [loss, prior], list(regularizers.values()), [optimizer])
    return w, edge, optimizer


def target_of(links: list[dict], edge: Node, name: str, nodes: list[Node]) -> list[str]:
    """The field inside that a field of the subgraph is: [its node, its name]. Without it frontends lose the value."""
    (number,) = edge["outputs"][edge.out(name)[1]]["links"]
    (link,) = (link for link in links if link["id"] == number)
    (node,) = (node for node in nodes if node["id"] == link["target_id"])
    return [str(node["id"]), node["inputs"][link["target_slot"]]["widget"]["name"]]


def make_subgraph(info: dict, path: Path, judged: Callable, preset: dict) -> None:
    """Write the subgraph's file. ``judged`` and ``preset`` are the example graphs' own (graphs/parts.py)."""
    values = {"prompt": "", "steps": STEPS, "seed": 0, "t_max": preset["t_max"]}
    w, edge, optimizer = build(info, judged, preset, values)
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(keys, link, strict=True)) for link in w.links]
    proxies = [target_of(links, edge, name, w.nodes) for name in FIELDS]
    leaving = []
    for slot, (name, kind) in enumerate(OUTPUTS.items()):
        number = len(links) + 1
        place = [o["name"] for o in optimizer["outputs"]].index(name)
        optimizer["outputs"][place]["links"].append(number)
        links.append(dict(zip(keys, (number, optimizer["id"], place, OUT, slot, kind), strict=True)))
        leaving.append(
            {
                "id": identify(f"out/{name}"),
                "name": name,
                "type": kind,
                "linkIds": [number],
                "pos": [w.right + 100, 20 * slot],
            }
        )
    entering = [
        {
            "id": identify(f"in/{o['name']}"),
            "name": o["name"],
            "type": o["type"],
            "linkIds": o["links"],
            "pos": [-100, 20 * i],
        }
        for i, o in enumerate(edge["outputs"])
    ]
    definition = {
        "id": identify(NAME), "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": len(w.nodes), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0, "config": {}, "name": NAME,
        "inputNode": {"id": IN, "bounding": [-220, -20, 120, 20 * len(entering) + 40]},
        "outputNode": {"id": OUT, "bounding": [w.right + 80, -20, 120, 20 * len(leaving) + 40]},
        "inputs": entering, "outputs": leaving, "widgets": [], "nodes": w.nodes, "groups": [], "links": links,
        "extra": {"workflowRendererVersion": "LG"}, "category": "referee", "description": DESCRIPTION,
    }  # fmt: skip
    inputs = [{"name": name, "type": kind, "link": None} for name, kind in SOCKETS.items()]
    inputs += [{"name": name, "type": kind, "widget": {"name": name}, "link": None} for name, kind in FIELDS.items()]
    outside = {
        "id": 1, "type": definition["id"], "pos": [0, 0], "size": [400, 420], "flags": {}, "order": 0, "mode": 0,
        "inputs": inputs,
        "outputs": [{"name": name, "type": kind, "links": None} for name, kind in OUTPUTS.items()],
        "title": NAME,
        "properties": {"proxyWidgets": proxies, "cnr_id": "referee", "ver": "0.1.0"},
        "widgets_values": list(values.values()),
    }  # fmt: skip
    file = {
        "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [outside], "links": [], "version": 0.4,
        "definitions": {"subgraphs": [definition]}, "extra": {},
    }  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(file, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(w.nodes)} nodes")


def behind_ksampler(info: dict, **fields) -> dict:
    """A graph on the small models with the subgraph, with these values, behind its KSampler."""
    w = Workflow("behind KSampler", info)
    models = w.add("RefereeDemoModels")
    positive, negative = (w.add("CLIPTextEncode", clip=models.out("clip"), text=t) for t in (fields["prompt"], ""))
    latent = w.add("EmptyLatentImage", width=128, height=128)
    pair = {"model": models, "positive": positive, "negative": negative}
    sampled = w.add("KSampler", **pair, latent_image=latent, steps=25, cfg=5.0)
    save = w.add("SaveImage", filename_prefix="obeyed")
    w.place("", [models, latent], [positive, negative], [sampled])
    subgraph = json.loads(SUBGRAPH.read_text(encoding="utf-8"))
    (node,) = subgraph["nodes"]
    values = dict(zip(FIELDS, node["widgets_values"], strict=True))
    if fields.keys() - values.keys():
        raise KeyError(f"the subgraph has no field {', '.join(fields.keys() - values.keys())}")
    node.update(id=len(w.nodes) + 1, pos=[w.right + 80, 0], widgets_values=list((values | fields).values()))
    sources = pair | {"latent": sampled, "vae": models.out("vae"), "referee": models.out("referee")}
    for slot, entry in enumerate(node["inputs"]):
        if entry["name"] in sources:
            entry["link"] = w.link(sources[entry["name"]], node, slot)
    image = list(OUTPUTS).index("image")
    node["outputs"][image]["links"] = []
    save["pos"], save["inputs"][0]["link"] = [w.right + 560, 0], w.link((node, image), save, 0)
    w.nodes.append(node)
    return json.loads(w.text()) | {"definitions": subgraph["definitions"]}
