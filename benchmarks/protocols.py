"""The field's restoration protocols through your own ComfyUI, for numbers beside published ones.

    python -m benchmarks.protocols daps --pictures DIR --checkpoint NAME [--url http://127.0.0.1:8188]
                                        [--preset "P2L (paper)"] [--steps 200] [--count 100]

ComfyUI must be running, with this pack. Each picture is cut to a square, measured, restored from noise with an empty
prompt, and compared with what was cut. Rows go to --out and a stopped run goes on where it was.

- daps: DAPS (Zhang et al., arXiv 2407.01521) at 256 pixels: its operators, noise .05 for pictures in [-1, 1].
- p2l: P2L at 512 pixels, noise .01. Its kernels are not published: those of a public reconstruction (TReg).
"""

import argparse
import io
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import torch
from PIL import Image

from referee_core.plots import to_tensor
from scripts.server import Client, Graph

from .obedience.play import rows


class Protocol(NamedTuple):
    """side: of the pictures. noise: for pictures in [0, 1]. tasks: Measurement's inputs by the task's name."""

    side: int
    noise: float
    tasks: dict[str, dict[str, Any]]


MOTION = {"kind": "motion blur", "kind__size": 61, "kind__intensity": 0.5, "kind__seed": 0}
PROTOCOLS = {
    "daps": Protocol(
        256,
        0.025,
        {
            "super-resolution x4": {"kind": "super-resolution", "kind__factor": 4},
            "box": {"kind": "box", "kind__width": 128, "kind__height": 128},
            "random 70 %": {"kind": "random pixels", "kind__missing": 0.7, "kind__seed": 0},
            "Gaussian blur": {"kind": "gaussian blur", "kind__horizontal": 3.0, "kind__vertical": 3.0},
            "motion blur": MOTION,
        },
    ),
    "p2l": Protocol(
        512,
        0.005,
        {
            "super-resolution x8": {"kind": "super-resolution", "kind__factor": 8},
            "Gaussian blur": {"kind": "gaussian blur", "kind__horizontal": 5.0, "kind__vertical": 5.0},
            "motion blur": MOTION,
        },
    ),
}


def build(
    picture: str, side: int, noise: float, task: dict, checkpoint: str, preset: str, steps: int, seed: int
) -> tuple[Graph, str, str]:
    """The graph, and the nodes that show the original and the result. checkpoint: "" for the pack's small models."""
    graph = Graph()
    loader = "CheckpointLoaderSimple" if checkpoint else "RefereeDemoModels"
    model, clip, vae, *_ = graph.add(loader, **({"ckpt_name": checkpoint} if checkpoint else {}))
    loaded = graph.add("LoadImage", image=picture)[0]
    cut = {"upscale_method": "area", "width": side, "height": side, "crop": "center"}
    original = graph.add("ImageScale", image=loaded, **cut)[0]
    measurement = graph.add("RefereeMeasurement", **task, noise=noise)[0]
    measured = graph.add("RefereeDegrade", images=original, measurement=measurement, seed=seed)[0]
    given = {"measurement": measurement, "measured": measured}
    sampler, latent, *_ = graph.add("RefereeInverseSampler", **given, vae=vae, preset=preset)
    empty = graph.add("CLIPTextEncode", clip=clip, text="")[0]
    guider = graph.add("BasicGuider", model=model, conditioning=empty)[0]
    sigmas = graph.add("BasicScheduler", model=model, scheduler="normal", steps=steps, denoise=1.0)[0]
    random = graph.add("RandomNoise", noise_seed=seed)[0]
    parts = {"noise": random, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
    made = graph.add("VAEDecode", samples=graph.add("SamplerCustomAdvanced", **parts)[0], vae=vae)[0]
    shown = [graph.add("PreviewImage", images=images)[0][0] for images in (original, made)]
    return graph, shown[0], shown[1]


def defaults(client: Client, preset: str) -> dict[str, Any]:
    """The preset's own numbers, as its node shows them."""
    schema = client.get("/object_info/RefereeInverseSampler")["RefereeInverseSampler"]["input"]["required"]["preset"]
    options = {option["key"]: option["inputs"]["required"] for option in schema[1]["options"]}
    return {f"preset.{name}": about["default"] for name, (_, about) in options[preset].items()}


def compare(made: torch.Tensor, original: torch.Tensor) -> dict[str, float]:
    from kornia.metrics import ssim

    return {
        "psnr": float(-10 * (made - original).square().mean().log10()),
        "ssim": float(ssim(made[None], original[None], 11).mean()),
    }


def play(client: Client, args: argparse.Namespace) -> list[dict]:
    protocol = PROTOCOLS[args.protocol]
    side = args.side or protocol.side
    known = {(row["task"], row["picture"]) for row in rows(args.out)}
    numbers = defaults(client, args.preset)
    files = sorted(p for p in args.pictures.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    for seed, file in enumerate(files[: args.count]):
        for name, task in protocol.tasks.items():
            if (name, file.name) in known:
                continue
            png = io.BytesIO()
            Image.open(file).convert("RGB").save(png, "PNG")
            uploaded = client.upload(f"protocol_{file.stem}.png", png.getvalue())
            given = (side, protocol.noise, task, args.checkpoint, args.preset, args.steps, seed)
            graph, original, made = build(uploaded, *given)
            for node in graph.values():
                if node["class_type"] == "RefereeInverseSampler":
                    node["inputs"] |= numbers
            outputs = client.run(graph, seconds=24 * 3600)
            one, other = (
                to_tensor(Image.open(io.BytesIO(client.image(outputs[node]["images"][0])))) for node in (made, original)
            )
            row = {"task": name, "picture": file.name, **compare(one, other)}
            with args.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
            print(row, flush=True)
    return rows(args.out)


def report(found: list[dict]) -> str:
    lines = ["| task | pictures | PSNR, dB | SSIM |", "|---|---|---|---|"]
    for task in dict.fromkeys(row["task"] for row in found):
        own = [row for row in found if row["task"] == task]
        cells = []
        for name, digits in (("psnr", 2), ("ssim", 3)):
            values = [row[name] for row in own]
            half = 1.96 * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
            cells.append(f"{mean(values):.{digits}f} ± {half:.{digits}f}")
        lines.append(f"| {task} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=PROTOCOLS)
    parser.add_argument("--pictures", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--checkpoint", default="", help="as in Load Checkpoint; without it the pack's small models")
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--preset", default="P2L (paper)", help="of Inverse Sampler")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--side", type=int, default=0, help="another size than the protocol's")
    parser.add_argument("--out", type=Path, default=Path("protocol.jsonl"))
    return parser.parse_args(arguments)


def main() -> None:
    args = parsed()
    print(report(play(Client(args.url), args)))


if __name__ == "__main__":
    main()
