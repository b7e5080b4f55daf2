"""ComfyUI starts with the pack: quickly, without heavy imports, with every node and its texts."""

import json
import re
import subprocess
import sys

import pytest

from scripts.environment import find_comfyui
from scripts.server import PACK

IDS = {
    "RefereeLoader", "RefereeConvert", "RefereeDemoModels", "RefereeLoss",
    "RefereeCombineLosses", "RefereeAugmentation", "RefereeSDSGuidance", "RefereeEMARestart",
    "RefereeOptimizer", "RefereeSampler", "RefereeScore", "RefereeHistoryPlot",
    "RefereeFilmstrip", "RefereeGradientView", "RefereeSearch", "RefereeGuidance", "RefereeRounds", "RefereeAdapt",
    "RefereePromptOptimizer", "RefereePromptTrainer", "RefereeSavePrompt", "RefereeLoadPrompt", "RefereeApplyPrompt",
    "RefereeFromVLM", "RefereeDecide", "RefereeVariation",
    "RefereeMeasurement", "RefereeDegrade", "RefereeInverseSampler", "RefereeResidual",
    "RefereeStatements",
}  # fmt: skip


def test_every_node_is_registered(server):
    found = {name for name, info in server.get("/object_info").items() if "ComfyUI-Referee" in info["python_module"]}
    assert found == IDS
    assert not re.search(r"IMPORT FAILED.*ComfyUI-Referee", server.log)


def inputs_of(info: dict):
    for kind in ("required", "optional"):
        for name, (_, *options) in info["input"].get(kind, {}).items():
            yield name, options[0] if options else {}
            for option in (options[0] if options else {}).get("options", []):
                if isinstance(option, dict):
                    yield from inputs_of({"input": option["inputs"]})


@pytest.mark.parametrize("name", sorted(IDS))
def test_every_input_and_output_has_a_tooltip(server, name):
    info = server.get(f"/object_info/{name}")[name]
    assert info["description"]
    for tooltip in info["output_tooltips"]:
        assert tooltip
    for label, options in inputs_of(info):
        assert len(options.get("tooltip") or "") > 10, f"{name}.{label} has no tooltip"


IMPORT = """
import asyncio, importlib.util, json, sys, time
sys.path.insert(0, {comfyui!r})
import comfy.cli_args
comfy.cli_args.args.cpu = True
import utils.install_util  # before nodes.py puts comfy/, with its own utils, on the path
import nodes, comfy_api.latest, comfy.sd, latent_preview, server
before, began = set(sys.modules), time.perf_counter()
spec = importlib.util.spec_from_file_location("pack", {pack!r} + "/__init__.py", submodule_search_locations=[{pack!r}])
pack = importlib.util.module_from_spec(spec)
sys.modules["pack"] = pack
spec.loader.exec_module(pack)
async def load():
    extension = await pack.comfy_entrypoint()
    await extension.on_load()
    return [node.GET_SCHEMA() for node in await extension.get_node_list()]
schemas = asyncio.run(load())
print(json.dumps([len(schemas), time.perf_counter() - began, sorted(set(sys.modules) - before)]))
"""


def test_importing_the_pack_is_quick_and_light():
    code = IMPORT.format(comfyui=str(find_comfyui()), pack=str(PACK))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, seconds, modules = json.loads(result.stdout.splitlines()[-1])
    assert count == len(IDS)
    assert seconds < 0.3
    heavy = [m for m in modules if re.match(r"(transformers|diffusers|kornia|lavis|scipy|skimage)\b", m)]
    assert not heavy
