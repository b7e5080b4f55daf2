"""Write the example graphs of workflows/: ``python -m scripts.make_workflows --comfyui ~/ComfyUI``.

The graphs themselves are in graphs/; the schemas come from a running ComfyUI, or from a file: ``--object-info FILE``.
"""

import argparse
import json
import tempfile
from pathlib import Path

from . import workflow_notes as notes
from .graphs import guidance, prompts, referee_can_play, restore, search
from .graphs.parts import EDIT
from .make_subgraph import SUBGRAPHS
from .server import PACK, Server
from .workflow import Workflow

GRAPHS = {
    notes.QUICK: referee_can_play.quick,
    notes.BEST: referee_can_play.best_of_several,
    notes.COMPARISON: referee_can_play.comparison,
    notes.PAPER: lambda w: referee_can_play.optimized(w, notes.PAPER_ABOUT),
    notes.SAMPLER: referee_can_play.sampler_custom_advanced,
    notes.EDIT: lambda w: referee_can_play.optimized(w, notes.EDIT_ABOUT, EDIT),
    notes.INVERSION: lambda w: referee_can_play.optimized(w, notes.INVERSION_ABOUT, prior=False),
    notes.SDS: lambda w: referee_can_play.optimized(w, notes.SDS_ABOUT, referee=False),
    notes.SEARCH: search.search,
    notes.GUIDED: guidance.guided_pair,
    notes.GUIDED_SD15: guidance.guided_sd15,
    notes.GUIDED_FLUX: guidance.guided_flux,
    notes.GUIDED_SDXL: guidance.guided_sdxl,
    notes.GUIDED_QWEN: guidance.guided_qwen_image,
    notes.PROMPT: prompts.optimize_prompt,
    notes.PROMPT_SD15: prompts.optimize_prompt_sd15,
    notes.PROMPTS: prompts.train_prompts,
    notes.SEARCH_Z_IMAGE: search.search_z_image,
    notes.SEARCH_KREA: search.search_krea,
    notes.SEARCH_SDXL: search.search_sdxl,
    notes.RESTORE: restore.restore_demo,
    notes.UPSCALE_SD15: restore.upscale_sd15,
    notes.INPAINT_SD15: restore.inpaint_sd15,
    notes.DEBLUR_SD15: restore.deblur_sd15,
}


def object_info(comfyui: Path) -> dict:
    with tempfile.TemporaryDirectory() as folder, Server(comfyui, Path(folder)) as server:
        return server.get("/object_info")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--comfyui", type=Path, help="ComfyUI's folder; a server is started there and asked")
    source.add_argument("--object-info", type=Path, help="a saved answer of GET /object_info")
    parser.add_argument("--out", type=Path, default=PACK / "workflows")
    args = parser.parse_args()
    info = json.loads(args.object_info.read_text()) if args.object_info else object_info(args.comfyui)
    for name, build in GRAPHS.items():
        workflow = Workflow(name, info)
        build(workflow)
        (args.out / f"{name}.json").write_text(workflow.text(), encoding="utf-8")
        print(f"{name}.json: {len(workflow.nodes)} nodes, {len(workflow.links)} links")
    for subgraph in SUBGRAPHS:
        subgraph.write(info)


if __name__ == "__main__":
    main()
