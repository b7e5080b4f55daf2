"""Each map of a view against kornia's own, with the same parameters; and that there is one interpolation for all."""

import math
from dataclasses import replace

import kornia.augmentation as K
import pytest
import torch
from kornia.geometry import get_affine_matrix2d, get_perspective_transform, warp_affine, warp_perspective
from scipy.ndimage import map_coordinates

from referee_core.augment import PAPER
from referee_core.views import build_affine, change_colours, erase, invert_motion, invert_tilt, resample, shift_hue

HEIGHT, WIDTH, COUNT = 20, 28, 6
SIZE = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth() -> torch.Tensor:
    """A picture that loses little in an interpolation, [COUNT, 3, HEIGHT, WIDTH]."""
    x, y = torch.arange(WIDTH) * math.tau / WIDTH, torch.arange(HEIGHT)[:, None] * math.tau / HEIGHT
    waves = torch.stack([(x + y).sin(), (x - 0.5 * y).cos(), (0.7 * x).sin() * y.cos()])
    return (0.5 + 0.4 * waves).double().expand(COUNT, -1, -1, -1)


DEGREES = 60 * random(COUNT, seed=1) - 30
SHIFT = (random(COUNT, 2, seed=2) - 0.5) * SIZE / 4
INWARD = random(COUNT, 4, 2, seed=3) * SIZE / 8


def affine_matrix() -> torch.Tensor:
    """Kornia's, from the picture's pixels to the view's, counted from the left upper pixel."""
    centre = (SIZE / 2 - 0.5).expand(COUNT, 2)
    return get_affine_matrix2d(SHIFT, centre, torch.ones(COUNT, 2, dtype=torch.float64), DEGREES)


def perspective_matrix() -> torch.Tensor:
    w, h = WIDTH - 1, HEIGHT - 1
    start = torch.tensor([[[0.0, 0], [w, 0], [w, h], [0, h]]], dtype=torch.float64).expand(COUNT, -1, -1)
    end = start + INWARD * torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    return get_perspective_transform(start, end)


def warped_by_kornia(images: torch.Tensor, kind: str) -> torch.Tensor:
    """The map, or both one after the other, as RandomAffine and RandomPerspective apply them."""
    if kind != "perspective":
        images = warp_affine(images, affine_matrix()[:, :2], (HEIGHT, WIDTH), align_corners=False)
    if kind != "affine":
        images = warp_perspective(images, perspective_matrix(), (HEIGHT, WIDTH), align_corners=False)
    return images


MAPS = {"affine": [invert_motion(DEGREES, SHIFT)], "perspective": [invert_tilt(INWARD, SIZE)]}
MAPS["both"] = MAPS["perspective"] + MAPS["affine"]


@pytest.mark.parametrize("kind", ["affine", "perspective"])
def test_a_map_gives_kornias_picture(kind):
    images = random(COUNT, 3, HEIGHT, WIDTH, seed=4)
    torch.testing.assert_close(resample(images, MAPS[kind]), warped_by_kornia(images, kind), rtol=1e-6, atol=1e-6)


def test_two_maps_at_once_are_kornias_two_within_the_error_of_an_interpolation():
    """Also where the first one moved content out of the picture: the second one must not bring it back."""
    ours, kornias = resample(smooth(), MAPS["both"]), warped_by_kornia(smooth(), "both")
    ones = torch.ones_like(smooth())
    inside = (resample(ones, MAPS["both"]) == 1) & (warped_by_kornia(ones, "both") > 1 - 1e-9)
    assert 0.4 < inside.double().mean() < 0.9
    assert (ours - kornias)[inside].abs().max() < 0.02  # (|f_xx| + |f_yy|) / 8 = 0.008 an interpolation, three in all
    assert (ours - kornias)[~inside].abs().mean() < 0.03
    (tilt,), (move,) = MAPS["perspective"], MAPS["affine"]
    unframed = resample(smooth(), [move @ tilt])
    assert (unframed - kornias)[~inside].abs().mean() > 0.06, "the comparison sees what a missing frame changes"


def test_there_is_one_interpolation_for_all_maps():
    """Each pixel is the picture's own bilinear interpolation at one place, even of noise; two would blur it."""
    image = random(1, 3, HEIGHT, WIDTH, seed=5)
    views = resample(image.expand(COUNT, -1, -1, -1), MAPS["both"])
    back = torch.linalg.inv(perspective_matrix() @ affine_matrix())
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    place = back @ torch.stack([x, y, torch.ones_like(x)]).flatten(1).double()
    x, y = (place[:, :2] / place[:, 2:]).unflatten(-1, (HEIGHT, WIDTH)).unbind(1)
    whole = resample(torch.ones_like(image).expand(COUNT, -1, -1, -1), MAPS["both"])[:, 0] == 1
    for view, u, v, inside in zip(views, x, y, whole, strict=True):
        for channel in range(3):
            expected = torch.from_numpy(map_coordinates(image[0, channel].numpy(), [v.numpy(), u.numpy()], order=1))
            torch.testing.assert_close(view[channel][inside], expected[inside], rtol=1e-9, atol=1e-9)


def test_a_zoom_mirrors_and_shows_what_lies_in_its_window():
    image = smooth()[:1]
    window = build_affine(torch.tensor([[[-0.5, 0.0], [0.0, 0.5]]], dtype=torch.float64), SIZE[None] / 4)
    seen = resample(image, [], window)  # the right lower quarter, mirrored
    quarter = image[:, :, HEIGHT // 2 :, WIDTH // 2 :].flip(-1)
    expected = torch.nn.functional.interpolate(quarter, (HEIGHT, WIDTH), mode="bilinear")
    torch.testing.assert_close(seen[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def kornias_colours(images: torch.Tensor, factors: torch.Tensor, order: list[int]) -> torch.Tensor:
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor")
    jitter = K.ColorJitter(0.5, 0.5, 0.5, 0.5, p=1.0)
    params = dict(zip(names, factors, strict=True)) | {"order": torch.tensor(order)}
    return jitter(images, params=params | {"batch_prob": torch.ones(len(images))})


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
def test_colours_change_as_kornias_in_any_order(order):
    """On pictures with black, white, grey and fully saturated pixels, which the limits of the range cut."""
    images = (1.8 * random(COUNT, 3, HEIGHT, WIDTH, seed=6) - 0.4).clamp(0, 1)
    images[:, :, :4] = images[:, :1, :4]
    factors = random(4, COUNT, seed=7) - 0.5 + torch.tensor([1, 1, 1, 0])[:, None]
    views = change_colours(images, [f.view(-1, 1, 1, 1) for f in factors], order)
    torch.testing.assert_close(views, kornias_colours(images, factors, order), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.05, 1 / 3, 0.5])
def test_a_shift_of_hue_leaves_saturation_and_value_and_carries_the_right_gradient(turns):
    images = random(2, 3, 8, 8, seed=8)
    turns = torch.full((2, 1, 1, 1), turns, dtype=torch.float64)
    shifted = shift_hue(images, turns)
    torch.testing.assert_close(shifted.amax(1), images.amax(1))
    torch.testing.assert_close(shifted.amin(1), images.amin(1))
    assert torch.autograd.gradcheck(shift_hue, (images.requires_grad_(), turns))


def test_a_third_of_the_circle_turns_red_into_green():
    red = torch.tensor([0.9, 0.2, 0.1]).double().view(1, 3, 1, 1)
    third = torch.full((1, 1, 1, 1), 1 / 3, dtype=torch.float64)
    assert shift_hue(red, third).flatten().tolist() == pytest.approx([0.1, 0.9, 0.2])


def test_the_box_is_kornias():
    corner, sides = torch.tensor([[3.0, 5.0], [0.0, 2.0]]), torch.tensor([[7.0, 4.0], [28.0, 1.0]])
    params = {"xs": corner[:, 0], "ys": corner[:, 1], "widths": sides[:, 0], "heights": sides[:, 1]}
    params |= {"values": torch.zeros(2), "batch_prob": torch.ones(2)}
    images = random(2, 3, HEIGHT, WIDTH, seed=9)
    assert torch.equal(erase(images, corner, sides), K.RandomErasing(p=1.0)(images, params=params))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_views_of_half_precision_pictures_show_the_same(kind):
    """As ComfyUI's --fp16-intermediates gives them; at a size whose places fp16 cannot count."""
    picture = torch.rand(2, 3, 24, 2600, generator=torch.Generator().manual_seed(1)).to(kind)
    for noise in (0.0, 0.1):
        strong = replace(PAPER, noise=noise)
        expected, found = (strong(x, torch.Generator().manual_seed(3)) for x in (picture.float(), picture))
        assert found.dtype == kind and found.isfinite().all()
        assert (found.float() - expected).abs().max() < 20 * torch.finfo(kind).eps
