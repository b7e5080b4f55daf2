"""The forward operators of inverse problems, their adjoints and proximal steps."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from scipy import ndimage

from referee_core.kernels import motion_kernel
from referee_core.measurements import conjugate_gradients, residual, residual_rms
from referee_core.operators import JPEG, GaussianBlur, Inpainting, KernelBlur, SuperResolution, box_mask, random_mask

HEIGHT, WIDTH = 16, 32


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=1):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def picture(height, width, images=1):
    """Smooth and colourful, in [0, 1], single precision."""
    coarse = torch.rand(images, 3, 6, 6, generator=generator(5))
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False).clamp(0, 1)


KERNEL = torch.rand(5, 9, generator=generator(2))
EVEN_KERNEL = torch.rand(6, 4, generator=generator(3))
CLOSED = {
    "super-resolution 2": SuperResolution(2),
    "super-resolution 4": SuperResolution(4),
    "super-resolution 8": SuperResolution(8),
    "super-resolution 16": SuperResolution(16),
    "isotropic": GaussianBlur(1.5, 1.5),
    "anisotropic": GaussianBlur(5.0, 0.6),
    "one axis": GaussianBlur(0, 1.0),
    "box": Inpainting(box_mask(HEIGHT, WIDTH, 6, 8)),
    "random": Inpainting(random_mask(HEIGHT, WIDTH, 0.7, generator())),
}
ITERATIVE = {
    "kernel": KernelBlur(KERNEL),
    "even kernel": KernelBlur(EVEN_KERNEL),
    "motion": KernelBlur(motion_kernel(15, 0.5, generator(4))),
}
LINEAR = {**CLOSED, **ITERATIVE}


@pytest.mark.parametrize("name", LINEAR)
def test_the_adjoint_is_the_transpose(name):
    one, x = LINEAR[name], noise(2, 3, HEIGHT, WIDTH)
    one.check(HEIGHT, WIDTH)
    ax = one.A(x)
    v = noise(*ax.shape, seed=2)
    assert one.picture_size(*ax.shape[-2:]) == (HEIGHT, WIDTH)
    with torch.no_grad():
        back = one.A_adjoint(v)
    assert abs(float((ax * v).sum() - (x * back).sum())) <= 1e-10 * float(ax.norm() * v.norm())
    v.requires_grad_()
    (gradient,) = torch.autograd.grad((one.A_adjoint(v) * x).sum(), v)
    torch.testing.assert_close(gradient, ax)


def dense(one, height, width):
    """A as a matrix, for pictures of one channel."""
    units = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return one.A(units).flatten(1).T


@pytest.mark.parametrize(
    "name, lam", [*((name, lam) for name in CLOSED for lam in (1e-4, 1.0)), *((name, 0.1) for name in ITERATIVE)]
)
def test_the_proximal_step_is_the_solution_of_its_equations(name, lam):
    one, x = LINEAR[name], noise(2, 1, HEIGHT, WIDTH)
    a = dense(one, HEIGHT, WIDTH)
    y = noise(*one.A(x).shape, seed=3)
    right = a.T @ y.flatten(1).T + lam * x.flatten(1).T
    expected = torch.linalg.solve(a.T @ a + lam * torch.eye(len(right), dtype=torch.float64), right).T.view_as(x)
    error = float((one.prox(x, y, lam) - expected).abs().max())
    assert error <= (1e-9 if name in CLOSED else 1e-6)


def test_the_proximal_step_in_single_precision():
    for one in LINEAR.values():
        x = noise(2, 3, HEIGHT, WIDTH)
        y = noise(*one.A(x).shape, seed=3)
        single = one.prox(x.float(), y.float(), 0.1)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), one.prox(x, y, 0.1), rtol=0, atol=1e-4)


def test_inference_mode_spoils_nothing():
    height, width = 48, 80  # of no other test, so that no matrix is kept yet
    x = torch.rand(1, 3, height, width, generator=generator())
    for make in (
        lambda: SuperResolution(8),
        lambda: GaussianBlur(1.5, 0.5),
        lambda: KernelBlur(KERNEL.clone()),
        lambda: Inpainting(random_mask(height, width, 0.5, generator())),
    ):
        with torch.inference_mode():
            one = make()
            y = one.A(x)
            one.prox(x, y, 0.1)
        leaf = x.clone().requires_grad_()
        residual_rms(one, leaf, torch.zeros_like(y)).sum().backward()
        assert leaf.grad.isfinite().all() and leaf.grad.any()


def test_conjugate_gradients_treat_each_picture_on_its_own():
    matrices = noise(2, 6, 6) * torch.tensor([1.0, 0.0], dtype=torch.float64).view(-1, 1, 1)
    matrices = matrices @ matrices.mT + torch.eye(6)  # the second is done after one iteration
    b = noise(2, 1, 6, 1, seed=2)

    def solve(i, iterations):
        return conjugate_gradients(lambda u: matrices[i][:, None] @ u, b[i], torch.zeros_like(b[i]), iterations)

    torch.testing.assert_close(solve([0, 1], 20), torch.linalg.solve(matrices[:, None], b), rtol=0, atol=1e-5)
    for i in (0, 1):
        torch.testing.assert_close(solve([0, 1], 3)[i : i + 1], solve([i], 3))


@pytest.mark.parametrize("factor", [2, 4, 8, 16])
def test_super_resolution_shrinks_as_pytorch_and_pil_do(factor):
    x = picture(64, 96, images=2)
    y = SuperResolution(factor).A(x)
    expected = F.interpolate(x, (64 // factor, 96 // factor), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
    channel = Image.fromarray(x[0, 0].numpy())
    shrunk = channel.resize((96 // factor, 64 // factor), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(y[0, 0].numpy(), np.asarray(shrunk), rtol=0, atol=1e-5)


def test_the_gaussian_blur_is_scipys():
    x = noise(1, 2, 24, 40)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, 1.7, 3.2), mode="mirror", truncate=4.0)
    torch.testing.assert_close(GaussianBlur(3.2, 1.7).A(x), torch.from_numpy(expected))


@pytest.mark.parametrize("kernel", [KERNEL, EVEN_KERNEL, EVEN_KERNEL[:1], EVEN_KERNEL[:, :1]])
def test_the_kernel_blur_is_scipys_convolution(kernel):
    x = noise(1, 1, 12, 16)
    kernel = kernel.double()
    expected = ndimage.convolve(x[0, 0].numpy(), (kernel / kernel.sum()).numpy(), mode="mirror")
    torch.testing.assert_close(KernelBlur(kernel).A(x)[0, 0], torch.from_numpy(expected))


def test_one_bright_pixel_shows_the_kernel():
    x = torch.zeros(1, 1, 21, 25)
    x[..., 10, 12] = 1
    blur = KernelBlur(KERNEL)
    torch.testing.assert_close(blur.A(x)[0, 0, 8:13, 8:17], KERNEL / KERNEL.sum())
    assert float(blur.kernel.sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["mask", "odd", "even"])
def test_deepinv_agrees(name):
    """Its results are on file: tests/parity/make_deepinv.py."""
    theirs = load_file(Path(__file__).parents[1] / "parity" / "deepinv" / "operators.safetensors")
    ours = Inpainting(theirs["mask"]) if name == "mask" else KernelBlur(theirs[f"kernel {name}"])
    x, y = theirs["x"], theirs["y"]
    torch.testing.assert_close(ours.A(x), theirs[f"{name} A"])
    torch.testing.assert_close(ours.A_adjoint(y), theirs[f"{name} adjoint"])
    torch.testing.assert_close(ours.prox(x, y, 0.3), theirs[f"{name} prox"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("intensity", [0.0, 0.5, 1.0])
def test_a_motion_kernel_is_a_distribution_that_fills_its_square(intensity):
    kernel = motion_kernel(31, intensity, generator(7))
    assert kernel.shape == (31, 31) and bool((kernel >= 0).all())
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-6)
    assert torch.equal(kernel, motion_kernel(31, intensity, generator(7)))
    assert not torch.equal(kernel, motion_kernel(31, intensity, generator(8)))
    rows, columns = kernel.sum(1) > 0, kernel.sum(0) > 0
    assert bool(rows[0] & rows[-1]) or bool(columns[0] & columns[-1])


def thickness(kernel):
    """The deviation of a kernel's light, in pixels, in the direction in which it is smallest."""
    where = torch.cartesian_prod(*(torch.arange(len(kernel)).float(),) * 2)
    return float(torch.linalg.eigvalsh(torch.cov(where.T, aweights=kernel.flatten(), correction=0))[0].sqrt())


def test_intensity_bends_the_path():
    straight, bent = ([thickness(motion_kernel(31, i, generator(s))) for s in range(12)] for i in (0.0, 1.0))
    assert max(straight) < 0.8 and float(np.mean(bent)) > 3


def test_masks():
    box = box_mask(10, 12, 4, 6)
    assert box.shape == (1, 1, 10, 12) and not box[..., 3:7, 3:9].any() and int(box.sum()) == 120 - 24
    mask = random_mask(10, 12, 0.7, generator(1))
    assert int(mask.sum()) == 36 and torch.equal(mask, random_mask(10, 12, 0.7, generator(1)))
    assert torch.equal(
        Inpainting(torch.tensor([[[[0.2, 0.5, 0.6]]]])).A(torch.ones(1, 1, 1, 3))[0, 0, 0],
        torch.tensor([0.0, 0.0, 1.0]),
    )


def test_each_picture_can_have_its_own_mask():
    masks = torch.cat([random_mask(HEIGHT, WIDTH, share, generator()) for share in (0.2, 0.9)])
    x = noise(2, 3, HEIGHT, WIDTH)
    y = Inpainting(masks, sigma=0.1).degrade(x, [generator(1), generator(2)])
    rms = residual_rms(Inpainting(masks), x, y)
    for i in (0, 1):
        alone = Inpainting(masks[i : i + 1], sigma=0.1)
        assert torch.equal(alone.degrade(x[i : i + 1], [generator(i + 1)])[0], y[i])
        torch.testing.assert_close(residual_rms(alone, x[i : i + 1], y[i : i + 1])[0], rms[i])


@pytest.mark.parametrize("name", [*LINEAR, "jpeg"])
def test_noise_has_its_deviation_and_each_image_its_own(name):
    one = JPEG(50) if name == "jpeg" else LINEAR[name]
    noisy = dataclasses.replace(one, sigma=0.05)
    x = torch.rand(64, 3, HEIGHT, WIDTH, generator=generator())
    y = noisy.degrade(x, [generator(s) for s in range(64)])
    alone = noisy.degrade(x[9:10], [generator(9)])
    torch.testing.assert_close(alone[0], y[9], rtol=0, atol=1e-6)
    rms = residual_rms(noisy, x, y)
    assert rms.shape == (64,)
    assert float((rms**2).mean().sqrt()) == pytest.approx(0.05, rel=0.06)
    torch.testing.assert_close(residual_rms(one, x, one.degrade(x, [generator(s) for s in range(64)])), 0 * rms)


def test_missing_pixels_do_not_count():
    mask, x = box_mask(8, 8, 4, 4), noise(1, 3, 8, 8)
    one = Inpainting(mask)
    y = one.A(x) + 0.5 + 7 * (1 - mask)  # a hole painted in another colour
    assert float(residual_rms(one, x, y)) == pytest.approx(0.5)
    assert not residual(one, x, y)[..., 2:6, 2:6].any()
    torch.testing.assert_close(one.prox(x, y, 0.1), one.prox(x, one.A(y), 0.1))


def pil_jpeg(x, quality):
    pixels = (x[0].permute(1, 2, 0) * 255).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("height, width", [(64, 96), (50, 37)])
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_jpeg_is_close_to_a_real_one(quality, height, width):
    x = (picture(height, width) + 0.05 * noise(1, 3, height, width).float()).clamp(0, 1)
    y, real = JPEG(quality).A(x), pil_jpeg(x, quality)
    assert y.shape == x.shape
    mean = [float((a - b).abs().mean()) for a, b in ((y, real), (x, real))]
    assert mean[0] < 0.015 and mean[0] < mean[1] / 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_jpeg_has_a_gradient(dtype):
    x = picture(40, 24, images=2).to(dtype).requires_grad_()
    y = JPEG(30).A(x)
    y.square().sum().backward()
    assert y.dtype == dtype and bool(x.grad.isfinite().all()) and float(x.grad.abs().mean()) > 1e-3


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SuperResolution(3), "must be one of"),
        (lambda: SuperResolution(4).check(64, 66), "multiples of 4, got 66 x 64"),
        (lambda: SuperResolution(4).degrade(torch.zeros(1, 3, 9, 8), [generator()]), "multiples of 4"),
        (lambda: SuperResolution(4, sigma=-0.1), "sigma"),
        (lambda: JPEG(50, sigma=float("nan")), "sigma"),
        (lambda: GaussianBlur(-1, 1), "not below 0"),
        (lambda: GaussianBlur(1, 5).check(20, 20), "reaches 4 pixels across and 20 down.*at least 5 x 21"),
        (lambda: KernelBlur(torch.zeros(3, 3)), "empty"),
        (lambda: KernelBlur(torch.tensor([[1.0, -0.1]])), "not below 0"),
        (lambda: KernelBlur(torch.ones(1, 3, 3)), "shape"),
        (lambda: KernelBlur(torch.ones(61, 61)).check(64, 30), "at least 31 x 31.*got 30 x 64"),
        (lambda: Inpainting(torch.ones(8, 8)), "shape"),
        (lambda: Inpainting(torch.zeros(1, 1, 8, 8)), "no pixel known"),
        (lambda: Inpainting(torch.ones(1, 1, 8, 8)).check(8, 16), "same size: 8 x 8 and 16 x 8"),
        (lambda: box_mask(8, 8, 9, 2), "does not fit"),
        (lambda: random_mask(8, 8, 1.5, generator()), "between 0 and 1"),
        (lambda: motion_kernel(0, 0.5, generator()), "at least 1"),
        (lambda: motion_kernel(5, 2, generator()), "between 0 and 1"),
        (lambda: JPEG(0), "between 1 and 100"),
    ],
)
def test_what_cannot_be_is_refused_in_plain_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_jpeg_has_no_adjoint():
    x = torch.zeros(1, 3, 16, 16)
    for refused in (lambda: JPEG(50).A_adjoint(x), lambda: JPEG(50).prox(x, x, 1.0)):
        with pytest.raises(TypeError, match="JPEG is not linear"):
            refused()


def test_the_first_guess_is_a_whole_picture():
    x = picture = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    blurred = GaussianBlur(1.0, 1.0).A(x)
    assert torch.equal(GaussianBlur(1.0, 1.0).first_guess(blurred), blurred)
    small = SuperResolution(2)
    flat = torch.full((1, 3, 8, 12), 0.3, dtype=torch.float64)
    torch.testing.assert_close(small.first_guess(flat), torch.full((1, 3, 16, 24), 0.3, dtype=torch.float64))
    hole = Inpainting(box_mask(16, 24, 6, 8))
    filled = hole.first_guess(hole.A(picture))
    known = hole.mask.expand_as(picture)
    assert torch.equal(filled[known], picture[known])
    for i in range(2):
        for c in range(3):
            mean = picture[i, c][hole.mask[0, 0]].mean()
            torch.testing.assert_close(filled[i, c][~hole.mask[0, 0]], mean.expand(48))
