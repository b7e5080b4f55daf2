"""The main job in one command: ``python -m scripts.demo "a red circle and a blue square"``.

Sets up an environment and a ComfyUI (once), runs the bundled graph workflows/demo.json through a real ComfyUI server on
the CPU, writes the pictures, and prints what an independent judge sees in them.
"""

import argparse
import io
import json
import tempfile
import time
from pathlib import Path

from .environment import PACK, enter
from .server import Server
from .workflow import to_api

VARIANTS = {
    "plain": "plain CFG sampling",
    "sds": "score distillation alone",
    "inversion": "inversion alone",
    "method": "Referee Can Play",
}
SHEETS = ("filmstrip", "plot", "gradients")
DEFAULT_PROMPT = "a red circle and a blue square"


def demo_graph(object_info: dict, prompt: str, seed: int) -> dict:
    """The bundled graph in API format, with another prompt and seed."""
    graph = to_api(json.loads((PACK / "workflows" / "demo.json").read_text()), object_info)
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"].startswith("PrimitiveString"):
            inputs["value"] = prompt
        elif node["class_type"] == "PrimitiveInt":
            inputs["value"] = seed
    return graph


def run_demo(server, prompt: str, seed: int) -> dict[str, bytes]:
    """The PNG files that the demo graph saves, by name (the keys of VARIANTS, and SHEETS)."""
    outputs = server.run(demo_graph(server.get("/object_info"), prompt, seed), seconds=3600)
    entries = [e for output in outputs.values() for e in output.get("images", []) if e["type"] == "output"]
    return {e["filename"].split("_")[0]: server.image(e) for e in entries}


def judged(png: bytes):
    """What the judge sees in a picture."""
    from PIL import Image

    from referee_core.demo.judge import judge
    from referee_core.plots import to_tensor

    return judge(to_tensor(Image.open(io.BytesIO(png))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "prompt", nargs="?", default=DEFAULT_PROMPT, help=f"one or two coloured shapes (default: {DEFAULT_PROMPT!r})"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same pictures (default: 0)")
    parser.add_argument(
        "--output", type=Path, default=PACK / "output", help="folder for the pictures (default: output)"
    )
    args = parser.parse_args()
    comfyui = enter()

    from referee_core.demo.world import caption, parse

    try:
        scene = parse(args.prompt)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as base, Server(comfyui, Path(base)) as server:
        print(f"ComfyUI runs at {server.url}; optimising for {args.prompt!r} ...", flush=True)
        files = run_demo(server, caption(scene), args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    for name in (*VARIANTS, *SHEETS):
        (args.output / f"{name}.png").write_bytes(files[name])
    for name, title in VARIANTS.items():
        verdict = judged(files[name])
        print(f"{'right' if verdict.right(scene) else 'wrong'}  {title:26} shows {verdict}")
    print(f"{time.monotonic() - began:.0f} s; pictures in {args.output}: {', '.join((*VARIANTS, *SHEETS))}")


if __name__ == "__main__":
    main()
