"""The pack lies in custom_nodes twice, cloned and unpacked from an archive: ComfyUI starts and the pack works."""

from comfyui.conftest import Demo
from scripts.environment import find_comfyui
from scripts.server import PACK, Server


def test_comfyui_starts_and_every_run_is_kept(tmp_path):
    (tmp_path / "custom_nodes").mkdir()
    (tmp_path / "custom_nodes" / "comfyui-referee-main").symlink_to(PACK, target_is_directory=True)
    with Server(find_comfyui(), tmp_path) as server:
        assert "installed twice" in server.log and "comfyui-referee-main" in server.log
        graph = Demo()
        graph.optimise(steps=2)
        extra = {"extra_pnginfo": {"workflow": {"id": "mine"}}}
        asked = server.post("/prompt", {"prompt": graph, "client_id": "test", "extra_data": extra})
        server.wait(asked["prompt_id"])
        (run,) = server.get("/referee/curves?workflow=mine")
        assert len(run["rows"]) == 2 and run["status"].startswith("done") and not run["running"]
