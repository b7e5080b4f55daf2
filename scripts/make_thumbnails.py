"""Make the example graphs' pictures for the Templates dialog: ``python -m scripts.make_thumbnails --comfyui DIR``.

Graphs on the pack's small models show their own run; the others, whose models were not run here, show words.
"""

import argparse
import io
import tempfile
from pathlib import Path

from . import workflow_notes as notes
from .demo import RESULTS, demo_graph, run_demo
from .server import Server
from .workflow import to_api

PROMPT, SEED = "a yellow square and a white cross", 0
SIDE, GAP = 384, 4
CARDS = {
    notes.PAPER: ("SD 1.5", "Referee Can Play"),
    notes.SAMPLER: ("SD 1.5", "Referee Sampler"),
    notes.EDIT: ("SD 1.5", "inpainting"),
    notes.INVERSION: ("SD 1.5", "inversion alone"),
    notes.SDS: ("SD 1.5", "SDS alone"),
    notes.GUIDED_SD15: ("SD 1.5", "guided", "by BLIP-2"),
    notes.GUIDED_FLUX: ("Flux", "guided", "by BLIP-2"),
    notes.GUIDED_SDXL: ("SDXL", "guided", "by BLIP-2"),
    notes.GUIDED_QWEN: ("Qwen-Image", "guided", "by BLIP-2"),
    notes.PROMPT_SD15: ("SD 1.5", "optimized prompt"),
    notes.UPSCALE_SD15: ("SD 1.5", "faithful", "upscale"),
    notes.INPAINT_SD15: ("SD 1.5", "faithful", "inpaint"),
    notes.DEBLUR_SD15: ("SD 1.5", "faithful", "deblur"),
    notes.ASKED_Z_IMAGE: ("Z-Image-Turbo", "search until", "Qwen3-VL agrees"),
    notes.ASKED_KREA: ("Krea 2", "search until", "Qwen3-VL agrees"),
    notes.ASKED_SDXL: ("SDXL", "search until", "Qwen3-VL agrees"),
    notes.SEARCH_SD15: ("SD 1.5", "search until", "BLIP-2 agrees"),
    notes.SEARCH_SDXL: ("SDXL", "search until", "BLIP-2 agrees"),
    notes.SEARCH_FLUX: ("Flux", "search until", "BLIP-2 agrees"),
}
"""Words for the graphs that were not run here with the weights they are for."""


def shown(server: Server, name: str, *kinds: str) -> list[bytes]:
    """What an example graph's first nodes of these kinds show."""
    graph = to_api(notes.graph(name), server.get("/object_info"))
    outputs = server.run(graph)
    numbers = (next(k for k, node in graph.items() if node["class_type"] == kind) for kind in kinds)
    return [server.image(outputs[number]["images"][0]) for number in numbers]


def sheet(*pictures: bytes, columns: int):
    """Pictures side by side on a square."""
    from PIL import Image

    rows = -(-len(pictures) // columns)
    side = (SIDE - GAP * (columns - 1)) // columns
    canvas = Image.new("RGB", (SIDE, rows * side + GAP * (rows - 1)), "white")
    for i, png in enumerate(pictures):
        tile = Image.open(io.BytesIO(png)).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        canvas.paste(tile, ((i % columns) * (side + GAP), (i // columns) * (side + GAP)))
    return canvas


def card(*lines: str):
    """A square with words, for graphs whose model has not painted anything here."""
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("RGB", (SIDE, SIDE), "#22303c")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(34)
    for i, line in enumerate(lines):
        draw.text((SIDE / 2, SIDE / 2 + 52 * (i - (len(lines) - 1) / 2)), line, "white", font, anchor="mm")
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(arguments.comfyui, Path(folder)) as server:
        files = run_demo(server, demo_graph(server.get("/object_info"), PROMPT, SEED))
        pair = shown(server, notes.BEST, "PreviewImage", "SaveImage")
        found = shown(server, notes.SEARCH, "SaveImage")
        guided = shown(server, notes.GUIDED, "SaveImage", "PreviewImage")
        prompt = shown(server, notes.PROMPT, "SaveImage", "PreviewImage")
        restored = shown(server, notes.RESTORE, "PreviewImage", "SaveImage")
    thumbnails = {
        notes.QUICK: sheet(files["method"], files["plain"], columns=2),
        notes.BEST: sheet(*pair, columns=2),
        notes.COMPARISON: sheet(*(files[name] for name in RESULTS), columns=2),
        notes.SEARCH: sheet(*found, columns=1),
        notes.GUIDED: sheet(*guided, columns=2),
        **dict.fromkeys((notes.PROMPT, notes.PROMPTS), sheet(*prompt, columns=2)),
        notes.RESTORE: sheet(*restored, columns=2),
        **{name: card(*words) for name, words in CARDS.items()},
    }
    for name, picture in thumbnails.items():
        picture.save(notes.template(name, ".jpg"), quality=88)
        print(f"{name}.jpg")


if __name__ == "__main__":
    main()
