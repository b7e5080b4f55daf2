"""Runs of methods on several ComfyUI servers side by side; every picture is a row of a file, so that a run can be
stopped at any time and goes on where it was."""

import gzip
import io
import json
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import NamedTuple

from PIL import Image

from referee_core.demo.captions import caption
from referee_core.demo.world import Scene
from referee_core.plots import to_tensor
from scripts.server import Graph, Server
from scripts.workflow import default_of, inputs_of, is_widget
from training.judge import judge

from .methods import Method

MINUTES = 60.0


class Task(NamedTuple):
    """All pictures of one prompt by one method."""

    method: Method
    scene: Scene
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.method.name, caption(self.scene), self.seed


def rows(path: Path) -> list[dict]:
    """What is on file, and kept compressed beside it; a line cut off by a kill is left out."""
    found, packed = [], _packed(path)
    text = gzip.decompress(packed.read_bytes()).decode() if packed.exists() else ""
    for line in (text + (path.read_text() if path.exists() else "")).splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def gather(path: Path) -> list[dict]:
    """All rows on file, those of side-by-side processes included (``name.0.jsonl``), now in the one packed file."""
    found = rows(path)
    for part in sorted(path.parent.glob(f"{path.stem}.*.jsonl")):
        found += rows(part)
        part.unlink()
    pack(path, found)
    return found


def pack(path: Path, found: list[dict]) -> None:
    """Keep these rows compressed, in the same bytes whenever."""
    text = "".join(json.dumps(row) + "\n" for row in found)
    _packed(path).write_bytes(gzip.compress(text.encode(), mtime=0))
    path.unlink(missing_ok=True)


def _packed(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


def play(tasks: Iterable[Task], path: Path, comfyui: Path, servers: int, arguments: tuple[str, ...]) -> None:
    """Do the tasks that are not on file yet, on servers with these arguments, and write their rows."""
    done = {(row["method"], row["prompt"], row["first_seed"]) for row in rows(path)}
    waiting: Queue[Task] = Queue()
    for task in tasks:
        if task.key not in done:
            waiting.put(task)
    if waiting.empty():
        return
    total, began, lock = waiting.qsize(), time.monotonic(), threading.Lock()
    path.parent.mkdir(parents=True, exist_ok=True)

    def work(base: Path) -> None:
        with Server(comfyui, base, arguments) as server:
            known = server.get("/object_info")
            while True:
                try:
                    task = waiting.get_nowait()
                except Empty:
                    return
                note(task, list(pictures(server, known, task)))

    def note(task: Task, made: list[dict]) -> None:
        with lock, path.open("a") as file:
            file.write("".join(json.dumps(row) + "\n" for row in made))
            finished = total - waiting.qsize()
            rate = (time.monotonic() - began) / finished
            left = rate * waiting.qsize() / MINUTES
            print(f"{finished}/{total} · {left:.0f} min left · {task.key[0]}: {task.key[1]}", flush=True)

    with tempfile.TemporaryDirectory() as base:
        threads = [threading.Thread(target=work, args=(Path(base) / str(k),)) for k in range(servers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def completed(graph: Graph, known: dict) -> Graph:
    """The graph with the defaults of the inputs that it leaves out, as the editor fills them in."""
    for node in graph.values():
        inputs = node["inputs"]
        for name, kind, options in inputs_of(known[node["class_type"]]["input"], inputs):
            if is_widget(kind, options):
                inputs.setdefault(name, default_of(kind, options))
    return graph


def pictures(server: Server, known: dict, task: Task) -> Iterator[dict]:
    """One row a picture, by the exact judge and by the referee."""
    method, scene, seed = task
    prompt = caption(scene)
    outputs = server.run(completed(method.graph(prompt, seed, method.pictures), known), seconds=4 * 3600)
    files = [server.image(entry) for output in outputs.values() for entry in output.get("images", [])]
    for number, file in enumerate(files):
        picture = Image.open(io.BytesIO(file))
        (said,) = json.loads(picture.text["referee"]).values()
        verdict, rated = judge(to_tensor(picture)), said["images"][number]
        yield {
            "method": method.name, "category": scene.category, "prompt": prompt, "first_seed": seed,
            "seed": rated["seed"], "match": _short(rated["match"]), "loss": _short(rated["loss"]),
            "right": verdict.right(scene), "seen": str(verdict), "steps": rated["steps"],
        }  # fmt: skip


def _short(value: float | None) -> float | None:
    return value if value is None else float(f"{value:.4g}")
