"""The referee from a Gemma 3, against transformers' own class."""

from contextlib import nullcontext

import torch

from pack.nodes.bridge.language import gemma3
from pack.nodes.bridge.language import model as model_of
from pack.nodes.bridge.language.vision_language import ANSWER, NO, QUESTION, YES, load_vision_language
from programs import small_gemma
from programs.asked_directly import TEXT, by_referee, off_by, pictures, together_and_apart

model = small_gemma.transformers_model()


def by_transformers(tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses [2] and slopes [2, 3, 96, 96]. tokenizer: sentencepiece's own."""

    def words(text: str) -> list[int]:
        return tokenizer.encode(text, add_bos=False)

    picture = [255999, *[262144] * small_gemma.TOKENS, 256000]
    question = words("\n\n" + QUESTION.format(TEXT) + ANSWER)
    ids = [2, 105, *words("user\n\n\n"), *picture, *question, 106, *words("\n"), 105, *words("model\n")]
    ids = torch.tensor([ids])
    yes, no = ([words(word)[0] for word in own] for own in (YES, NO))
    leaf, losses = pictures.clone().requires_grad_(), []
    for pixels in 2 * leaf - 1:
        kinds = (ids == 262144).int()
        logits = model(input_ids=ids, pixel_values=pixels[None], token_type_ids=kinds).logits[0, -1]
        losses.append(-torch.log(logits[yes].exp().sum() / logits[yes + no].exp().sum()))
    (slopes,) = torch.autograd.grad(sum(losses), leaf)
    return torch.stack(losses).detach(), slopes


model_of.MOST_TOKENS = 3
found = {"off": {}, "written": {}, "hooks": 0}
for kind in small_gemma.KINDS:
    with torch.inference_mode():
        clip = small_gemma.as_clip(model, kind)
        loaded = load_vision_language(clip, 448)
    tokenizer = getattr(clip.tokenizer, getattr(clip.tokenizer, "clip", ""), clip.tokenizer)
    expected, expected_slopes = by_transformers(tokenizer.tokenizer.tokenizer)
    found["off"][kind] = off_by(*by_referee(loaded), expected, expected_slopes)
    with torch.inference_mode():
        clip.decode = lambda ids, skip_special_tokens: f"{len(ids)} tokens"  # random ones, beyond the few pieces
        found["written"][kind] = model_of.write(clip, TEXT)
    found["hooks"] += sum(len(layer._forward_pre_hooks) for layer in loaded.referee.network.model.layers)
found["side"] = loaded.referee.image_size
found["slopes"] = expected_slopes.flatten(1).norm(dim=1).tolist()
found["together"] = together_and_apart(loaded)
gemma3.masks_changed = lambda layers, change: nullcontext()
found["off as ComfyUI masks"] = off_by(*by_referee(loaded), expected, expected_slopes)[0]
