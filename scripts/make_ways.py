"""Paint one prompt from one seed in each way, for docs/which_method.md: ``python -m scripts.make_ways --comfyui DIR``.

The example graphs of the pack's small models, each cut down to what its picture needs. Prints a row of a table for
each: what the exact judge sees, and the seconds that it took here, with the models loaded.
"""

import argparse
import tempfile
import time
from pathlib import Path

from . import workflow_notes as notes
from .demo import fill_in, judged
from .graphs.parts import CONFUSED, SEED
from .make_screenshots import IMAGES
from .server import Server
from .workflow import to_api

SIZE = 160
SHOWS = "The result"
WAYS = {  # name: example graph, title of the node that shows the picture, whether Referee Guidance stays in it
    "plain sampling": (notes.GUIDED, "Without the referee", False),
    "search": (notes.SEARCH, SHOWS, False),
    "guidance": (notes.GUIDED, SHOWS, True),
    "search, guided": (notes.SEARCH, SHOWS, True),
    "Referee Can Play": (notes.QUICK, "Result", False),
    "optimized prompt": (notes.PROMPT, SHOWS, False),
}


def graph_of(name: str, title: str, guided: bool, info: dict) -> tuple[dict, str]:
    """The part of an example graph behind the node of this title, with the prompt and seed of all, and its number."""
    graph = to_api(notes.graph(name), info)
    fill_in(graph, CONFUSED, SEED)
    (end,) = (number for number, node in graph.items() if node["_meta"]["title"] == title)
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"] == "KSampler":
            inputs["seed"] = SEED
        if node["class_type"] == "RefereePromptOptimizer":
            inputs["seed"] = SEED + 1000  # other noises than the picture's
        for socket, link in inputs.items():
            if not guided and isinstance(link, list) and graph[link[0]]["class_type"] == "RefereeGuidance":
                inputs[socket] = graph[link[0]]["inputs"]["model"]
    return {number: graph[number] for number in _behind(graph, end)}, end


def _behind(graph: dict, number: str) -> set[str]:
    links = (link[0] for link in graph[number]["inputs"].values() if isinstance(link, list))
    return {number}.union(*(_behind(graph, link) for link in links))


def main() -> None:
    from PIL import Image

    from referee_core.demo.captions import parse
    from referee_core.plots import strip, to_image, to_tensor

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui", type=Path, required=True, help="ComfyUI's folder")
    folder, shown = Path(tempfile.mkdtemp()), []
    with Server(parser.parse_args().comfyui, folder) as server:
        info = server.get("/object_info")
        warm, _ = graph_of(*WAYS["search, guided"], info)
        server.run(warm, seconds=900)
        for way, how in WAYS.items():
            graph, end = graph_of(*how, info)
            began = time.monotonic()
            outputs = server.run(graph, seconds=1800)
            seconds = time.monotonic() - began
            png = server.image(outputs[end]["images"][0])
            (folder / "way.png").write_bytes(png)
            shown.append((way, to_tensor(Image.open(folder / "way.png").convert("RGB"))))
            verdict = judged(png)
            print(f"| {way} | {'right' if verdict.right(parse(CONFUSED)) else 'wrong'}: {verdict} | {seconds:.0f} s |")
    to_image(strip(shown, 3, SIZE)).save(IMAGES / "ways.png")


if __name__ == "__main__":
    main()
