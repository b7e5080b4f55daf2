"""The demo's networks fit each other and the world's words."""

import itertools

import pytest
import torch

from referee_core.demo.captions import caption
from referee_core.demo.models import (
    MAX_TEXT_TOKENS,
    REFEREE,
    VOCABULARY,
    build_text_encoder,
    build_unet,
    build_vae,
    prompt_ids,
)
from referee_core.demo.world import CATEGORIES, SIZE, Scene, scenes
from referee_core.referees.blip2.model import Blip2
from referee_core.referees.blip2.text import Tokenizer

LONGEST = caption(Scene((("orange", "triangle"), ("orange", "cross"), ("blue", "circle"))))


def test_every_caption_is_known_and_fits():
    tokenizer = Tokenizer(VOCABULARY, REFEREE.max_text_tokens)
    for category, held_out in itertools.product(CATEGORIES, (False, True)):
        for scene in scenes(category, held_out):
            encoded = tokenizer.encode(caption(scene))
            words = " ".join(VOCABULARY[i] for i in encoded.match_ids[0, 1:-1])
            assert words.replace(" ,", ",") == caption(scene) and encoded.cut == ""


def test_prompts_are_padded_with_the_end_token():
    rows = prompt_ids(["a red circle", LONGEST, ""])
    assert rows.shape == (3, MAX_TEXT_TOKENS)
    for row, text in zip(rows, ("a red circle", LONGEST, ""), strict=True):
        words = ["[CLS]", *text.replace(",", " ,").split(), "[SEP]"]
        assert [VOCABULARY[i] for i in row] == words + ["[SEP]"] * (MAX_TEXT_TOKENS - len(words))


def test_prompts_that_are_too_long_are_cut():
    row = prompt_ids(["red " * 100])[0]
    assert [VOCABULARY[i] for i in row] == ["[CLS]", *["red"] * (MAX_TEXT_TOKENS - 2), "[SEP]"]


@torch.no_grad()
def test_the_diffusion_networks_fit_each_other_and_the_picture():
    vae, unet, text_encoder = build_vae(), build_unet(), build_text_encoder()
    context = text_encoder(prompt_ids([LONGEST])).last_hidden_state
    latent = vae.encode(torch.zeros(1, 3, SIZE, SIZE)).latent_dist.mode()
    assert latent.shape == (1, 4, SIZE // 8, SIZE // 8)
    assert unet(latent, 500, encoder_hidden_states=context).sample.shape == latent.shape
    assert vae.decode(latent).sample.shape == (1, 3, SIZE, SIZE)


def test_the_referee_reads_the_worlds_pictures_and_words():
    network = Blip2(REFEREE)
    ids = torch.tensor([[VOCABULARY.index(w) for w in ("[DEC]", *LONGEST.replace(",", " ,").split(), "[SEP]")]])
    image = network.encode_image(torch.zeros(1, 3, SIZE, SIZE))
    logits = network.caption_logits(image, ids, torch.ones_like(ids, dtype=torch.bool))
    assert logits.shape == (1, ids.shape[1], len(VOCABULARY))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(2.5e6, rel=0.1)
