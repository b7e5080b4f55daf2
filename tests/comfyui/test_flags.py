"""ComfyUI's own options that touch what the method rests on."""

import pytest

from comfyui.conftest import Demo
from scripts.environment import find_comfyui
from scripts.server import Server


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--fp16-vae",), ("--bf16-vae",), ("--disable-smart-memory",)], ids=" ".join)
def test_the_method_runs_with(options, tmp_path):
    graph = Demo()
    graph.optimise(steps=2)
    with Server(find_comfyui(), tmp_path, ("--cpu", *options)) as server:
        started = len(server.log)
        for _ in range(2):
            assert server.run(graph)
        assert "Traceback" not in server.log[started:]
