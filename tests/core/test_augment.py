"""Augmentation: what each map does to a picture, where its gradients go, and where its randomness comes from."""

import random
from dataclasses import replace

import kornia.augmentation as K
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from referee_core.augment import NONE, PAPER, REFERENCE_CODE, Augmentation

STRENGTHS = {
    "rotation": 30.0,
    "translation": 0.1,
    "perspective": 0.2,
    "colour": 0.1,
    "erasing": 0.4,
    "noise": 0.1,
    "extra_noise": 0.2,
    "flip": True,
    "crop": 0.3,
}
SIZE = 33


def only(name: str) -> Augmentation:
    return replace(NONE, **{name: STRENGTHS[name]})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, size: int = 16) -> torch.Tensor:
    """Random pictures of middling brightness."""
    return 0.3 + 0.4 * torch.rand(count, 3, size, size, generator=generator(99), dtype=torch.float64)


def dot(x: float, y: float) -> torch.Tensor:
    """A soft bright dot; x and y count pixels from the middle."""
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    return (-((axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2) / 8).exp().expand(1, 3, -1, -1)


def centre(views: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Brightness-weighted mean x and y of each view, in pixels from the middle."""
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    light = views.mean(1) / views.mean(1).sum((1, 2), keepdim=True)
    return (light * axis).sum((1, 2)), (light * axis[:, None]).sum((1, 2))


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_map_alone_carries_the_right_gradient_to_every_picture(name):
    images = pictures(24)
    direction, weights = torch.randn(2, *images.shape, generator=generator(1), dtype=torch.float64)

    def value(x):
        return (only(name)(x, generator(2)) * weights).sum()

    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(value(leaf), leaf)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    h = 1e-6
    slope = (value(images + h * direction) - value(images - h * direction)) / (2 * h)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", STRENGTHS)
def test_each_map_alone_changes_pictures_and_no_two_alike(name):
    images = pictures(1).expand(24, -1, -1, -1)
    views = only(name)(images, generator())
    assert views.shape == images.shape
    changed = [v for v, x in zip(views, images, strict=True) if not torch.allclose(v, x)]
    assert changed, "the map is not applied at all"
    if name == "flip":
        mirror = images[0].flip(-1)
        assert all(torch.allclose(v, mirror) for v in changed) and 0 < len(changed) < 24
    else:
        assert not any(torch.equal(a, b) for i, a in enumerate(changed) for b in changed[:i])


@pytest.mark.parametrize("augmentation", [PAPER, REFERENCE_CODE, replace(PAPER, flip=True, crop=0.5)])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_gradients_stay_finite_on_flat_pictures(augmentation, level):
    """Hue has no direction on greys and no value on black."""
    leaf = torch.full((12, 3, 16, 16), level).requires_grad_()
    (gradient,) = torch.autograd.grad(augmentation(leaf, generator()).square().sum(), leaf)
    assert torch.isfinite(gradient).all()


def test_all_strengths_0_is_the_identity():
    images = pictures(5)
    assert torch.equal(NONE(images, generator()), images)


def test_the_generator_is_the_only_source_of_randomness_and_the_global_ones_are_left_alone():
    augmentation, images = replace(PAPER, flip=True, crop=0.2, extra_noise=0.1), pictures(6)
    torch.manual_seed(1)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = augmentation(images, generator(7))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]
    torch.manual_seed(2)
    assert torch.equal(augmentation(images, generator(7)), first)
    assert not torch.equal(augmentation(images, generator(8)), first)


def test_a_generator_moves_on_from_call_to_call():
    stream, images = generator(), pictures(3)
    assert not torch.equal(PAPER(images, stream), PAPER(images, stream))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_random_state_of_the_gpu_is_left_alone():
    torch.cuda.manual_seed_all(5)
    before = torch.cuda.get_rng_state()
    PAPER(pictures(3).cuda(), generator())
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_rotation_is_in_degrees_about_the_middle():
    x, y = centre(only("rotation")(dot(8, 0).expand(64, -1, -1, -1), generator()))
    assert torch.hypot(x, y) == pytest.approx(torch.full((64,), 8.0), abs=0.2)
    angles = torch.rad2deg(torch.atan2(y, x))
    assert angles.abs().max() < 30.5
    assert angles.max() > 20 and angles.min() < -20


def test_translation_is_a_share_of_the_side():
    x, y = centre(only("translation")(dot(0, 0).expand(64, -1, -1, -1), generator()))
    for shift in (x, y):
        assert shift.abs().max() < 0.1 * SIZE + 0.1
        assert shift.max() > 0.06 * SIZE and shift.min() < -0.06 * SIZE


@pytest.mark.parametrize(("name", "probability"), [("perspective", 0.4), ("colour", 0.5), ("flip", 0.5)])
def test_some_maps_act_on_a_share_of_the_views(name, probability):
    images = pictures(1, size=8).expand(400, -1, -1, -1)
    moved = (only(name)(images, generator()) - images).flatten(1).norm(dim=1) > 1e-6
    assert moved.double().mean() == pytest.approx(probability, abs=0.08)


def test_colour_changes_no_position():
    """A picture of one colour stays a picture of one colour."""
    images = torch.tensor([0.7, 0.4, 0.2]).view(1, 3, 1, 1).expand(32, -1, 8, 8)
    views = only("colour")(images, generator())
    torch.testing.assert_close(views, views[:, :, :1, :1].expand_as(views))


def test_erasing_paints_one_black_box_of_at_most_its_share():
    views = only("erasing")(torch.ones(64, 3, 32, 32), generator())
    shares = []
    for view in views:
        assert torch.equal(view[0], view[1]) and torch.equal(view[0], view[2])
        assert set(view.unique().tolist()) == {0.0, 1.0}
        rows, columns = (view[0] == 0).any(1).nonzero(), (view[0] == 0).any(0).nonzero()
        box = view[0, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (box == 0).all()
        shares.append(box.numel() / 32**2)
    assert max(shares) < 0.4 + 0.05 and min(shares) > 0.4 / 4 - 0.05  # boxes are rounded to whole pixels
    assert max(shares) - min(shares) > 0.15


def test_shared_erasing_is_one_box_for_all_views():
    images = torch.ones(16, 3, 32, 32)
    own = only("erasing")(images, generator())
    shared = replace(only("erasing"), shared_erasing=True)(images, generator())
    assert (shared[0] == 0).any()
    assert torch.equal(shared, shared[:1].expand_as(shared))
    assert not torch.equal(own, own[:1].expand_as(own))


def test_each_view_draws_its_own_spread_of_noise():
    spreads = only("noise")(torch.full((200, 3, 32, 32), 0.5), generator()).flatten(1).std(dim=1)
    assert spreads.max() < 0.1 * 1.05
    assert spreads.mean() == pytest.approx(0.05, abs=0.008)  # U(0, 0.1)
    assert spreads.std() == pytest.approx(0.1 / 12**0.5, abs=0.005)


def test_extra_noise_is_added_to_every_view_independently():
    images = torch.full((50, 3, 32, 32), 0.5)
    spreads = only("extra_noise")(images, generator()).flatten(1).std(dim=1)
    assert spreads == pytest.approx(torch.full((50,), 0.2), rel=0.1)
    both = replace(only("noise"), extra_noise=0.2)(images, generator()).flatten(1).var(dim=1)
    expected = 0.2**2 + 0.1**2 / 3  # variances add; E[U(0, 0.1)^2] = 0.1^2 / 3
    assert both.mean() == pytest.approx(expected, rel=0.05)


def test_crop_zooms_in_by_at_most_its_share_and_stays_inside():
    ramp = torch.linspace(0, 1, SIZE).expand(64, 3, SIZE, SIZE)
    views = only("crop")(ramp, generator())[:, 0, SIZE // 2]
    inner = views[:, 2:-2]
    scale = (inner[:, -1] - inner[:, 0]) / (ramp[0, 0, 0, -3] - ramp[0, 0, 0, 2])
    assert scale.max() <= 1 + 1e-5 and scale.min() >= 0.7 - 1e-5
    assert scale.max() > 0.95 and scale.min() < 0.75
    assert views.min() >= 0 and views.max() <= 1


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 4, "keep": 5}, {"keep": -1}])
def test_impossible_counts_are_refused(wrong):
    with pytest.raises(ValueError, match="count|keep"):
        Augmentation(**wrong)


def test_the_paper_neither_flips_nor_crops_and_draws_30_views():
    assert PAPER.count == 30 and not PAPER.flip and not PAPER.crop
    assert REFERENCE_CODE.count == 10 and REFERENCE_CODE.extra_noise == 0.2 and not REFERENCE_CODE.flip


def kornias(a: Augmentation) -> torch.nn.Module:
    """The same maps by kornia's modules, one after the other, as its users and the authors of the paper have them."""
    maps = [K.RandomHorizontalFlip(p=0.5)] if a.flip else []
    if a.rotation or a.translation:
        shift = (a.translation, a.translation) if a.translation else None
        maps.append(K.RandomAffine(a.rotation, translate=shift, p=1.0))
    if a.perspective:
        maps.append(K.RandomPerspective(a.perspective, p=0.4))
    if a.colour:
        maps.append(K.ColorJitter(*[a.colour] * 4, p=0.5))
    if a.erasing:
        maps.append(
            K.RandomErasing(scale=(a.erasing / 4, a.erasing), ratio=(0.3, 3.3), p=1.0, same_on_batch=a.shared_erasing)
        )
    return torch.nn.Sequential(*maps)


def moments(draw, calls: int = 150, views: int = 40) -> torch.Tensor:
    """Means and second moments of a coarse look at the views of each call, [calls, moments]: what a call's views share
    must not count as many draws."""
    found = []
    for _ in range(calls):
        seen = F.avg_pool2d(draw(views), 4).flatten(1)
        found.append(torch.cat([seen.mean(0), (seen.T @ seen / len(seen)).flatten()]))
    return torch.stack(found).double()


DISTRIBUTIONS = {
    "affine": replace(NONE, rotation=30, translation=0.1),
    "perspective": only("perspective"),
    "colour": only("colour"),
    "strong colour": replace(NONE, colour=0.5),
    "erasing": only("erasing"),
    "shared erasing": replace(only("erasing"), shared_erasing=True),
    "all": replace(PAPER, flip=True, noise=0),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_views_are_distributed_as_kornias(name):
    """Means and covariances of 6000 views of a picture of saturated colours, in units of their standard error."""
    a = DISTRIBUTIONS[name]
    axis = torch.arange(16) / 16
    picture = torch.stack(
        [(4 * axis).sin().expand(16, 16), axis[:, None].expand(16, 16), (5 * axis[:, None] * axis).cos()]
    )
    picture = picture.clamp(0, 1).expand(40, -1, -1, -1)
    stream, modules = generator(3), kornias(a)
    ours = moments(lambda _: a(picture, stream))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        theirs = moments(lambda _: modules(picture))
    error = ((ours.var(0) + theirs.var(0)) / len(ours)).sqrt()
    blur = 0.002 if name == "all" else 1e-6  # kornia interpolates twice, which loses a little contrast
    assert ((ours.mean(0) - theirs.mean(0)).abs() < 5 * error + blur).all()


def test_all_maps_of_a_picture_are_one_interpolation_there_and_one_back():
    class Count(TorchDispatchMode):
        sampled = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.sampled += "grid_sampl" in str(function)
            return function(*args, **kwargs or {})

    leaf = pictures(4).requires_grad_()
    with Count() as count:
        views = replace(PAPER, flip=True, crop=0.2)(leaf, generator())
        assert count.sampled == 1
        views.sum().backward()
    assert count.sampled == 2
