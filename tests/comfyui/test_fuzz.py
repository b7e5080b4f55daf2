"""Any values in the nodes' inputs: the server answers with a message or a result, and nothing is left behind."""

import math
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyui.conftest import CUSTOM, Demo
from scripts.server import PromptError

NODES = (
    "RefereeLoss", "RefereeAugmentation", "RefereeEMARestart", "RefereeSDSGuidance", "RefereeOptimizer", "RefereeScore",
    "RefereeGuidance", "RefereeRounds", "RefereeSearch",
)  # fmt: skip
STRENGTH = {"strength": "relative", "strength__share": 0.1, "start_percent": 0.0, "end_percent": 0.7}
RAW = re.compile("mat1|size of tensor|size mismatch|shape .* is invalid|index out of range|NoneType")
SMALL = {
    "attempts": 2,
    "steps": 2,
    "rounds": 2,
    "count": 3,
    "views_at_once": 3,
    "width": 256,
}  # larger values are only slow
BAD = st.sampled_from([None, "", "x", -1, 1e30, math.nan, [], {}, True, "1, 2", 2**70])


def values_for(kind, options: dict, name: str):
    """Values inside an input's range, and others."""
    most = SMALL.get(name.split("__")[-1].split(".")[-1], options.get("max", 100))
    if kind == "INT":
        inside = st.integers(options.get("min", 0), int(most))
    elif kind == "FLOAT":
        inside = st.floats(options.get("min", 0.0), float(most))
    elif kind == "BOOLEAN":
        inside = st.booleans()
    elif kind == "STRING":
        inside = st.text(max_size=60)
    else:
        inside = st.sampled_from([o for o in options.get("options", [""]) if isinstance(o, str)] or [""])
    return st.one_of(inside, inside, inside, BAD)


def both() -> Demo:
    """The optimizer, Score Images that judges what it has made, rounds of a guided model, and a search."""
    graph = Demo()
    image = graph.optimise(steps=2)[1]
    graph.add("PreviewAny", source=graph.add("RefereeScore", images=image, loss=graph.loss, keep=0)[4])
    seen = {"vae": graph.vae, "loss": graph.loss, "augmentation": graph.augmentation, **STRENGTH}
    model = graph.add("RefereeGuidance", model=graph.model, gradient="prediction", gradient__steps=1, **seen)[0]
    euler = graph.add("KSamplerSelect", sampler_name="euler")[0]
    sampler = graph.add(
        "RefereeRounds", sampler=euler, rounds=1, delta=1.0, gradient="prediction", stop_at=0.0, **seen
    )[0]
    guider = graph.add("CFGGuider", model=model, positive=graph.positive, negative=graph.negative, cfg=2.0)[0]
    sigmas = graph.add("BasicScheduler", model=model, scheduler="normal", steps=2, denoise=1.0)[0]
    noise = graph.add("RandomNoise", noise_seed=1)[0]
    inputs = {"guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": graph.latent}
    graph.save(graph.add("SamplerCustomAdvanced", noise=noise, **inputs)[0], "rounds")
    found = graph.add(
        "RefereeSearch", vae=graph.vae, loss=graph.loss, augmentation=graph.augmentation, seed=1, attempts=2,
        stop_at=0.9, keep=1, prune_at=0.0, at_once=0, **inputs | {"sampler": euler},
    )[0]  # fmt: skip
    graph.save(found, "search")
    return graph


@pytest.fixture(scope="module")
def strategies(server):
    """For each node of the demo's graph, a strategy of changes to its fields."""
    info = server.get("/object_info")
    found = {}
    for node in NODES:
        fields = {}
        for group in ("required", "optional"):
            for name, (kind, *options) in info[node]["input"].get(group, {}).items():
                options = options[0] if options else {}
                if isinstance(kind, list):
                    kind, options = "COMBO", {"options": kind}
                if kind in ("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"):
                    fields[name] = values_for(kind, options, name)
        if node == "RefereeAugmentation":
            fields = {k: values_for("FLOAT", {"min": 0.0, "max": 1.0}, k) for k in CUSTOM if k != "preset"}
        names = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)
        found[node] = names.flatmap(lambda chosen, fields=fields: st.fixed_dictionaries({n: fields[n] for n in chosen}))
    return found


def test_any_input_gets_a_message_or_a_result(server, strategies, latents):
    plain = both()
    before = latents(plain)["run"]

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries(strategies))
    def play(changes):
        graph = both()
        for node in graph.values():
            fields = changes.get(node["class_type"], {})
            node["inputs"] |= {name.replace("__", "."): value for name, value in fields.items()}
        try:
            server.run(graph, seconds=90)
        except PromptError as error:
            text = str(error)
            assert "answered 500" not in text
            assert len(text) > 15 and "interrupted" not in text
            kind = error.details.get("exception_type", "")
            assert kind in ("", "ValueError", "RuntimeError"), f"{kind}: {text}"
            assert not (kind and RAW.search(text)), text  # before a run ComfyUI itself has such words
        assert server.process.poll() is None

    play()
    assert torch.equal(latents(plain)["run"], before)
