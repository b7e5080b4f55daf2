"""The nodes, and the folders their files live in."""

import os
from contextlib import suppress

import folder_paths
from comfy_api.latest import ComfyExtension, io

from .decide import RefereeDecide
from .guidance import RefereeGuidance
from .loaders import RefereeConvert, RefereeDemoModels, RefereeFromVLM, RefereeLoader
from .losses import RefereeCombineLosses, RefereeLoss, RefereeStatements
from .measurement import RefereeDegrade, RefereeMeasurement
from .plots import RefereeFilmstrip, RefereeGradientView, RefereeHistoryPlot
from .priors import RefereeSDSGuidance
from .prompt_files import RefereeApplyPrompt, RefereeLoadPrompt, RefereeSavePrompt
from .prompts import RefereePromptOptimizer, RefereePromptTrainer
from .referee_can_play import RefereeOptimizer, RefereeSampler
from .regularizers import RefereeAugmentation, RefereeEMARestart
from .restore import RefereeInverseSampler, RefereeResidual
from .rounds import RefereeAdapt, RefereeRounds
from .score import RefereeScore
from .search import RefereeSearch
from .sockets import PROMPTS
from .variation import RefereeVariation

FOLDERS = {"referee": {".safetensors", ".pth", ".pt", ".bin"}, PROMPTS: {".safetensors"}}
"""Of ComfyUI's models, with the names' endings."""


def register_model_folders() -> None:
    """Add the folders without losing those that extra_model_paths.yaml may already have given, and make them where that
    is allowed: so a user sees where files go."""
    for name, endings in FOLDERS.items():
        folder = os.path.join(folder_paths.models_dir, name)
        folder_paths.add_model_folder_path(name, folder)
        with suppress(OSError):
            os.makedirs(folder, exist_ok=True)
        paths, extensions = folder_paths.folder_names_and_paths[name]
        folder_paths.folder_names_and_paths[name] = (paths, extensions | endings)


class RefereeExtension(ComfyExtension):
    async def on_load(self) -> None:
        from .bridge.show.curves import serve

        register_model_folders()
        serve()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            RefereeLoader,
            RefereeConvert,
            RefereeDemoModels,
            RefereeFromVLM,
            RefereeLoss,
            RefereeStatements,
            RefereeCombineLosses,
            RefereeAugmentation,
            RefereeSDSGuidance,
            RefereeEMARestart,
            RefereeOptimizer,
            RefereeSampler,
            RefereeScore,
            RefereeDecide,
            RefereeGuidance,
            RefereeRounds,
            RefereeAdapt,
            RefereeSearch,
            RefereeVariation,
            RefereeMeasurement,
            RefereeDegrade,
            RefereeInverseSampler,
            RefereeResidual,
            RefereePromptOptimizer,
            RefereePromptTrainer,
            RefereeSavePrompt,
            RefereeLoadPrompt,
            RefereeApplyPrompt,
            RefereeHistoryPlot,
            RefereeFilmstrip,
            RefereeGradientView,
        ]
