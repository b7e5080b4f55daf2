"""The example graphs: complete, handed out and understood by the server; the demos run as a user would run them."""

import io
import json
import re
import urllib.request
from itertools import combinations
from urllib.parse import quote

import pytest
from PIL import Image

from comfyui.conftest import watch
from scripts import workflow_notes as notes
from scripts.demo import RESULTS, SHEETS, demo_graph, judged, run_demo
from scripts.graphs.parts import PLAIN
from scripts.make_workflows import GRAPHS
from scripts.server import PACK, PromptError
from scripts.workflow import NOTES, to_api

FILES = sorted((PACK / "workflows").glob("*.json"))
MISSING = {"ckpt_name", "referee_name", "unet_name", "clip_name", "clip_name1", "clip_name2", "vae_name"}
LOADERS = {
    "CheckpointLoaderSimple": "checkpoints", "RefereeLoader": "referee", "UNETLoader": "diffusion_models",
    "CLIPLoader": "text_encoders", "DualCLIPLoader": "text_encoders", "VAELoader": "vae",
}  # fmt: skip
PLAYED_BY = {  # outputs of the demo's loader that stand in for those of a file
    "CheckpointLoaderSimple": (0, 1, 2), "UNETLoader": (0,), "CLIPLoader": (1,), "DualCLIPLoader": (1,),
    "VAELoader": (2,), "RefereeLoader": (3,), "RefereeFromVLM": (3,),
}  # fmt: skip
SEARCHES = (notes.SEARCH_SD15, notes.SEARCH_SDXL, notes.SEARCH_FLUX)
ASKED = (notes.ASKED_SDXL, notes.ASKED_Z_IMAGE, notes.ASKED_KREA)
RESTORED = (notes.UPSCALE_SD15, notes.INPAINT_SD15, notes.DEBLUR_SD15)
GUIDED = (notes.GUIDED_SD15, notes.GUIDED_FLUX, notes.GUIDED_SDXL, notes.GUIDED_QWEN)
each = pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def api(path, object_info) -> dict:
    return to_api(read(path), object_info)


def test_the_folder_holds_each_graph_with_its_picture_and_nothing_else():
    names = {path.name for path in (PACK / "workflows").iterdir()}
    assert names == {name + suffix for name in GRAPHS for suffix in (".json", ".jpg")}


@each
def test_names_are_safe_in_file_systems_and_addresses(path):
    assert re.fullmatch(r"Referee - \d+ [A-Za-z0-9 .,()-]+", path.stem) and len(path.name) < 100


@pytest.mark.parametrize(
    "words, names",
    [
        ("quick demo", [notes.QUICK]),
        ("best of", [notes.BEST]),
        ("until it obeys", [notes.SEARCH]),
        ("side by side", [notes.COMPARISON]),
        ("paper", [notes.PAPER]),
        ("blip-2", [notes.PAPER, notes.SAMPLER, notes.EDIT, *GUIDED, *SEARCHES]),
        ("guided", [notes.GUIDED, *GUIDED]),
        ("sdxl", [notes.GUIDED_SDXL, notes.SEARCH_SDXL, notes.ASKED_SDXL]),
        ("search", [notes.SEARCH, *SEARCHES, *ASKED]),
        ("qwen3-vl", ASKED),
        ("z-image", [notes.ASKED_Z_IMAGE]),
        ("krea 2", [notes.ASKED_KREA]),
        ("qwen-image", [notes.GUIDED_QWEN]),
        ("flux", [notes.GUIDED_FLUX, notes.SEARCH_FLUX]),
        ("samplercustomadvanced", [notes.SAMPLER]),
        ("inpaint", [notes.EDIT, notes.INPAINT_SD15]),
        ("restore", [notes.RESTORE]),
        ("faithful", RESTORED),
        ("upscale", [notes.UPSCALE_SD15]),
        ("deblur", [notes.DEBLUR_SD15]),
        ("inversion", [notes.INVERSION]),
        ("sds", [notes.SDS]),
        (
            "sd 1.5",
            [
                notes.PAPER,
                notes.SAMPLER,
                notes.EDIT,
                notes.INVERSION,
                notes.SDS,
                notes.GUIDED_SD15,
                notes.PROMPT_SD15,
                notes.SEARCH_SD15,
                *RESTORED,
            ],
        ),
    ],
)
def test_a_search_finds_the_template(words, names):
    """The dialog's fuzzy search takes off a hundredth for each character before the match, and allows 0.33 in all."""
    for name in GRAPHS:
        assert (0 <= name.lower().find(words) <= 33) == (name in names), name


@each
def test_the_server_hands_out_graph_and_picture(path, server):
    assert path.stem in server.get("/workflow_templates")["ComfyUI-Referee"]
    for file in (path, path.with_suffix(".jpg")):
        url = f"{server.url}/api/workflow_templates/ComfyUI-Referee/{quote(file.name)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.read() == file.read_bytes()


@each
def test_links_join_sockets_of_one_type(path, object_info):
    graph = read(path)
    assert graph["version"] == 0.4
    nodes = {n["id"]: n for n in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    subgraphs = {subgraph["id"] for subgraph in graph.get("definitions", {}).get("subgraphs", [])}
    for node in nodes.values():
        assert node["type"] in {*object_info, *subgraphs, "MarkdownNote"}
    for link, source, slot, target, place, kind in graph["links"]:
        output, socket = nodes[source]["outputs"][slot], nodes[target]["inputs"][place]
        assert link in output["links"] and socket["link"] == link
        assert kind == output["type"] and socket["type"] in (kind, "*")


@each
def test_nodes_do_not_overlap(path):
    for a, b in combinations(read(path)["nodes"], 2):
        (ax, ay), (bx, by), (aw, ah), (bw, bh) = a["pos"], b["pos"], a["size"], b["size"]
        across, down = ax < bx + bw and bx < ax + aw, ay - 30 < by + bh and by - 30 < ay + ah  # 30: the title bar
        assert not (across and down), (a["title"], b["title"])


@each
def test_the_server_accepts_the_graph_but_for_missing_files(path, server, object_info):
    Image.new("RGBA", (64, 64)).save(server.base / "input" / "example.png")  # ComfyUI comes with a picture of this name
    try:
        server.queue(api(path, object_info))
        server.post("/interrupt", {})
        server.post("/queue", {"clear": True})
    except PromptError as error:
        found = [e for node in error.details["node_errors"].values() for e in node["errors"]]
        assert found and all(e["type"] == "value_not_in_list" for e in found), found
        names = {e["extra_info"]["input_name"] for e in found}
        assert path.stem not in notes.WITHOUT_DOWNLOADS and names <= MISSING


@each
def test_the_editor_can_offer_each_missing_file(path):
    """The missing-model dialog looks for the file that the loader's field names, and takes it from two sites only."""
    nodes = [node for node in read(path)["nodes"] if node["type"] in LOADERS]
    assert bool(nodes) == (path.stem not in notes.WITHOUT_DOWNLOADS)
    for node in nodes:
        models = node["properties"]["models"]
        assert [m["name"] for m in models] == [v for v in node["widgets_values"] if str(v).endswith(".safetensors")]
        said = "".join(n["widgets_values"][0] for n in read(path)["nodes"] if n["type"] in NOTES)
        for model in models:
            assert model["directory"] == LOADERS[node["type"]]
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith("/" + model["name"])
            assert model["name"] in said and model["url"].split("/resolve/")[0] in said


@each
def test_it_opens_readable_and_whole(path):
    """The editor fits a template into three quarters of its window, here of 1600 x 1000, and below 57 % it draws no
    text. Three graphs have too many nodes for that."""
    nodes = read(path)["nodes"]
    starts = [min(n["pos"][0] for n in nodes), min(n["pos"][1] - 30 for n in nodes)]  # 30: the title bar
    width, height = (max(n["pos"][i] + n["size"][i] for n in nodes) - starts[i] + 20 for i in (0, 1))
    zoom = min(0.75 * 1600 / width, 0.75 * 1000 / height)
    assert (zoom >= 0.6) == (path.stem not in (notes.BEST, notes.COMPARISON, notes.EDIT))


@pytest.mark.parametrize("name", [notes.SEARCH, notes.QUICK])
def test_a_starter_is_small(name):
    assert len([n for n in read(notes.template(name))["nodes"] if n["type"] not in NOTES]) <= 14


def test_the_methods_result_comes_first(server, object_info):
    """In the numbers of the nodes, and as the picture that stands for the run, whichever the server paints first."""
    graph = shortened(api(notes.template(notes.QUICK), object_info))
    assert PLAIN.items() <= next(n["inputs"] for n in graph.values() if n["class_type"] == "KSampler").items()
    job = server.queue(graph)
    outputs = server.wait(job)["outputs"]
    first = min(outputs, key=int)
    assert graph[first]["class_type"] == "SaveImage" and graph[first]["inputs"]["images"][0] in optimizers(graph)
    preview = server.get(f"/api/jobs/{job}")["preview_output"]
    assert preview["nodeId"] == first and preview["filename"].startswith("quick_demo")


def optimizers(graph: dict) -> list[str]:
    return [number for number, node in graph.items() if node["class_type"] == "RefereeOptimizer"]


def shortened(graph: dict) -> dict:
    for number in optimizers(graph):
        graph[number]["inputs"] |= {"steps": 4, "tail": 1}
    return graph


def test_the_demo_runs(server, object_info):
    files = run_demo(server, shortened(demo_graph(object_info, "a yellow triangle", seed=5)))
    assert files.keys() == {*RESULTS, *SHEETS}
    assert all(Image.open(io.BytesIO(files[name])).size == (128, 128) for name in RESULTS)
    assert str(judged(files["plain"]))


STATUS = re.compile(
    r"(step|attempts?|guided|done in|no match in|first a look|image \d+: residual) .*"  # one line: notes come below it,
    r"(\n(chosen|the plain prompt stays): .*)?"  # but for what a learned prompt's node has chosen,
    r"(\n.+ [01]\.\d\d( · .+ [01]\.\d\d)+)?"  # and the verdicts on several texts
)
SHORT = {"rounds": 2, "steps": 4, "last_steps": 1, "noises": 2, "other_noises": 2}  # of a learned prompt


def mostly_slow(always: str, *names: str) -> list:
    """Names for a test, of which all but one are left to the slow run."""
    return [pytest.param(name, marks=[] if name == always else [pytest.mark.slow]) for name in names]


def played_by_the_demo(graph: dict) -> dict:
    """A graph for files that are not there: the demo's models in their place, small and short."""
    made = {"demo": {"class_type": "RefereeDemoModels", "inputs": {}}}
    sides = [v for node in graph.values() for k, v in node["inputs"].items() if k in ("width", "height")]
    times = max(sides, default=128) // 128
    for number, node in graph.items():
        if node["class_type"] in PLAYED_BY:
            continue
        inputs = {}
        for name, value in node["inputs"].items():
            source = graph[value[0]]["class_type"] if isinstance(value, list) else None
            inputs[name] = ["demo", PLAYED_BY[source][value[1]]] if source in PLAYED_BY else value
        inputs |= {k: inputs[k] // times for k in ("width", "height") if k in inputs}
        inputs |= {k: v for k, v in {"steps": 4, "attempts": 2}.items() if k in inputs}
        made[number] = node | {"inputs": inputs}
    return made


@pytest.mark.parametrize("name", mostly_slow(notes.ASKED_KREA, *SEARCHES, *ASKED))
def test_a_search_for_files_runs_with_the_demos_models_in_their_place(name, server, object_info):
    graph = played_by_the_demo(api(notes.template(name), object_info))
    outputs = server.run(graph)
    (report,) = (o["text"][0].splitlines() for o in outputs.values() if o.get("text") and "attempt 1" in o["text"][0])
    assert len([line for line in report if line.startswith("attempt ")]) == 2
    assert any(o.get("images") for o in outputs.values())
    assert name not in ASKED or report[-1].startswith("text ")


@pytest.mark.parametrize("name", mostly_slow(notes.INPAINT_SD15, *RESTORED))
def test_a_restoration_for_files_runs_with_the_demos_models_in_their_place(name, server, object_info):
    Image.effect_noise((64, 64), 64).convert("RGBA").save(server.base / "input" / "example.png")
    graph = played_by_the_demo(api(notes.template(name), object_info))
    outputs = server.run(graph)
    (report,) = (o["text"][0] for o in outputs.values() if o.get("text") and "residual" in o["text"][0])
    assert re.fullmatch(r"image 1: residual \d\.\d{4} \(noise \d\.\d{4}\)", report)
    assert len([o for o in outputs.values() if o.get("images")]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", notes.WITHOUT_DOWNLOADS)
def test_a_demo_runs_without_a_warning(name, server, object_info):
    graph, log = api(notes.template(name), object_info), len(server.log)
    for node in graph.values():
        if node["class_type"] == "RefereeOptimizer":
            node["inputs"]["steps"] = 50  # the first return to the average is at 40
        elif node["class_type"] == "RefereeSearch":
            node["inputs"]["attempts"] = 1
        elif node["class_type"] in ("RefereePromptOptimizer", "RefereePromptTrainer"):
            node["inputs"] |= SHORT
    texts = watch(server, graph)["texts"]
    assert texts and [text for text in texts if not STATUS.fullmatch(text)] == []
    assert "[Referee]" not in server.log[log:]
