"""The versions of ComfyUI that can be had, the oldest that is supported among them: nodes, method, search, guidance.

``python -m scripts.test tests/comfyui/test_versions.py -m slow``
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from comfyui.conftest import Demo
from comfyui.test_guidance import Guided
from comfyui.test_search import Searched
from comfyui.test_start import IDS
from scripts.environment import ARCHIVES, PACK, download_comfyui, is_comfyui
from scripts.server import Server

pytestmark = pytest.mark.slow
GEMMA = "test_a_gemma_3_judges_as_in_transformers"


@pytest.fixture(scope="module", params=ARCHIVES)
def comfyui(request):
    folder = PACK / f".comfyui-{request.param}"
    return folder if is_comfyui(folder) else download_comfyui(request.param, folder)


@pytest.fixture(scope="module")
def old(comfyui, tmp_path_factory):
    with Server(comfyui, tmp_path_factory.mktemp("version")) as server:
        yield server


def test_every_node_is_there(old):
    infos = old.get("/object_info").items()
    assert {name for name, info in infos if "ComfyUI-Referee" in info["python_module"]} == IDS


def test_a_gemma_3_judges_as_in_transformers(comfyui):
    """The only vision-language model that all of them have."""
    tests = Path(__file__).with_name("test_vision_language.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{tests}::{GEMMA}", "-m", "slow"]
    done = subprocess.run(command, env=os.environ | {"COMFYUI_PATH": str(comfyui)}, capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


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


def test_a_prompt_is_optimized_saved_and_asked_about(old):
    graph = Demo()
    learning = {"rounds": 1, "learning_rate": 0.1, "last_steps": 1, "noises": 1, "other_noises": 1, "check_every": 1}
    bounds = {"stop_at": 0.0, "patience": 0, "tokens": 2, "side": "after", "rank": 8, "conformity": 0.001}
    sampling = {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler_ancestral", "scheduler": "normal"}
    latent = graph.add("EmptyLatentImage", width=128, height=128, batch_size=1)[0]
    parts = {"model": graph.model, "positive": graph.positive, "negative": graph.negative, "vae": graph.vae}
    learned = graph.add(
        "RefereePromptOptimizer", **parts, loss=graph.loss, latent_image=latent, record_every=1, **sampling, **learning,
        **bounds,
    )  # fmt: skip
    asked = graph.add("RefereeDecide", images=learned[2], referee=graph.referee, question="a red circle", threshold=0.5)
    texts = [graph.add("PreviewAny", source=source)[0][0] for source in (learned[4], asked[3])]
    found = old.run(graph)
    report, answer = (found[text]["text"][0] for text in texts)
    assert report.startswith("Pictures of other noises") and answer.startswith("image 1: ")
