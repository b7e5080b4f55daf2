"""Make the example graphs' pictures for the Templates dialog: ``python -m scripts.make_thumbnails --comfyui DIR``.

All are made with the pack's small models: the comparison gives those of the four ways to paint, one more run changes
the masked half of its result, and the graphs of several samples give their own.
"""

import argparse
import io
import json
import tempfile
from pathlib import Path

from . import workflow_notes as notes
from .demo import RESULTS, demo_graph, judged, run_demo
from .graphs import parts
from .server import Server
from .workflow import Workflow, to_api

PROMPT, CHANGED, SEED = "a yellow square and a white cross", "a yellow triangle and a green circle", 0
SIDE, GAP = 384, 4


def changed(server: Server, png: bytes) -> bytes:
    """The demo's result with its right or left half, whichever holds the square, optimised for another prompt."""
    seen = judged(png)
    (x,) = (x for (_, shape), (x, _) in zip(seen.objects, seen.centres, strict=True) if shape == "square")
    left = 0 if x < 64 else 64
    (server.base / "input" / "before.png").write_bytes(png)
    info = server.get("/object_info")
    w = Workflow("changed", info)
    models = w.add("RefereeDemoModels")
    image = w.add("LoadImage", image="before.png")
    nothing = w.add("SolidMask", value=0.0, width=128, height=128)
    half = w.add("SolidMask", value=1.0, width=64, height=128)
    mask = w.add("MaskComposite", destination=nothing, source=half, x=left, y=0, operation="add")
    encode = w.add("VAEEncode", pixels=image, vae=models.out("vae"))
    latent = w.add("SetLatentNoiseMask", samples=encode, mask=mask)
    positive, negative = parts.encoded(w, models.out("clip"), CHANGED)
    prior = w.add("RefereeSDSGuidance", model=models, positive=positive, negative=negative, **parts.DEMO["prior"])
    loss, regularizers = parts.judged(w, models.out("referee"), CHANGED, parts.DEMO)
    inputs = {"vae": models.out("vae"), "latent_image": latent, "seed": SEED, "loss": loss, "prior": prior}
    result = w.add("RefereeOptimizer", **inputs, **regularizers, **parts.DEMO["loop"])
    w.add("SaveImage", images=result.out("image"), filename_prefix="after")
    w.place("", w.nodes)
    (output,) = server.run(to_api(json.loads(w.text()), info)).values()
    return server.image(output["images"][0])


def shown(server: Server, name: str, *kinds: str) -> list[bytes]:
    """What an example graph's first nodes of these kinds show."""
    graph = to_api(json.loads(notes.template(name).read_text(encoding="utf-8")), server.get("/object_info"))
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(arguments.comfyui, Path(folder)) as server:
        files = run_demo(server, demo_graph(server.get("/object_info"), PROMPT, SEED))
        after, pair = changed(server, files["method"]), shown(server, notes.BEST, "PreviewImage", "SaveImage")
        found = shown(server, notes.SEARCH, "SaveImage")
        guided = shown(server, notes.GUIDED, "SaveImage", "PreviewImage")
        prompt = shown(server, notes.PROMPT, "SaveImage", "PreviewImage")
    one = sheet(files["method"], columns=1)
    thumbnails = {
        notes.QUICK: sheet(files["method"], files["plain"], columns=2),
        notes.BEST: sheet(*pair, columns=2),
        notes.COMPARISON: sheet(*(files[name] for name in RESULTS), columns=2),
        notes.PAPER: one,
        notes.SAMPLER: one,
        notes.EDIT: sheet(files["method"], after, columns=2),
        notes.INVERSION: sheet(files["inversion"], columns=1),
        notes.SDS: sheet(files["sds"], columns=1),
        notes.SEARCH: sheet(*found, columns=1),
        notes.GUIDED: sheet(*guided, columns=2),
        notes.GUIDED_SD15: sheet(guided[0], columns=1),
        notes.GUIDED_FLUX: sheet(guided[0], columns=1),
        notes.GUIDED_SDXL: sheet(guided[0], columns=1),
        notes.GUIDED_QWEN: sheet(guided[0], columns=1),
        **dict.fromkeys((notes.PROMPT, notes.PROMPT_SD15, notes.PROMPTS), sheet(*prompt, columns=2)),
    }
    for name, picture in thumbnails.items():
        picture.save(notes.template(name, ".jpg"), quality=88)
        print(f"{name}.jpg")


if __name__ == "__main__":
    main()
