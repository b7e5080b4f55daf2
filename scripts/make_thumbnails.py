"""Make the pictures beside the example graphs in the Templates browser: ``python -m scripts.make_thumbnails --comfyui DIR``.

All are made with the pack's small models: the demo graph gives those of the four ways to paint, one more run changes the
masked half of its result, and best_of_several gives its own.
"""

import argparse
import io
import json
import tempfile
from pathlib import Path

from .demo import run_demo
from .make_workflows import DEMO
from .server import PACK, Graph, Server
from .workflow import to_api

PROMPT, CHANGED, SEED = "a red circle and a blue square", "a red circle and a yellow triangle", 3
SIDE, GAP = 384, 4


def changed(server: Server, png: bytes) -> bytes:
    """The demo's result with its right or left half, whichever holds the square, optimised for another prompt."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    pixels = picture.load()
    blue = [x for x in range(128) for y in range(128) if pixels[x, y][2] > 150 > pixels[x, y][0] + 60]
    left = 0 if sum(blue) / max(1, len(blue)) < 64 else 64
    picture.save(server.base / "input" / "before.png")
    g = Graph()
    model, clip, vae, referee = g.add("RefereeDemoModels")[:4]
    image = g.add("LoadImage", image="before.png")[0]
    mask = g.add("SolidMask", value=0.0, width=128, height=128)[0]
    half = g.add("SolidMask", value=1.0, width=64, height=128)[0]
    mask = g.add("MaskComposite", destination=mask, source=half, x=left, y=0, operation="add")[0]
    latent = g.add("SetLatentNoiseMask", samples=g.add("VAEEncode", pixels=image, vae=vae)[0], mask=mask)[0]
    positive, negative = (g.add("CLIPTextEncode", clip=clip, text=text)[0] for text in (CHANGED, ""))
    prior = g.add(
        "RefereeSDSGuidance", model=model, positive=positive, negative=negative, schedule="cosine", t_min=50, t_max=949, **DEMO["prior"]
    )[0]  # fmt: skip
    loss = g.add("RefereeLoss", referee=referee, text=CHANGED, itm_weight=1.0, caption_weight=1.0)[0]
    augmentation = g.add(
        "RefereeAugmentation", **{"preset__keep": 0, "preset__flip": False, "preset__crop": 0.0},
        **{k.replace(".", "__"): v for k, v in DEMO["augmentation"].items()},
    )[0]  # fmt: skip
    averaging = g.add("RefereeEMARestart", **DEMO["averaging"])[0]
    out = g.add(
        "RefereeOptimizer", vae=vae, latent_image=latent, loss=loss, prior=prior, augmentation=augmentation, averaging=averaging,
        seed=SEED, preset="paper", views_at_once=0, result="last", record_every=10, stop_at=0.0, patience=0,
        **({"tail": 10} | DEMO["loop"]),
    )[1]  # fmt: skip
    g.add("SaveImage", images=out, filename_prefix="after")
    (entry,) = (e for o in server.run(g).values() for e in o.get("images", []) if e["type"] == "output")
    return server.image(entry)


def improved(server: Server) -> tuple[bytes, bytes]:
    """What best_of_several begins with, the best of its four, and its result."""
    workflow = json.loads((PACK / "workflows" / "best_of_several.json").read_text(encoding="utf-8"))
    graph = to_api(workflow, server.get("/object_info"))
    outputs = server.run(graph)
    shown = ("PreviewImage", "SaveImage")
    before, after = (next(k for k, node in graph.items() if node["class_type"] == kind) for kind in shown)
    return tuple(server.image(outputs[number]["images"][0]) for number in (before, after))


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
        files = run_demo(server, PROMPT, SEED)
        after, pair = changed(server, files["method"]), improved(server)
    thumbnails = {
        "demo": sheet(*(files[name] for name in ("plain", "sds", "inversion", "method")), columns=2),
        "best_of_several": sheet(*pair, columns=2),
        "paper_sd15_blip2": sheet(files["method"], columns=1),
        "paper_sampler_custom_advanced": sheet(files["method"], columns=1),
        "inversion_only": sheet(files["inversion"], columns=1),
        "sds_only": sheet(files["sds"], columns=1),
        "from_image_with_mask": sheet(files["method"], after, columns=2),
    }
    for name, picture in thumbnails.items():
        picture.save(PACK / "workflows" / f"{name}.jpg", quality=88)
        print(f"{name}.jpg")


if __name__ == "__main__":
    main()
