"""BLIP-2 behind the Referee interface."""

from copy import deepcopy

import pytest
import torch

from referee_core.referees.blip2 import referee as module
from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.model import Blip2, caption_loss, itm_loss
from referee_core.referees.blip2.referee import Blip2Referee
from referee_core.referees.pixels import normalise


def pictures():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_losses_are_those_of_the_networks_heads_one_picture_at_a_time(blip2_referee):
    text, net = blip2_referee.encode("a red cat"), blip2_referee.network
    losses = blip2_referee.losses(blip2_referee.encode_images(pictures()), text, ("itm", "caption"))
    for i, picture in enumerate(pictures().split(1)):
        image = net.encode_image(normalise(picture))
        itm = itm_loss(net.itm_logits(image, text.match_ids, text.mask))
        caption = caption_loss(net.caption_logits(image, text.caption_ids, text.mask), text.caption_ids, text.mask)
        torch.testing.assert_close(losses["itm"][i], itm[0])
        torch.testing.assert_close(losses["caption"][i], caption[0])


def test_only_the_asked_terms_are_computed(blip2_referee):
    text, calls = blip2_referee.encode("a red cat"), []
    blip2_referee.network.qformer.register_forward_hook(lambda *_: calls.append(1))
    for terms in (("itm",), ("caption",), ("itm", "caption")):
        calls.clear()
        assert tuple(blip2_referee.losses(blip2_referee.encode_images(pictures()), text, terms)) == terms
        assert len(calls) == len(terms)


def test_the_network_is_frozen_and_gradients_reach_every_picture(blip2, vocabulary):
    referee = Blip2Referee(blip2.train(), vocabulary)
    images = pictures().requires_grad_()
    losses = referee.losses(referee.encode_images(images), referee.encode("a red cat"), referee.terms)
    for loss in losses.values():
        (gradient,) = torch.autograd.grad(loss.sum(), images, retain_graph=True)
        assert (gradient.flatten(1).norm(dim=1) > 1e-6).all()
    assert not any(p.requires_grad for p in referee.network.parameters())
    assert not any(module.training for module in referee.network.modules())


def test_the_text_matters(blip2_referee):
    texts = (blip2_referee.encode(text) for text in ("a red cat", "a blue cat"))
    red, blue = (
        blip2_referee.losses(blip2_referee.encode_images(pictures()), text, blip2_referee.terms) for text in texts
    )
    for term in blip2_referee.terms:
        assert ((red[term] - blue[term]).abs() > 1e-4).all()


def kept_bytes(referee, checkpointing):
    """What autograd holds on to for one picture, counted by itself; weights not included."""
    referee.checkpointing = checkpointing
    weights = {p.untyped_storage().data_ptr() for p in referee.network.parameters()}
    kept, alive = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    size = referee.image_size
    text = referee.encode("red " * (referee.network.config.max_text_tokens - 2))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        referee.losses(referee.encode_images(torch.rand(1, 3, size, size, requires_grad=True)), text, referee.terms)
    return sum(kept.values())


def test_the_estimate_of_kept_bytes_is_an_upper_bound_and_not_far_off(vocabulary):
    sizes = dict(
        image_size=112, vision_dim=352, vision_depth=6, vision_heads=4, vision_mlp_dim=1536, dim=192, layers=2,
        heads=3, mlp_dim=768
    )  # fmt: skip
    network = Blip2(Blip2Config(vocab_size=len(vocabulary), max_positions=64, **sizes))
    referee = Blip2Referee(network, vocabulary)
    for tower in (torch.float32, torch.bfloat16):
        network.vision.to(tower)
        for checkpointing in (False, True):
            estimate = referee.activation_bytes(checkpointing)
            most = 2.2 if checkpointing else 1.7  # the block at work counts too, and autograd has not met it yet
            assert 1.0 <= estimate / kept_bytes(referee, checkpointing) <= most
        assert referee.activation_bytes(True) < 0.7 * referee.activation_bytes(False)


def test_a_view_of_the_published_size_keeps_about_what_was_measured_on_it(vocabulary):
    config = Blip2Config()
    with torch.device("meta"):
        network = Blip2(config)
        network.vision.to(torch.bfloat16)
    words = vocabulary + [f"word{i}" for i in range(config.vocab_size - len(vocabulary))]
    referee = Blip2Referee(network, words)
    assert referee.activation_bytes(False) / 2**20 == pytest.approx(349, rel=0.1)  # measured without and
    assert referee.activation_bytes(True) / 2**20 == pytest.approx(96, rel=0.3)  # with checkpointing


def test_gradients_survive_a_tower_in_fp16(blip2, vocabulary, monkeypatch):
    """Even where they are far below fp16's smallest number; without the scaling they would be gone."""

    def gradient(network):
        images = pictures().float().requires_grad_()
        judge = Blip2Referee(network, vocabulary)
        loss = judge.losses(judge.encode_images(images), judge.encode("a red cat"), ("itm", "caption"))
        return torch.autograd.grad(1e-7 * (loss["itm"] + loss["caption"]).sum(), images)[0]

    exact = gradient(deepcopy(blip2).float())
    half = deepcopy(blip2).float()
    half.vision.half()
    assert ((gradient(half) - exact).norm() / exact.norm()) < 0.05
    monkeypatch.setattr(module, "HALF_PRECISION_SCALE", 1.0)
    assert ((gradient(half) - exact).norm() / exact.norm()) > 0.2


@pytest.mark.parametrize("qformer", [torch.float32, torch.bfloat16])
def test_a_bf16_tower_judges_nearly_the_same(blip2, vocabulary, qformer):
    exact = Blip2Referee(deepcopy(blip2).float(), vocabulary)
    lower = deepcopy(blip2).to(qformer)
    lower.vision.bfloat16()
    lower = Blip2Referee(lower, vocabulary)
    text = exact.encode("a red cat")
    a, b = (r.losses(r.encode_images(pictures().float()), text, r.terms) for r in (exact, lower))
    for term in exact.terms:
        assert b[term].dtype == torch.float32
        torch.testing.assert_close(b[term], a[term], rtol=0.05, atol=0.05)
