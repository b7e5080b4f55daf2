"""The versions of ComfyUI that can be had, the oldest that is supported among them: nodes, method, search, guidance.

``python -m scripts.test tests/comfyui/test_versions.py -m slow``
"""

import pytest

from comfyui.conftest import Demo
from comfyui.test_guidance import Guided
from comfyui.test_search import Searched
from comfyui.test_start import IDS
from scripts.environment import ARCHIVES, PACK, download_comfyui, is_comfyui
from scripts.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=ARCHIVES)
def old(request, tmp_path_factory):
    folder = PACK / f".comfyui-{request.param}"
    comfyui = folder if is_comfyui(folder) else download_comfyui(request.param, folder)
    with Server(comfyui, tmp_path_factory.mktemp("version")) as server:
        yield server


def test_every_node_is_there(old):
    infos = old.get("/object_info").items()
    assert {name for name, info in infos if "ComfyUI-Referee" in info["python_module"]} == IDS


def test_the_method_runs(old):
    graph = Demo()
    outputs = graph.optimise(steps=2)
    graph.add("PreviewImage", images=graph.add("RefereeHistoryPlot", history=outputs[2], index=0)[0])
    assert old.run(graph)


@pytest.mark.parametrize("sampler", ["euler_ancestral", "dpm_fast"])
def test_a_search_runs(old, sampler):
    graph = Searched(sampler=sampler)
    graph.search(attempts=3, at_once=2, prune_at=0.5 if sampler == "dpm_fast" else 0.0)
    assert "attempt 3" in old.run(graph)[graph.report]["text"][0]


@pytest.mark.parametrize("gradient", ["prediction", "look-ahead"])
def test_a_guided_sampler_runs(old, gradient):
    graph = Guided()
    changed = {"gradient": gradient, "gradient__steps": None if gradient == "look-ahead" else 1}
    graph.sample(graph.guide(**changed), "guided")
    assert old.run(graph)
