"""ComfyUI's dynamic VRAM, where weights come to the card only while they are used: gradients pass all the same.

Everything is ComfyUI's own but the pager of comfy-aimdo, which needs a real card: here it never keeps a page.
"""

import pytest

from comfyui import inside
from scripts.environment import find_comfyui

CODE = f"""
from pack.tests.comfyui import card
vram = card.plug_in()
{inside.PLAYERS}
import comfy.memory_management, comfy.model_patcher, comfy.sd
import comfy_aimdo.host_buffer, comfy_aimdo.model_vbar as vbar
from comfy.cli_args import args
from pack.tests.comfyui.random_checkpoints import autoencoder, fill

class Pages:
    def __init__(self, *size):
        self.size = 0
    def alloc(self, size):
        return self, 0, size
    def prioritize(self):
        pass
    def loaded_size(self):
        return 0
    def free_memory(self, size):
        return 0

args.disable_pinned_memory = True
vbar.ModelVBAR = comfy_aimdo.host_buffer.HostBuffer = Pages
vbar.vbar_fault, vbar.vbar_signature_compare, vbar.vbar_unpin = (lambda *a: None), (lambda *a: False), (lambda *a: None)
weights = {{name: fill(name, t.shape, 0.05).float() for name, t in autoencoder().items()}}

def full_size_vae():
    with torch.inference_mode():
        return comfy.sd.VAE(sd={{name: t.clone() for name, t in weights.items()}}, dtype=torch.float32)

def small():
    return {{"samples": torch.zeros(1, 4, 8, 8)}}

expected = play(full_size_vae(), latent=small())
mm.unload_all_models()
dynamic = comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
comfy.memory_management.aimdo_enabled = True
paged, vae = dynamic(model.model, card.CARD, torch.device("cpu")), full_size_vae()
found["dynamic"] = [paged.is_dynamic(), vae.patcher.is_dynamic()]
for run in ("first", "second"):
    found[run] = (play(vae, prior=replace(prior, model=paged), latent=small()) - expected).abs().max().item()
    found[f"on the card after the {{run}}"] = vram.used
found["paged"] = [sum(hasattr(part, "_v") for part in p.model.modules()) for p in (paged, vae.patcher)]
"""
pytestmark = inside.NEEDS_CARD


@pytest.fixture(scope="module")
def found():
    return inside.run(find_comfyui(), CODE)


def test_paged_models_give_the_same_latent(found):
    assert found["dynamic"] == [True, True] and min(found["paged"]) > 0
    assert found["first"] < 1e-4 and found["second"] < 1e-4


def test_no_copy_of_the_vae_stays_behind(found):
    assert found["on the card after the second"] == found["on the card after the first"]
