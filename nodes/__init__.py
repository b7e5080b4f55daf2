"""The nodes, and the folder their model files live in."""

import os

import folder_paths
from comfy_api.latest import ComfyExtension, io

from .guidance import RefereeGuidance
from .loaders import RefereeConvert, RefereeDemoModels, RefereeLoader
from .losses import RefereeCombineLosses, RefereeLoss
from .plots import RefereeFilmstrip, RefereeGradientView, RefereeHistoryPlot
from .priors import RefereeSDSGuidance
from .referee_can_play import RefereeOptimizer, RefereeSampler
from .regularizers import RefereeAugmentation, RefereeEMARestart
from .rounds import RefereeAdapt, RefereeRounds
from .score import RefereeScore
from .search import RefereeSearch


def register_model_folder() -> None:
    """Add models/referee without losing the folders that extra_model_paths.yaml may already have given."""
    folder_paths.add_model_folder_path("referee", os.path.join(folder_paths.models_dir, "referee"))
    paths, extensions = folder_paths.folder_names_and_paths["referee"]
    folder_paths.folder_names_and_paths["referee"] = (paths, extensions | {".safetensors", ".pth", ".pt", ".bin"})


class RefereeExtension(ComfyExtension):
    async def on_load(self) -> None:
        from .bridge.show.curves import serve

        register_model_folder()
        serve()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            RefereeLoader,
            RefereeConvert,
            RefereeDemoModels,
            RefereeLoss,
            RefereeCombineLosses,
            RefereeAugmentation,
            RefereeSDSGuidance,
            RefereeEMARestart,
            RefereeOptimizer,
            RefereeSampler,
            RefereeScore,
            RefereeGuidance,
            RefereeRounds,
            RefereeAdapt,
            RefereeSearch,
            RefereeHistoryPlot,
            RefereeFilmstrip,
            RefereeGradientView,
        ]
