"""The referee from a Qwen3-VL, against transformers' own class."""

from types import SimpleNamespace

import comfy.sd
import comfy.text_encoders.qwen_vl
import torch

from pack.nodes.bridge.gradients.block import Network, gradients_through
from pack.nodes.bridge.judging.judge import Judge, Picture
from pack.nodes.bridge.judging.scores import score
from pack.nodes.bridge.models.vision_language import ANSWER, CHAT, QUESTION, load_vision_language
from pack.nodes.decide import RefereeDecide
from pack.nodes.losses import RefereeLoss
from pack.nodes.sockets import LoadedReferee
from pack.referee_core.losses import bind
from programs import small_qwen

found = {}
SIDE = 96
pictures = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
TEXT = "a red circle"


def expected(model, tokenizer, picture):
    """Yes against no by transformers, with the gradient by the picture."""
    ids = tokenizer(CHAT.format(QUESTION.format(TEXT) + ANSWER))["input_ids"]
    leaf = picture.clone().requires_grad_()
    patches, grid = comfy.text_encoders.qwen_vl.process_qwen2vl_images(
        leaf.movedim(0, -1)[None], patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    place, count = ids.index(151655), int(grid.prod()) // 4
    ids = torch.tensor([ids[:place] + [151655] * count + ids[place + 1 :]])
    kinds = (ids == 151655).int()
    out = model(input_ids=ids, pixel_values=patches, image_grid_thw=grid, mm_token_type_ids=kinds)
    logits = out.logits[0, -1]
    words = [["Yes", "yes", "YES", " Yes", " yes"], ["No", "no", "NO", " No", " no"]]
    yes, no = (logits[[tokenizer(word)["input_ids"][0] for word in own]].logsumexp(0) for own in words)
    loss = -torch.log(yes.exp() / (yes.exp() + no.exp()))
    (g,) = torch.autograd.grad(loss, leaf)
    return loss.item(), g


for tied in (True, False):
    model = small_qwen.transformers_model(tied)
    with torch.inference_mode():
        clip = small_qwen.as_clip(model, tied)
        loaded = load_vision_language(clip, SIDE)
    tokenizer = clip.tokenizer.tied if tied else clip.tokenizer.untied
    pairs = [expected(model, tokenizer.tokenizer, picture) for picture in pictures]
    with torch.inference_mode():
        with torch.inference_mode(False):
            bound = bind(loaded.referee, TEXT, yes=1.0).bound[0]
        with gradients_through(Network(loaded.patcher)):
            leaf = pictures.clone().requires_grad_()
            losses = loaded.referee.losses(loaded.referee.encode_images(leaf), bound.text, ("yes",))["yes"]
            (g,) = torch.autograd.grad(losses.sum(), leaf)
    off = [abs(float(a) - b) / abs(b) for a, (b, _) in zip(losses, pairs, strict=True)]
    slopes = [float((a - b).norm() / b.norm()) for a, (_, b) in zip(g, pairs, strict=True)]
    found["tied" if tied else "untied"] = [max(off), max(slopes), [float(b.norm()) for _, b in pairs]]

# scores and search, in inference mode, on the untied one
with torch.inference_mode():
    (loss,) = RefereeLoss.execute(loaded, TEXT, 1.0, 1.0).result
    images = pictures.movedim(1, -1)
    scores = score(loss, images)
    judged = Judge(loss)(Picture(torch.zeros(1), images[:1]), torch.Generator().manual_seed(1))
found["scores"] = [scores.matches, [b for b, _ in pairs], scores.losses, scores.report().splitlines()]
found["judged"] = [judged.match, judged.loss]
with torch.inference_mode():
    asked = [RefereeDecide.execute(images, loaded, text, 0.5).result for text in (TEXT, "Is there a red circle?")]
    strict = RefereeDecide.execute(images, loaded, TEXT, max(scores.matches)).result
found["asked"] = [asked[0], strict[0], asked[0][2] != asked[1][2]]


def message(clip):
    try:
        load_vision_language(clip, SIDE)
    except ValueError as error:
        return str(error)
    return ""


def pretend(**network):
    """A CLIP whose language model has only these members."""
    inner = SimpleNamespace(transformer=SimpleNamespace(**network))
    return SimpleNamespace(cond_stage_model=SimpleNamespace(clip="x", x=inner))


real = clip.cond_stage_model.untied.transformer
members = {n: getattr(real, n) for n in ("preprocess_embed", "build_image_inputs", "logits", "visual", "model")}
Qwen25_7BVLI_Config = type("Qwen25_7BVLI_Config", (), {})
from programs.players import clip as text_only  # noqa: E402

found["refused"] = {
    "text": message(text_only),
    "no head": message(pretend(**members | {"model": SimpleNamespace(config=Qwen25_7BVLI_Config())})),
    "cut": message(pretend(**members | {"model": SimpleNamespace(config=SimpleNamespace(final_norm=False))})),
    "flux": message(pretend(preprocess_embed=0, logits=0, model=real.model)),
}
try:
    loaded.referee.encode(" ")
except ValueError as error:
    found["empty"] = str(error)
assert isinstance(loaded, LoadedReferee)
