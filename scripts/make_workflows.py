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
from .graphs.ready import ready_flux, ready_qwen_image, ready_sd15, ready_sdxl
from .server import PACK, Server
from .subgraphs import SUBGRAPHS
from .workflow import Workflow

GRAPHS = {
    notes.SEARCH: search.search,
    notes.SEARCH_SD15: lambda w: search.search_ready(w, ready_sd15(w, notes.SEARCH_SD15_ABOUT)),
    notes.SEARCH_SDXL: lambda w: search.search_ready(w, ready_sdxl(w, notes.SEARCH_SDXL_ABOUT)),
    notes.SEARCH_FLUX: lambda w: search.search_ready(w, ready_flux(w, notes.SEARCH_FLUX_ABOUT)),
    notes.ASKED_SDXL: search.asked_sdxl,
    notes.ASKED_Z_IMAGE: search.asked_z_image,
    notes.ASKED_KREA: search.asked_krea,
    notes.GUIDED: guidance.guided_pair,
    notes.GUIDED_SD15: lambda w: guidance.guided(w, ready_sd15(w, notes.GUIDED_SD15_ABOUT)),
    notes.GUIDED_SDXL: lambda w: guidance.guided(w, ready_sdxl(w, notes.GUIDED_SDXL_ABOUT)),
    notes.GUIDED_FLUX: lambda w: guidance.guided(w, ready_flux(w, notes.GUIDED_FLUX_ABOUT)),
    notes.GUIDED_QWEN: lambda w: guidance.guided(w, ready_qwen_image(w, notes.GUIDED_QWEN_ABOUT)),
    notes.QUICK: referee_can_play.quick,
    notes.BEST: referee_can_play.best_of_several,
    notes.COMPARISON: referee_can_play.comparison,
    notes.PAPER: lambda w: referee_can_play.optimized(w, notes.PAPER_ABOUT),
    notes.SAMPLER: referee_can_play.sampler_custom_advanced,
    notes.EDIT: lambda w: referee_can_play.optimized(w, notes.EDIT_ABOUT, EDIT),
    notes.INVERSION: lambda w: referee_can_play.optimized(w, notes.INVERSION_ABOUT, prior=False),
    notes.SDS: lambda w: referee_can_play.optimized(w, notes.SDS_ABOUT, referee=False),
    notes.PROMPT: prompts.optimize_prompt,
    notes.PROMPT_SD15: prompts.optimize_prompt_sd15,
    notes.PROMPTS: prompts.train_prompts,
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
    for subgraph in SUBGRAPHS:
        subgraph.write(info)
    for name, build in GRAPHS.items():
        workflow = Workflow(name, info)
        build(workflow)
        workflow.fold()
        (args.out / f"{name}.json").write_text(workflow.text(), encoding="utf-8")
        print(f"{name}.json: {len(workflow.nodes)} nodes, {len(workflow.links)} links")


if __name__ == "__main__":
    main()
