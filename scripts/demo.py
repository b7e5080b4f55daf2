"""The main job in one command: ``python -m scripts.demo "a yellow square and a white cross"``.

Sets up an environment and a ComfyUI (once), runs the bundled comparison of four ways to paint through a real ComfyUI
server on the CPU, writes the pictures, and prints what an independent judge sees in them.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

from . import workflow_notes as notes
from .environment import PACK, enter
from .server import Server
from .workflow import to_api

RESULTS = {  # file: title of the node that shows it
    "method": "Referee Can Play",
    "plain": "Plain sampling",
    "sds": "Score distillation alone",
    "inversion": "Inversion alone",
}
SHEETS = {"filmstrip": "From noise to picture", "plot": "Losses, norms and schedules", "gradients": "What pulled where"}
DEFAULT_PROMPT = "a yellow square and a white cross"


def demo_graph(object_info: dict, prompt: str, seed: int) -> dict:
    """The comparison in API format, with another prompt and seed."""
    graph = to_api(notes.graph(notes.COMPARISON), object_info)
    fill_in(graph, prompt, seed)
    return graph


def fill_in(graph: dict, prompt: str, seed: int) -> None:
    """Give an example graph in API format another prompt and seed, where it has a node for each."""
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"].startswith("PrimitiveString"):
            inputs["value"] = prompt
        elif node["class_type"] == "PrimitiveInt":
            inputs["value"] = seed


def run_demo(server, graph: dict) -> dict[str, bytes]:
    """The PNG files that the comparison shows, by the names of RESULTS and SHEETS."""
    outputs = server.run(graph, seconds=3600)
    shown = {graph[number]["_meta"]["title"]: o["images"][0] for number, o in outputs.items() if o.get("images")}
    return {name: server.image(shown[title]) for name, title in (RESULTS | SHEETS).items()}


def judged(png: bytes):
    """What the judge sees in a picture."""
    from PIL import Image

    from referee_core.plots import to_tensor
    from training.judge import judge

    return judge(to_tensor(Image.open(io.BytesIO(png))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "prompt", nargs="?", default=DEFAULT_PROMPT, help=f"coloured shapes (default: {DEFAULT_PROMPT!r})"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures (default: 0)")
    parser.add_argument(
        "--output", type=Path, default=PACK / "output", help="folder for the pictures (default: output)"
    )
    args = parser.parse_args()
    comfyui = enter()

    from referee_core.demo.captions import caption, parse

    try:
        scene = parse(args.prompt)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as base, Server(comfyui, Path(base)) as server:
        print(f"ComfyUI runs at {server.url}; painting {args.prompt!r} ...", flush=True)
        graph = demo_graph(server.get("/object_info"), caption(scene), args.seed)
        files = run_demo(server, graph)
    args.output.mkdir(parents=True, exist_ok=True)
    for name, png in files.items():
        (args.output / f"{name}.png").write_bytes(png)
    for name, title in RESULTS.items():
        verdict = judged(files[name])
        print(f"{'right' if verdict.right(scene) else 'wrong'}  {title:24} shows {verdict}")
    print(f"{time.monotonic() - began:.0f} s; pictures in {args.output}: {', '.join(files)}")


if __name__ == "__main__":
    main()
