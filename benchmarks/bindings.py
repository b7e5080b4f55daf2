"""Right bindings on held-out two-object prompts, for plain sampling, SDS alone, inversion alone and the method.

``python -m benchmarks.bindings [--prompts 40]`` runs the bundled demo graph through a real ComfyUI for each prompt (prompt i
with seed i) and counts the pictures in which the exact judge finds the two objects asked for, and nothing else. For the
finished pictures it also measures the referee's loss on the bare picture, L(x), and over augmented views, L~(x) (Table 2 of
the paper). Results are kept as they come: run it again to go on.
"""

import argparse
import io
import json
import os
import random
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

from scripts.demo import VARIANTS, judged, run_demo
from scripts.environment import PACK, enter
from scripts.server import Server

RESULTS = Path(__file__).parent / "results"
SHEET = PACK / "web" / "docs" / "images" / "bindings.png"  # shown on a help page too
PICTURES = PACK / "output" / "bindings"
SHOWN = 8  # prompts on the sheet of pictures
VIEWS = 64


def prompts(count: int) -> list:
    from referee_core.demo.world import two_object_scenes

    return random.Random("bindings").sample(two_object_scenes(held_out=True), count)


def measure(png: bytes, scene) -> dict:
    """The judge's verdict and the referee's losses of one picture."""
    import torch
    from PIL import Image

    from referee_core.augment import NONE, Augmentation
    from referee_core.demo.storage import path
    from referee_core.demo.world import caption
    from referee_core.losses import MicroBatch, bind, expected_loss
    from referee_core.plots import to_tensor
    from referee_core.referees.blip2.weights import load

    verdict = judged(png)
    loss = bind(load(path("referee")), caption(scene), itm=1.0, caption=1.0)
    picture = to_tensor(Image.open(io.BytesIO(png)))[None]
    augmented = Augmentation(count=VIEWS, rotation=15, colour=0.04, erasing=0.06)
    losses = {}
    for name, augmentation in (("L", NONE), ("L_augmented", augmented)):
        _, terms = expected_loss(
            loss, picture.clone().requires_grad_(), augmentation, [torch.Generator().manual_seed(0)], MicroBatch()
        )
        losses[name] = {k: round(v.item(), 4) for k, v in terms.items()}
    return {"right": verdict.right(scene), "saw": str(verdict), **losses}


def table(rows: list[dict]) -> str:
    """The results as Markdown."""
    lines = [
        f"| {len(rows)} prompts | right | L(x): itm & caption | L~(x): itm & caption |",
        "|---|---|---|---|",
    ]
    for name, title in VARIANTS.items():
        found = [row[name] for row in rows]
        right = sum(f["right"] for f in found) / len(found)

        def mean(kind: str, found=found) -> str:
            return " & ".join(f"{sum(f[kind][t] for f in found) / len(found):.3f}" for t in ("itm", "caption"))

        lines.append(f"| {title} | {100 * right:.1f} % | {mean('L')} | {mean('L_augmented')} |")
    return "\n".join(lines)


def sheet(rows: list[dict]) -> None:
    """The first prompts' pictures, one row a variant, beside the table."""
    from PIL import Image

    pictures = [[Image.open(PICTURES / f"{row['seed']}_{name}.png") for row in rows[:SHOWN]] for name in VARIANTS]
    size = pictures[0][0].width
    canvas = Image.new("RGB", (len(pictures[0]) * (size + 4), len(pictures) * (size + 4)), "white")
    for y, line in enumerate(pictures):
        for x, picture in enumerate(line):
            canvas.paste(picture, (x * (size + 4), y * (size + 4)))
    canvas.save(SHEET)


def run_prompt(server: Server, seed: int, scene) -> dict:
    from referee_core.demo.world import caption

    files = run_demo(server, caption(scene), seed)
    for name in VARIANTS:
        (PICTURES / f"{seed}_{name}.png").write_bytes(files[name])
    row = {"prompt": caption(scene), "seed": seed, **{name: measure(files[name], scene) for name in VARIANTS}}
    print(seed, row["prompt"], {name: row[name]["right"] for name in VARIANTS}, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument(
        "--servers", type=int, default=os.cpu_count(), help="ComfyUIs with one thread each, side by side"
    )
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    comfyui = enter()

    RESULTS.mkdir(exist_ok=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "bindings.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {row["seed"] for row in rows}
    with ExitStack() as stack, path.open("a") as out, ThreadPoolExecutor(args.servers) as pool:
        servers = Queue()
        for _ in range(args.servers):
            base = stack.enter_context(tempfile.TemporaryDirectory())
            servers.put(stack.enter_context(Server(comfyui, Path(base))))

        def job(seed: int, scene) -> dict:
            server = servers.get()
            try:
                return run_prompt(server, seed, scene)
            finally:
                servers.put(server)

        jobs = [pool.submit(job, i, scene) for i, scene in enumerate(prompts(args.prompts)) if i not in done]
        for finished in as_completed(jobs):
            rows.append(finished.result())
            out.write(json.dumps(rows[-1]) + "\n")
            out.flush()
    rows.sort(key=lambda row: row["seed"])
    (RESULTS / "bindings.md").write_text(table(rows) + "\n")
    sheet(rows)
    print(table(rows))


if __name__ == "__main__":
    main()
