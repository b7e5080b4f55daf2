"""The referee from a Qwen3-VL, against transformers' own class."""

from types import SimpleNamespace

import torch
from comfy.clip_model import clip_preprocess
from comfy.quant_ops import ck
from comfy.sd1_clip import SD1ClipModel
from comfy.sdxl_clip import SDXLClipModel
from comfy.text_encoders import flux, gemma4, lt, lumina2, minimax, qwen_image, sa3, sa_t5, z_image
from comfy_api.latest import io
from server import PromptServer

from pack.nodes.bridge.gradients.block import Network, gradients_through
from pack.nodes.bridge.judging.judge import Judge, Picture
from pack.nodes.bridge.judging.scores import score
from pack.nodes.bridge.language import gemma3
from pack.nodes.bridge.language.model import find_language_model
from pack.nodes.bridge.language.vision_language import load_vision_language
from pack.nodes.decide import RefereeDecide
from pack.nodes.losses import RefereeLoss
from pack.nodes.sockets import LoadedReferee
from programs import small_qwen
from programs.asked_directly import SIDE, TEXT, by_referee, by_transformers, off_by, pictures, together_and_apart

found = {}

for tied in (True, False):
    model = small_qwen.transformers_model(tied)
    with torch.inference_mode():
        clip = small_qwen.as_clip(model, tied)
        loaded = load_vision_language(clip, SIDE)
    tokenizer = clip.tokenizer.tied if tied else clip.tokenizer.untied
    expected, slopes = by_transformers(model, tokenizer.tokenizer)
    losses, g = by_referee(loaded)
    found[f"together {tied}"] = together_and_apart(loaded)
    found["tied" if tied else "untied"] = [
        *off_by(losses, g, expected, slopes),
        slopes.flatten(1).norm(dim=1).tolist(),
    ]

# scores and search, in inference mode, on the untied one
texts = []
PromptServer.instance = SimpleNamespace(send_progress_text=lambda text, node: texts.append(text))
with torch.inference_mode():
    shown = type("Shown", (RefereeLoss,), {"hidden": io.HiddenHolder.from_dict({io.Hidden.unique_id: "1"})})
    (loss,) = shown.execute(loaded, TEXT, 1.0, 1.0).result
    images = pictures.movedim(1, -1)
    scores = score(loss, images)
    judged = Judge(loss)(Picture(torch.zeros(1), images[:1]), torch.Generator().manual_seed(1))
found["scores"] = [scores.matches, expected.tolist(), scores.losses, scores.report().splitlines()]
found["said"] = [*texts]
found["judged"] = [judged.match, judged.loss]
with torch.inference_mode():
    asked = [RefereeDecide.execute(images, loaded, text, 0.5).result for text in (TEXT, "Is there a red circle?")]
    strict = RefereeDecide.execute(images, loaded, TEXT, max(scores.matches)).result
found["asked"] = [asked[0], strict[0], asked[0][2] != asked[1][2]]

# ComfyUI's text models write with out= since 0.33
with torch.inference_mode(), gradients_through(Network(loaded.patcher)):
    leaf, stream = torch.ones(3, requires_grad=True), torch.ones(3)
    x = stream * leaf
    kept = x * x  # needs x as it was
    added = torch.add(kept, 2 * leaf, out=x)
    (slope,) = torch.autograd.grad((added + kept).sum(), leaf)
found["out"] = [added is x, bool((x == 3).all()), slope.tolist()]

# ComfyUI's Gemma 4 turns its queries with a kernel without a backward pass since 0.33
angles = torch.rand(1, 1, 5, 4)
turns = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], -1).unflatten(-1, (2, 2))
before = ck.apply_rope_split_half1
with torch.inference_mode(), gradients_through(Network(loaded.patcher)):
    leaf, weights = torch.rand(1, 2, 5, 8, requires_grad=True), torch.rand(1, 2, 5, 8)
    turned = ck.apply_rope_split_half1(leaf, turns)
    (slope,) = torch.autograd.grad((turned * weights).sum(), leaf)
expected = torch.einsum("bhnkij,bhnik->bhnjk", turns.expand(1, 2, 5, 4, 2, 2), weights.unflatten(-1, (2, 4)))
found["rope"] = [float((slope - expected.flatten(-2)).abs().max()), ck.apply_rope_split_half1 is before]


def message(clip):
    try:
        load_vision_language(clip, SIDE)
    except ValueError as error:
        return str(error)
    return ""


def made(te):
    """A CLIP of ComfyUI's own class at full size, without memory for its weights."""
    return SimpleNamespace(cond_stage_model=te(device="meta", dtype=torch.bfloat16))


state = {
    key: value for key, value in small_qwen.transformers_model(True).state_dict().items() if key != "lm_head.weight"
}
found["refused"] = {
    "qwen3-vl as flux2": message(small_qwen.load(state, "FLUX2")),
    "qwen3-vl as flux": message(small_qwen.load(state, "FLUX")),
    "minimax": message(made(minimax.te())),
    "mistral": message(made(flux.flux2_te())),
    "pruned mistral": message(made(flux.flux2_te(pruned=True))),
    "qwen3-4b": message(made(z_image.te())),
    "klein": message(made(flux.klein_te(model_type="qwen3_4b"))),
    "qwen2.5-vl": message(made(qwen_image.te())),
    "gemma 2": message(made(lumina2.te())),
    "gemma 3 without eyes": message(made(lumina2.te(model_type="gemma3_4b"))),
    "t5gemma": message(made(sa3.SAT5GemmaModel)),
    "t5": message(made(sa_t5.SAT5Model)),
    "clip-l": message(made(SD1ClipModel)),
    "sdxl": message(made(SDXLClipModel)),
}
gemmas = {
    "gemma of ltx": lt.ltxav_te(),
    "gemma 12b": lt.gemma3_te(),
    "gemma 4b": lumina2.te(model_type="gemma3_4b_vision"),
    "gemma 4 e2b": gemma4.gemma4_te(model_class=gemma4.Gemma4_E2B),
    "gemma 4 12b": gemma4.gemma4_te(model_class=gemma4.Gemma4_12B),
    "gemma 4 31b": gemma4.gemma4_te(model_class=gemma4.Gemma4_31B),
}
found["gemmas"] = {name: find_language_model(made(te), sees=True)[1].template for name, te in gemmas.items()}
found["pixels"] = {}
for side in (SIDE, 100, 448):  # the first is the picture's own
    cores = clip_preprocess(images[:1], side, [0.5] * 3, [0.5] * 3)  # as core's Gemma 3 asks for it
    found["pixels"][side] = float((gemma3.pixels(pictures[0], side) - cores).abs().max())
found["taken"] = {
    kind: float(by_referee(load_vision_language(small_qwen.load(state, kind), SIDE))[0][0])
    for kind in ("KREA2", "QWEN_IMAGE", "IDEOGRAM4", "BOOGU", "MAGE", "STABLE_DIFFUSION")
}
try:
    loaded.referee.encode(" ")
except ValueError as error:
    found["empty"] = str(error)
assert isinstance(loaded, LoadedReferee)

# a file without weights for pictures, which ComfyUI loads all the same
with torch.inference_mode():
    blind = load_vision_language(small_qwen.load(state, "KREA2"), SIDE)
    for weight in blind.referee.network.visual.parameters():
        weight.zero_()
    (loss,) = shown.execute(blind, TEXT, 1.0, 0.0).result
    try:
        score(loss, images)
    except ValueError as error:
        found["blind"] = str(error)
