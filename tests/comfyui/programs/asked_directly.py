"""One question about two pictures: the loss and its slope by the pictures, by a referee and by transformers."""

from typing import Any

import comfy.text_encoders.qwen_vl
import torch

from pack.nodes.bridge.gradients.block import Network, gradients_through
from pack.nodes.bridge.language.chats import CHATS
from pack.nodes.bridge.language.vision_language import ANSWER, NO, QUESTION, TERM, YES
from pack.nodes.sockets import LoadedReferee

SIDE = 96
pictures = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
TEXT = "a red circle"


def by_referee(loaded: LoadedReferee) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses [2] and slopes [2, 3, SIDE, SIDE], as a node gets them: in inference mode."""
    with torch.inference_mode():
        with torch.inference_mode(False):
            text = loaded.referee.encode(TEXT)
        with gradients_through(Network(loaded.patcher)):
            leaf = pictures.clone().requires_grad_()
            losses = loaded.referee.losses(loaded.referee.encode_images(leaf), text, (TERM,))[TERM]
            (slopes,) = torch.autograd.grad(losses.sum(), leaf)
    return losses.detach(), slopes


TEXTS = [TEXT, "a red circle and a blue square", "Is the figure red?"]


def together_and_apart(loaded: LoadedReferee) -> tuple[float, float, int]:
    """Relative differences, of the losses of three questions and of their weighted slope, between one call for all and
    a call for each; and how often the language model was called for a picture."""
    calls = []
    count = loaded.referee.network.model.register_forward_pre_hook(lambda model, args: calls.append(1))
    with torch.inference_mode(), gradients_through(Network(loaded.patcher)):
        questions = [loaded.referee.encode(text) for text in TEXTS]

        def judge(size: int) -> tuple[torch.Tensor, torch.Tensor]:
            leaf = pictures[:1].clone().requires_grad_()
            seen = loaded.referee.encode_images(leaf)
            groups = [questions[i : i + size] for i in range(0, len(questions), size)]
            found = [loaded.referee.losses_of_all(seen, group, [(TERM,)] * len(group)) for group in groups]
            losses = torch.cat([one[TERM] for group in found for one in group])
            (slope,) = torch.autograd.grad(losses @ torch.tensor([1.0, 0.5, -0.3]), leaf)
            return losses.detach(), slope

        apart, slope_apart = judge(1)
        calls.clear()
        losses, slope = judge(len(questions))
    count.remove()
    off = ((losses - apart) / apart).abs().max(), (slope - slope_apart).norm() / slope_apart.norm()
    return float(off[0]), float(off[1]), len(calls)


def by_transformers(
    model: torch.nn.Module, tokenizer: Any, family: str = "Qwen3VL", **statistics: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of transformers' class. tokenizer: transformers' own. statistics: of the pixels, else 0.5 and 0.5."""
    chat = CHATS[family]
    words, token = chat.picture
    words = tokenizer(chat.template.format(picture=words, text=QUESTION.format(TEXT) + ANSWER))["input_ids"]
    place = words.index(token)
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3} | statistics
    yes, no = ([tokenizer(word)["input_ids"][0] for word in own] for own in (YES, NO))
    losses = []
    leaf = pictures.clone().requires_grad_()
    for picture in leaf:
        patches, grid = comfy.text_encoders.qwen_vl.process_qwen2vl_images(
            picture.movedim(0, -1)[None], patch_size=16, **statistics
        )
        count = int(grid.prod()) // 4
        ids = torch.tensor([words[:place] + [token] * count + words[place + 1 :]])
        kinds = (ids == token).int()
        logits = model(input_ids=ids, pixel_values=patches, image_grid_thw=grid, mm_token_type_ids=kinds).logits[0, -1]
        losses.append(-torch.log(logits[yes].exp().sum() / logits[yes + no].exp().sum()))
    (slopes,) = torch.autograd.grad(sum(losses), leaf)
    return torch.stack(losses).detach(), slopes


def off_by(
    losses: torch.Tensor, slopes: torch.Tensor, expected: torch.Tensor, expected_slopes: torch.Tensor
) -> tuple[float, float]:
    """Relative differences, the larger of the two pictures': of the loss and of its slope."""
    pairs = zip(slopes, expected_slopes, strict=True)
    return float(((losses - expected) / expected).abs().max()), max(float((a - b).norm() / b.norm()) for a, b in pairs)
