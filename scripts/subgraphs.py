"""The subgraphs: a method as one node for a graph that a user already has."""

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .flatten import IN, KEYS, OUT
from .graphs.parts import EDIT, judged
from .server import PACK
from .workflow import Node, Workflow

Leaving = dict[str, tuple[Node, int]]


@dataclass(frozen=True)
class Subgraph:
    """One node made of several.

    Attributes:
        sockets: their types by name. fields: type and value of each by name.
        outputs: their types by name. build: the inner graph, from its edge; gives what leaves it.
    """

    name: str
    description: str
    sockets: dict[str, str]
    fields: dict[str, tuple[str, str | int | float]]
    outputs: dict[str, str]
    build: Callable[[Workflow, Node], Leaving]

    @property
    def path(self) -> Path:
        return PACK / "subgraphs" / f"{self.name}.json"

    def identify(self, text: str) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"referee/subgraph/{text}"))

    def put_into(self, w: Workflow, **given) -> Node:
        """The node of it in a graph; ``given`` are its sockets and fields, as for ``Workflow.add``."""
        return w.insert(json.loads(self.path.read_text(encoding="utf-8")), **given)

    def write(self, info: dict) -> None:
        w = Workflow(self.name, info, first=101)  # the editor renumbers nodes inside that are numbered as outside
        edge = self._edge()
        leaving = self.build(w, edge)
        links = [dict(zip(KEYS, link, strict=True)) for link in w.links]
        proxies = [_target_of(links, edge, name, w.nodes) for name in self.fields]
        outputs = []
        for slot, (name, kind) in enumerate(self.outputs.items()):
            (node, place), number = leaving[name], len(links) + 1
            node["outputs"][place]["links"].append(number)
            links.append(dict(zip(KEYS, (number, node["id"], place, OUT, slot, kind), strict=True)))
            outputs.append(self._entry("out", name, kind, [number], [w.right + 100, 20 * slot]))
        inputs = [
            self._entry("in", o["name"], o["type"], o["links"], [-100, 20 * i]) for i, o in enumerate(edge["outputs"])
        ]
        definition = {
            "id": self.identify(self.name), "version": 1,
            "state": {"lastGroupId": 0, "lastNodeId": w.nodes[-1]["id"], "lastLinkId": len(links), "lastRerouteId": 0},
            "revision": 0, "config": {}, "name": self.name,
            "inputNode": {"id": IN, "bounding": [-220, -20, 120, 20 * len(inputs) + 40]},
            "outputNode": {"id": OUT, "bounding": [w.right + 80, -20, 120, 20 * len(outputs) + 40]},
            "inputs": inputs, "outputs": outputs, "widgets": [], "nodes": w.nodes, "groups": [], "links": links,
            "extra": {"workflowRendererVersion": "LG"}, "category": "referee", "description": self.description,
        }  # fmt: skip
        sockets = [{"name": name, "type": kind, "link": None} for name, kind in self.sockets.items()]
        sockets += [
            {"name": name, "type": kind, "widget": {"name": name}, "link": None}
            for name, (kind, _) in self.fields.items()
        ]
        outside = {
            "id": 1, "type": definition["id"], "pos": [0, 0], "size": [400, 420], "flags": {}, "order": 0, "mode": 0,
            "inputs": sockets,
            "outputs": [{"name": name, "type": kind, "links": None} for name, kind in self.outputs.items()],
            "title": self.name,
            "properties": {"proxyWidgets": proxies, "cnr_id": "referee", "ver": "0.1.0"},
            "widgets_values": [value for _, value in self.fields.values()],
        }  # fmt: skip
        file = {
            "revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [outside], "links": [], "version": 0.4,
            "definitions": {"subgraphs": [definition]}, "extra": {},
        }  # fmt: skip
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(file, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{self.path.name}: {len(w.nodes)} nodes")

    def _edge(self) -> Node:
        """The inside of the subgraph's edge, as a node. Older frontends take the fields' values from the nodes
        inside."""
        outputs = [{"name": name, "type": kind, "links": []} for name, kind in self.sockets.items()]
        outputs += [
            {"name": name, "type": kind, "links": [], "value": value} for name, (kind, value) in self.fields.items()
        ]
        return Node(id=IN, outputs=outputs)

    def _entry(self, side: str, name: str, kind: str, links: list, place: list) -> dict:
        return {
            "id": self.identify(f"{self.name}/{side}/{name}"),
            "name": name,
            "type": kind,
            "linkIds": links,
            "pos": place,
        }


def _target_of(links: list[dict], edge: Node, name: str, nodes: list[Node]) -> list[str]:
    """The field inside that a field of the subgraph is: [its node, its name]. Without it frontends lose the value."""
    number = edge["outputs"][edge.out(name)[1]]["links"][0]
    (link,) = (link for link in links if link["id"] == number)
    (node,) = (node for node in nodes if node["id"] == link["target_id"])
    return [str(node["id"]), node["inputs"][link["target_slot"]]["widget"]["name"]]


def _obey(w: Workflow, edge: Node) -> Leaving:
    loss, regularizers = judged(w, edge.out("referee"), edge.out("prompt"), EDIT)
    pair = {name: edge.out(name) for name in ("model", "positive", "negative", "t_max")}
    strength = {"weight": EDIT["weight"][0], "weight_end": EDIT["weight"][1], "cfg": EDIT["cfg"]}
    prior = w.add("RefereeSDSGuidance", "The prior: keeps it natural", **pair, **strength)
    inputs = {
        "vae": edge.out("vae"),
        "latent_image": edge.out("latent"),
        "seed": edge.out("seed"),
        "steps": edge.out("steps"),
        "stop_at": 0.9,
        "result": "best of start and run",
    }
    optimizer = w.add("RefereeOptimizer", loss=loss, prior=prior, **inputs, **regularizers, **EDIT["loop"])
    w.place("", [loss, prior], list(regularizers.values()), [optimizer])
    return {name: optimizer.out(name) for name in ("latent", "image", "history")}


def _search(w: Workflow, edge: Node) -> Leaving:
    pair = {name: edge.out(name) for name in ("model", "positive", "negative", "cfg")}
    guider = w.add("CFGGuider", **pair)
    sampler = w.add("KSamplerSelect", sampler_name=edge.out("sampler_name"))
    plan = {name: edge.out(name) for name in ("model", "scheduler", "steps", "denoise")}
    sigmas = w.add("BasicScheduler", **plan)
    loss = w.add("RefereeLoss", referee=edge.out("referee"), text=edge.out("prompt"), caption_weight=0.0)
    rest = {"latent_image": edge.out("latent"), "vae": edge.out("vae"), "loss": loss}
    rest |= {name: edge.out(name) for name in ("seed", "attempts", "stop_at")}
    found = w.add("RefereeSearch", guider=guider, sampler=sampler, sigmas=sigmas, **rest)
    w.place("", [guider, sampler, sigmas, loss], [found])
    return {name: found.out(name) for name in ("latent", "image", "report")}


def _restore(w: Workflow, edge: Node) -> Leaving:
    given = {name: edge.out(name) for name in ("measurement", "measured")}
    sampler = w.add("RefereeInverseSampler", vae=edge.out("vae"), **given)
    guider = w.add("BasicGuider", model=edge.out("model"), conditioning=edge.out("prompt"))
    plan = {name: edge.out(name) for name in ("model", "steps", "denoise")}
    sigmas = w.add("BasicScheduler", scheduler="normal", **plan)
    noise = w.add("RandomNoise", noise_seed=edge.out("seed"))
    parts = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas}
    made = w.add("SamplerCustomAdvanced", latent_image=sampler.out("latent"), **parts)
    decoded = w.add("VAEDecode", samples=made, vae=edge.out("vae"))
    proof = w.add("RefereeResidual", images=decoded, **given)
    w.place("", [sampler], [guider, sigmas, noise], [made, decoded], [proof])
    return {"image": (proof, 0), "residual": proof.out("residual"), "report": proof.out("report")}


SAMPLES = {
    "latent": "LATENT",
    "model": "MODEL",
    "positive": "CONDITIONING",
    "negative": "CONDITIONING",
    "vae": "VAE",
    "referee": "REFEREE",
}
OBEY = Subgraph(
    "Make this image obey its prompt",
    "Takes the latent of a finished picture, for example KSampler's, and optimises it until the referee agrees with "
    "the prompt, while the same diffusion model keeps it natural. A picture that is right comes out as it came in, and "
    "what comes out is never worse.",
    SAMPLES,
    {"prompt": ("STRING", ""), "steps": ("INT", 100), "seed": ("INT", 0), "t_max": ("INT", EDIT["t_max"])},
    {"latent": "LATENT", "image": "IMAGE", "history": "REFEREE_HISTORY"},
    _obey,
)
SEARCH = Subgraph(
    "Search until it obeys",
    "In place of KSampler: samples seed after seed until the referee sees what the prompt says, and gives out that "
    "picture, or the best one.",
    SAMPLES,
    {
        "prompt": ("STRING", ""),
        "seed": ("INT", 0),
        "steps": ("INT", 20),
        "cfg": ("FLOAT", 7.0),
        "sampler_name": ("COMBO", "euler"),
        "scheduler": ("COMBO", "normal"),
        "denoise": ("FLOAT", 1.0),
        "attempts": ("INT", 8),
        "stop_at": ("FLOAT", 0.9),
    },
    {"latent": "LATENT", "image": "IMAGE", "report": "STRING"},
    _search,
)
RESTORE = Subgraph(
    "Precise restore",
    "Restores a small, blurred or cut picture so that measuring the result gives your picture again, and shows what is "
    "left of the difference.",
    {
        "measured": "IMAGE",
        "measurement": "REFEREE_MEASUREMENT",
        "model": "MODEL",
        "prompt": "CONDITIONING",
        "vae": "VAE",
    },
    {"seed": ("INT", 0), "steps": ("INT", 50), "denoise": ("FLOAT", 0.5)},
    {"image": "IMAGE", "residual": "IMAGE", "report": "STRING"},
    _restore,
)
SUBGRAPHS = (OBEY, SEARCH, RESTORE)


def with_subgraph(w: Workflow, subgraph: Subgraph, given: dict, shown: str) -> dict:
    """A graph with a subgraph at its right, which is given sockets and fields by name; one output is saved."""
    node = subgraph.put_into(w, **given)
    w.place("", [node], [w.add("SaveImage", images=node.out(shown), filename_prefix="obeyed")])
    return json.loads(w.text())


def behind_ksampler(info: dict, **fields) -> dict:
    """A graph on the small models with the subgraph that corrects, with these values, behind its KSampler."""
    w = Workflow("behind KSampler", info)
    models = w.add("RefereeDemoModels")
    positive, negative = (w.add("CLIPTextEncode", clip=models.out("clip"), text=t) for t in (fields["prompt"], ""))
    latent = w.add("EmptyLatentImage", width=128, height=128)
    pair = {"model": models, "positive": positive, "negative": negative}
    sampled = w.add("KSampler", **pair, latent_image=latent, steps=25, cfg=5.0)
    w.place("", [models, latent], [positive, negative], [sampled])
    sources = pair | {"latent": sampled, "vae": models.out("vae"), "referee": models.out("referee")}
    return with_subgraph(w, OBEY, sources | fields, "image")


def in_place_of_ksampler(info: dict, **fields) -> dict:
    """A graph on the small models with the subgraph that searches where KSampler would be."""
    w = Workflow("in place of KSampler", info)
    models = w.add("RefereeDemoModels")
    positive, negative = (w.add("CLIPTextEncode", clip=models.out("clip"), text=t) for t in (fields["prompt"], ""))
    latent = w.add("EmptyLatentImage", width=128, height=128)
    w.place("", [models, latent], [positive, negative])
    sources = {"model": models, "positive": positive, "negative": negative, "latent": latent}
    sources |= {"vae": models.out("vae"), "referee": models.out("referee")}
    return with_subgraph(w, SEARCH, sources | fields, "image")


def restored(info: dict, **fields) -> dict:
    """A graph on the small models that shrinks a picture, and the subgraph that restores it."""
    w = Workflow("restored", info)
    models = w.add("RefereeDemoModels")
    prompt = w.add("CLIPTextEncode", clip=models.out("clip"))
    picture = w.add("EmptyImage", width=128, height=128, color=0x3070B0)
    measurement = w.add("RefereeMeasurement", kind="super-resolution")
    measured = w.add("RefereeDegrade", images=picture, measurement=measurement)
    w.place("", [models, picture], [prompt, measurement], [measured])
    sources = {"measured": measured, "measurement": measurement, "model": models, "prompt": prompt}
    return with_subgraph(w, RESTORE, sources | {"vae": models.out("vae")} | fields, "image")
