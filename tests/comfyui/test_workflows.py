"""The example graphs: complete, understood by the server, and the demo runs as a user would run it."""

import io
import json

import pytest
from PIL import Image

from scripts.demo import SHEETS, VARIANTS, demo_graph, judged
from scripts.server import PACK, PromptError
from scripts.workflow import to_api

GRAPHS = sorted((PACK / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


def test_all_graphs_are_there():
    assert {g.stem for g in GRAPHS} == {
        "demo", "best_of_several", "paper_sd15_blip2", "inversion_only", "sds_only", "paper_sampler_custom_advanced",
        "from_image_with_mask",
    }  # fmt: skip


@pytest.mark.parametrize("path", GRAPHS, ids=lambda p: p.stem)
def test_links_join_sockets_of_one_type(path, object_info):
    graph = json.loads(path.read_text())
    assert graph["version"] == 0.4
    nodes = {n["id"]: n for n in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    for node in nodes.values():
        assert node["type"] in object_info or node["type"] == "MarkdownNote"
    for link, source, slot, target, place, kind in graph["links"]:
        output, socket = nodes[source]["outputs"][slot], nodes[target]["inputs"][place]
        assert link in output["links"] and socket["link"] == link
        assert kind == output["type"] and socket["type"] in (kind, "*")


@pytest.mark.parametrize("path", GRAPHS, ids=lambda p: p.stem)
def test_the_server_accepts_the_graph_but_for_missing_files(path, server, object_info):
    Image.new("RGBA", (64, 64)).save(server.base / "input" / "example.png")  # ComfyUI comes with a picture of this name
    try:
        server.queue(to_api(json.loads(path.read_text()), object_info))
        server.post("/interrupt", {})
        server.post("/queue", {"clear": True})
    except PromptError as error:
        found = [e for node in error.details["node_errors"].values() for e in node["errors"]]
        assert found and all(e["type"] == "value_not_in_list" for e in found), found
        names = {e["extra_info"]["input_name"] for e in found}
        assert path.stem not in ("demo", "best_of_several") and names <= {"ckpt_name", "referee_name"}


def test_the_demo_runs(server, object_info):
    graph = demo_graph(object_info, "a yellow triangle", seed=5)
    for node in graph.values():
        if node["class_type"] == "RefereeOptimizer":
            node["inputs"] |= {"steps": 4, "tail": 1}
    entries = [e for o in server.run(graph).values() for e in o.get("images", []) if e["type"] == "output"]
    files = {e["filename"].split("_")[0]: server.image(e) for e in entries}
    assert files.keys() == {*VARIANTS, *SHEETS}
    assert all(Image.open(io.BytesIO(files[name])).size == (128, 128) for name in VARIANTS)
    assert str(judged(files["plain"]))
