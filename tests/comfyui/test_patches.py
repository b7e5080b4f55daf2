"""Patches of the model under score distillation: a prediction asked after others equals the one asked first, or the run
is refused, or the log names the patch. Core's own nodes on the demo model; stand-ins for other packs' ways to remember.
"""

from dataclasses import dataclass

import pytest

from comfyui import inside
from scripts.server import PACK

SAME, REFUSED, WARNED = "same", "refused", "warned"


@dataclass(frozen=True)
class Patch:
    """Whether a patched model's plain answer depends on the last call, and what becomes of it here."""

    remembers: bool = False
    outcome: str = SAME


PATCHES = {
    "EasyCache": Patch(remembers=True),
    "LazyCache": Patch(remembers=True),
    "Adaptive Projected Guidance": Patch(remembers=True),
    "Hook keyframes": Patch(remembers=True),
    "Context windows": Patch(),
    "Self-Attention Guidance": Patch(),
    "Perturbed-Attention Guidance": Patch(),
    "HyperTile": Patch(),
    "Token merging": Patch(),
    "FreeU": Patch(),
    "FreeU_V2": Patch(),
    "PatchModelAddDownscale": Patch(),
    "RescaleCFG": Patch(),
    "FreSca": Patch(),
    "Tangential Damping CFG": Patch(),
    "Positive-Biased Guidance": Patch(),
    "CFGZeroStar": Patch(),
    "CFGNorm": Patch(),
    "Epsilon Scaling": Patch(),
    "Temporal Score Rescaling": Patch(),
    "Normalized Attention Guidance": Patch(),
    "Skip Layer Guidance": Patch(),
    "LatentApplyOperationCFG": Patch(),
    "UNetSelfAttentionMultiply": Patch(),
    "torch.compile": Patch(),
    "Differential Diffusion": Patch(outcome=REFUSED),
    "a closure (Automatic CFG, WaveSpeed)": Patch(remembers=True),
    "an object (Tiled Diffusion, Dynamic Thresholding)": Patch(remembers=True),
    "CFG Zero Star/Init without zero-init": Patch(),
    "CFG Zero Star/Init": Patch(outcome=REFUSED),
    "SpotDiffusion": Patch(outcome=REFUSED),
    "TeaCache": Patch(outcome=WARNED),
    "AnimateDiff": Patch(outcome=WARNED),
}


@pytest.fixture(scope="module")
def asked():
    return inside.run("patches")


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_answers_as_if_asked_first_or_is_named(asked, name):
    patch, seen = PATCHES[name], asked[name]
    if patch.outcome == REFUSED:
        assert "'model' has " in seen["error"] and "does not go with score distillation" in seen["error"]
        return
    assert seen["off"] < inside.ROUNDING
    assert (seen["plain"] > 1e-2) == patch.remembers, "whether it needs help"
    assert bool(seen["log"]) == (patch.outcome == WARNED)
    assert all(name in line for line in seen["log"])


def test_keyframes_of_hooks_follow_the_noise_level(asked):
    early, late, *apart = asked["keyframes"]
    assert max(early, late) < inside.ROUNDING
    assert min(apart) > 1e-2, "the LoRA acts"


@pytest.mark.parametrize("name", PATCHES)
def test_the_page_about_models_lists_the_patch(name):
    assert name in (PACK / "docs" / "models.md").read_text()
