"""BLIP-2 behind the Referee interface."""

import torch

from referee_core.blip2.model import caption_loss, itm_loss
from referee_core.blip2.referee import Blip2Referee
from referee_core.referee import normalise


def pictures():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_losses_are_those_of_the_networks_heads_one_picture_at_a_time(blip2_referee):
    text, net = blip2_referee.encode("a red cat"), blip2_referee.network
    losses = blip2_referee.losses(pictures(), text, ("itm", "caption"))
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
        assert tuple(blip2_referee.losses(pictures(), text, terms)) == terms
        assert len(calls) == len(terms)


def test_the_network_is_frozen_and_gradients_reach_every_picture(blip2, vocabulary):
    referee = Blip2Referee(blip2.train(), vocabulary)
    images = pictures().requires_grad_()
    losses = referee.losses(images, referee.encode("a red cat"), referee.terms)
    for loss in losses.values():
        (gradient,) = torch.autograd.grad(loss.sum(), images, retain_graph=True)
        assert (gradient.flatten(1).norm(dim=1) > 1e-6).all()
    assert not any(p.requires_grad for p in referee.network.parameters())
    assert not any(module.training for module in referee.network.modules())


def test_the_text_matters(blip2_referee):
    texts = (blip2_referee.encode(text) for text in ("a red cat", "a blue cat"))
    red, blue = (blip2_referee.losses(pictures(), text, blip2_referee.terms) for text in texts)
    for term in blip2_referee.terms:
        assert ((red[term] - blue[term]).abs() > 1e-4).all()
