"""Statements that a language model writes: a narrow Qwen3, as Z-Image's encoder, that has learned what to answer."""

from functools import partial
from types import SimpleNamespace

import comfy.sd
import torch
from comfy.sd1_clip import SD1ClipModel
from comfy.text_encoders import llama, z_image
from comfy_api.latest import io
from server import PromptServer

from pack.nodes.losses import RefereeStatements
from pack.nodes.sockets import LoadedReferee
from pack.referee_core.referees.base import RefereeBase

TEXT = "deux cercles rouges à gauche d'une étoile"
LINES = ["deux cercles rouges", "une étoile", "deux cercles rouges à gauche d'une étoile"]
ANSWERS = {TEXT: "Les phrases :\n- " + "\n- ".join(LINES), "nothing to say": ""}
CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
SIZES = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1)


class Words(RefereeBase):
    """Judges nothing; keeps what it is asked."""

    terms, probability = ("yes",), "yes"

    def encode(self, text):
        return SimpleNamespace(text=text)

    def losses(self, seen, text, terms):
        return {"yes": seen.mean((1, 2, 3))}


def learned(tokenizer) -> torch.nn.Module:
    """transformers' Qwen3, trained until it gives these answers."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from pack.referee_core.statements import ASKED

    torch.manual_seed(0)
    config = Qwen3Config(**SIZES, head_dim=128, vocab_size=151936, rope_theta=1e6, tie_word_embeddings=True)
    model = Qwen3ForCausalLM(config)
    model.model.embed_tokens.weight.data.normal_(std=0.125)
    model.model.embed_tokens.weight.requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=6e-3)
    rows = []
    for text, answer in ANSWERS.items():
        asked = tokenizer(CHAT.format(ASKED.format(text)))["input_ids"]
        rows.append((asked, tokenizer(answer)["input_ids"] + [151645]))
    for step in range(120):
        asked, answer = rows[step % len(rows)]
        ids = torch.tensor([asked + answer])
        hidden = model.model(input_ids=ids).last_hidden_state[0, len(asked) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden), ids[0, len(asked) :])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def as_clip() -> comfy.sd.CLIP:
    """Z-Image's encoder with its weights."""
    llama.Qwen3_4BConfig = partial(llama.Qwen3_4BConfig, **SIZES)
    target = SimpleNamespace(clip=z_image.te(), tokenizer=z_image.ZImageTokenizer, params={})
    clip = comfy.sd.CLIP(target, parameters=0, model_options={"dtype": torch.float32})
    state = learned(clip.tokenizer.qwen3_4b.tokenizer).state_dict()
    del state["lm_head.weight"]
    missing, unexpected = clip.cond_stage_model.qwen3_4b.transformer.load_state_dict(state, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    return clip


found, shown = {}, []
PromptServer.instance = SimpleNamespace(send_progress_text=lambda text, node: shown.append(text))
with torch.inference_mode(False):
    clip = as_clip()
node = type("Shown", (RefereeStatements,), {"hidden": io.HiddenHolder.from_dict({io.Hidden.unique_id: "1"})})
referee = LoadedReferee(Words(), clip.patcher)
with torch.inference_mode():
    for name, given in {
        "by model": (TEXT, "", 1.0, clip),
        "again": (TEXT, "", 1.0, clip),
        "by rules": (TEXT, "", 1.0),
        "own lines": (TEXT, "a cat", 1.0, clip),
        "no answer": ("nothing to say", "", 1.0, clip),
    }.items():
        shown.clear()
        found[name] = [node.execute(referee, *given).result[1], *shown]
    try:
        node.execute(referee, TEXT, "", 1.0, SimpleNamespace(cond_stage_model=SD1ClipModel(device="meta")))
    except ValueError as error:
        found["refused"] = str(error)
