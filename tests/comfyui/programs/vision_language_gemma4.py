"""The referee from a Gemma 4, against transformers' own classes."""

import torch

from pack.nodes.bridge.language import model as model_of
from pack.nodes.bridge.language.vision_language import ANSWER, NO, QUESTION, YES, load_vision_language
from programs import small_gemma4
from programs.asked_directly import SIDE, TEXT, by_referee, off_by, pictures, together_and_apart

found = {"off": {}, "slopes": {}, "side": {}, "together": {}, "written": {}, "hooks": 0}
model_of.MOST_TOKENS = 3


def patches(picture: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture [3, 96, 96] as transformers' processor cuts it, and where each patch is."""
    size = 48 if kind == "unified" else 16
    n = SIDE // size
    cut = picture.reshape(3, n, size, n, size).permute(1, 3, 2, 4, 0).reshape(1, n * n, -1)
    return cut, torch.cartesian_prod(torch.arange(n), torch.arange(n)).flip(1)[None]


def by_transformers(kind: str, tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses [2] and slopes [2, 3, 96, 96]."""
    model = small_gemma4.transformers_model(kind)
    picture = "\n\n<|image>" + "<|image|>" * 4 + "<image|>\n\n"
    thought = "" if kind == "small" else "<|channel>thought\n<channel|>"
    question = QUESTION.format(TEXT) + ANSWER
    ids = tokenizer(f"<bos><|turn>user\n{picture}{question}<turn|>\n<|turn>model\n{thought}")["input_ids"]
    ids = torch.tensor([ids])
    yes, no = ([tokenizer(word)["input_ids"][0] for word in own] for own in (YES, NO))
    leaf, losses = pictures.clone().requires_grad_(), []
    for one in leaf:
        pixels, places = patches(one, kind)
        kinds = (ids == 258880).int()
        logits = model(input_ids=ids, pixel_values=pixels, image_position_ids=places, mm_token_type_ids=kinds).logits[
            0, -1
        ]
        losses.append(-torch.log(logits[yes].exp().sum() / logits[yes + no].exp().sum()))
    (slopes,) = torch.autograd.grad(sum(losses), leaf)
    return torch.stack(losses).detach(), slopes


for kind in small_gemma4.KINDS:
    with torch.inference_mode():
        clip = small_gemma4.as_clip(small_gemma4.transformers_model(kind), kind)
        loaded = load_vision_language(clip, SIDE + 20)
    expected, slopes = by_transformers(kind, clip.tokenizer.gemma4.tokenizer)
    found["off"][kind] = off_by(*by_referee(loaded), expected, slopes)
    found["slopes"][kind] = slopes.flatten(1).norm(dim=1).tolist()
    found["side"][kind] = loaded.referee.image_size
    found["together"][kind] = together_and_apart(loaded)
    with torch.inference_mode():
        found["written"][kind] = model_of.write(clip, TEXT)
    found["hooks"] += sum(len(layer._forward_pre_hooks) for layer in loaded.referee.network.model.layers)
