"""Make the help pages' pictures of what a setting does to the image: ``python -m scripts.make_effects --comfyui DIR``.

One run of the pack's small models for each value; prompt, seed and other settings are those of make_screenshots, for
Referee Guidance those of its example graph.
"""

import argparse
import copy
import io
import json
import tempfile
from pathlib import Path

from . import workflow_notes as notes
from .graphs.parts import CONFUSED
from .make_screenshots import IMAGES, method
from .server import Graph, Server
from .workflow import to_api

SIZE = 160
SHARES = (0.0, 0.05, 0.2, 0.4, 0.8)  # of Referee Guidance
VARIED = "a red square and a cyan circle"
ALONE = {"prior": None}
SWEEPS = {
    "sds_weight": {
        f"weight {w}": {"RefereeSDSGuidance": {"weight": w, "weight_end": w}}
        for w in (0.0, 100.0, 500.0, 2000.0, 8000.0)
    },
    "loss_weights": {
        f"itm {itm}, caption {caption}": {"RefereeLoss": {"itm_weight": itm, "caption_weight": caption}}
        for itm, caption in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
    },
    "views_count": {"no views": {"RefereeOptimizer": ALONE | {"augmentation": None}}}
    | {
        f"count {n}": {"RefereeOptimizer": ALONE, "RefereeAugmentation": {"preset.count": n}}
        for n in (1, 4, 16)
    },
}  # fmt: skip


def pictures(server: Server, graph: dict, changes: dict[str, dict]) -> tuple:
    """The result and its filmstrip, [3, H, W] each, with other inputs: {node type: {input: value}}; None unplugs
    one."""
    from PIL import Image

    from referee_core.plots import to_tensor

    graph = {number: node for number, node in copy.deepcopy(graph).items() if node["class_type"] != "PreviewImage"}
    for node in graph.values():
        inputs = node["inputs"] | changes.get(node["class_type"], {})
        node["inputs"] = {name: value for name, value in inputs.items() if value is not None}
    (run,) = (number for number, node in graph.items() if node["class_type"] == "RefereeOptimizer")
    sheet = {"history": [run, 2], "index": 0, "columns": 9, "size": 128}
    graph["film"] = {"class_type": "RefereeFilmstrip", "inputs": sheet}
    for name, images in {"result": [run, 1], "strip": ["film", 0]}.items():
        graph[name] = {"class_type": "PreviewImage", "inputs": {"images": images}}
    outputs = server.run(graph)
    files = (server.image(outputs[name]["images"][0]) for name in ("result", "strip"))
    return tuple(to_tensor(Image.open(io.BytesIO(file))) for file in files)


def guided(server: Server, info: dict, share: float):
    """The guided example graph's result [3, H, W] with this strength."""
    from PIL import Image

    from referee_core.plots import to_tensor

    graph = to_api(notes.graph(notes.GUIDED), info)
    kinds = {node["class_type"]: number for number, node in graph.items()}
    graph[kinds["RefereeGuidance"]]["inputs"]["strength.share"] = share
    (picture,) = server.run(graph)[kinds["SaveImage"]]["images"]
    return to_tensor(Image.open(io.BytesIO(server.image(picture))))


def obeyed(server: Server, info: dict) -> list[tuple]:
    """Three plain samples of a prompt that confuses the model, and what the search's example graph finds for it."""
    from PIL import Image

    from referee_core.plots import to_tensor

    graph = to_api(notes.graph(notes.SEARCH), info)
    kinds = {node["class_type"]: number for number, node in graph.items()}
    graph[kinds["PrimitiveStringMultiline"]]["inputs"]["value"] = CONFUSED
    guider, plan = graph[kinds["CFGGuider"]]["inputs"], graph[kinds["BasicScheduler"]]["inputs"]
    search = graph[kinds["RefereeSearch"]]["inputs"]
    parts = {"positive": guider["positive"], "negative": guider["negative"], "latent_image": search["latent_image"]}
    parts |= {"steps": plan["steps"], "scheduler": plan["scheduler"], "cfg": guider["cfg"], "denoise": 1.0}
    parts["sampler_name"] = graph[kinds["KSamplerSelect"]]["inputs"]["sampler_name"]
    names = {kinds["SaveImage"]: "found by the search"}
    for seed in range(3):
        given = {"model": plan["model"], "seed": seed, **parts}
        graph[f"plain {seed}"] = {"class_type": "KSampler", "inputs": given}
        decoded = {"samples": [f"plain {seed}", 0], "vae": search["vae"]}
        graph[f"decoded {seed}"] = {"class_type": "VAEDecode", "inputs": decoded}
        graph[f"shown {seed}"] = {"class_type": "PreviewImage", "inputs": {"images": [f"decoded {seed}", 0]}}
        names[f"shown {seed}"] = f"plain, seed {seed}"
    outputs = server.run(graph, seconds=900)
    found = [(name, server.image(outputs[number]["images"][0])) for number, name in names.items()]
    return [(name, to_tensor(Image.open(io.BytesIO(file)))) for name, file in [*found[1:], found[0]]]


def varied(server: Server, variation: float, seed: int):
    """A picture [3, H, W] from one starting noise, its prompt varied by this seed."""
    from PIL import Image

    from referee_core.plots import to_tensor

    graph = Graph()
    model, clip, vae, _ = graph.add("RefereeDemoModels")[:4]
    positive, negative = (graph.add("CLIPTextEncode", clip=clip, text=text)[0] for text in (VARIED, ""))
    how = {"seed": seed, "variation": variation, "end_percent": 0.3}
    positive = graph.add("RefereeVariation", conditioning=positive, **how)[0]
    latent = graph.add("EmptyLatentImage", width=128, height=128, batch_size=1)[0]
    sampler = {"seed": 0, "steps": 10, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    given = {"model": model, "positive": positive, "negative": negative, "latent_image": latent}
    made = graph.add("KSampler", **given, **sampler)[0]
    shown = graph.add("PreviewImage", images=graph.add("VAEDecode", samples=made, vae=vae)[0])[0][0]
    (picture,) = server.run(graph)[shown]["images"]
    return to_tensor(Image.open(io.BytesIO(server.image(picture))))


def views(image):
    """The picture and what the referee sees of it in one step, by preset."""
    import torch

    from referee_core.augment import PRESETS

    generator, shown = torch.Generator().manual_seed(0), []
    for name in ("paper", "reference code"):
        seen = PRESETS[name](image.expand(6, -1, -1, -1), generator)
        shown += [("the picture", image), *((name, view.clamp(0, 1)) for view in seen)]
    return shown


def measured() -> list:
    """A drawn picture, and what each kind of Measurement leaves of it: (label, [3, H, W]) each."""
    import random

    import torch

    from referee_core import operators as core
    from referee_core.kernels import gaussian_taps, motion_kernel
    from referee_core.randomness import generators
    from training.drawing import draw

    objects = (("red", "circle"), ("blue", "square"), ("yellow", "cross"))
    picture = draw(random.Random(3), objects).picture[None]
    height, width = picture.shape[-2:]
    one = gaussian_taps(1.5).float()
    ghost = torch.nn.functional.pad(torch.outer(one, one), (0, 20, 0, 12))
    ghost += ghost.flip(0, 1)  # two spots: seen double
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    known = ((y - 0.6 * x).abs() > 0.25).float()[None, None]
    kinds = {
        "super-resolution": core.SuperResolution(8),
        "gaussian blur": core.GaussianBlur(4.0, 4.0),
        "motion blur": core.KernelBlur(motion_kernel(31, 0.5, torch.Generator().manual_seed(1))),
        "blur kernel": core.KernelBlur(ghost),
        "inpainting": core.Inpainting(known),
        "box": core.Inpainting(core.box_mask(height, width, 64, 64)),
        "random pixels": core.Inpainting(core.random_mask(height, width, 0.7, torch.Generator().manual_seed(1))),
        "jpeg": core.JPEG(5),
        "jpeg, noise 0.1": core.JPEG(5, sigma=0.1),
    }
    streams = generators([0], kinds)
    size = {"size": (2 * height, 2 * width), "mode": "nearest"}
    shown = {"the picture": picture} | {name: kind.degrade(picture, streams[name]) for name, kind in kinds.items()}
    return [(name, torch.nn.functional.interpolate(made, **size)[0].clamp(0, 1)) for name, made in shown.items()]


def restored(server: Server, info: dict) -> list:
    """A drawn picture shrunk to a quarter and restored, and the residual: (label, [3, H, W]) each."""
    import random

    import torch
    from PIL import Image

    from referee_core.plots import to_image, to_tensor
    from training.drawing import draw

    picture = draw(random.Random(3), (("red", "circle"), ("blue", "square"), ("yellow", "cross"))).picture
    height, width = picture.shape[-2:]
    to_image(picture).save(server.base / "input" / "drawn.png")
    graph = Graph()
    model, clip, vae, _ = graph.add("RefereeDemoModels")[:4]
    original = graph.add("LoadImage", image="drawn.png")[0]
    how = {"kind": "super-resolution", "kind__factor": 4, "noise": 0.01}
    measurement = graph.add("RefereeMeasurement", **how)[0]
    small = graph.add("RefereeDegrade", images=original, measurement=measurement, seed=0)[0]
    size = {"width": width, "height": height, "crop": "disabled"}
    large = graph.add("ImageScale", image=small, upscale_method="bicubic", **size)[0]
    given = {"measurement": measurement, "measured": small}
    preset, fields = preset_of(info["RefereeInverseSampler"], "P2L, few steps")
    sampler, guess, *_ = graph.add("RefereeInverseSampler", **given, vae=vae, preset=preset, **fields)
    empty = graph.add("CLIPTextEncode", clip=clip, text="")[0]
    parts = {
        "guider": graph.add("BasicGuider", model=model, conditioning=empty)[0],
        "sigmas": graph.add("BasicScheduler", model=model, scheduler="normal", steps=24, denoise=0.5)[0],
        "noise": graph.add("RandomNoise", noise_seed=1)[0],
    }
    made = graph.add("SamplerCustomAdvanced", **parts, sampler=sampler, latent_image=guess)[0]
    result = graph.add("VAEDecode", samples=made, vae=vae)[0]
    left = graph.add("RefereeResidual", images=result, **given, gain=5.0)[1]
    shown = {"original": original, "shrunk to a quarter": small, "bicubic": large, "P2L": result, "residual": left}
    at = {label: graph.add("PreviewImage", images=images)[0][0] for label, images in shown.items()}
    outputs = server.run(graph)
    files = {label: server.image(outputs[node]["images"][0]) for label, node in at.items()}
    found = {label: to_tensor(Image.open(io.BytesIO(file)).convert("RGB")) for label, file in files.items()}
    return [
        (label, torch.nn.functional.interpolate(image[None], size=(2 * height, 2 * width), mode="nearest")[0])
        for label, image in found.items()
    ]


def preset_of(node: dict, name: str) -> tuple[str, dict]:
    """A preset of a node and what it sets, as Graph.add takes them."""
    options = node["input"]["required"]["preset"][1]["options"]
    (fields,) = (option["inputs"] for option in options if option["key"] == name)
    return name, {f"preset__{field}": about[1]["default"] for field, about in fields.get("required", {}).items()}


def main() -> None:
    from referee_core.plots import strip, to_image

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Server(arguments.comfyui, Path(folder)) as server:
        info = server.get("/object_info")
        graph = to_api(json.loads(method(info).text()), info)
        for name, sweep in SWEEPS.items():
            shown = [(label, pictures(server, graph, changes)[0]) for label, changes in sweep.items()]
            to_image(strip(shown, len(shown), SIZE)).save(IMAGES / f"{name}.png")
            print(f"{name}.png")
        shown = obeyed(server, info)
        to_image(strip(shown, len(shown), SIZE)).save(IMAGES / "obeyed.png")
        shown = [(f"share {share:g}", guided(server, info, share)) for share in SHARES]
        to_image(strip(shown, len(shown), SIZE)).save(IMAGES / "guidance_share.png")
        plain = ("variation 0", varied(server, 0.0, 0))
        shown = [plain, *((f"variation 2, seed {seed}", varied(server, 2.0, seed)) for seed in range(4))]
        to_image(strip(shown, len(shown), SIZE)).save(IMAGES / "variation.png")
        to_image(strip(measured(), 5, SIZE)).save(IMAGES / "measurements.png")
        to_image(strip(restored(server, info), 5, SIZE)).save(IMAGES / "restored.png")
        result, film = pictures(server, graph, {})
        to_image(film).save(IMAGES / "filmstrip.png")
        to_image(strip(views(result), 7, SIZE)).save(IMAGES / "views.jpg", quality=88)


if __name__ == "__main__":
    main()
