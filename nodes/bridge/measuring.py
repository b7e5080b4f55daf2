"""The kinds of the node Measurement, as measurements of the core."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ...referee_core.kernels import motion_kernel
from ...referee_core.measurements import Measurement, residual, residual_rms
from ...referee_core.operators import JPEG, GaussianBlur, Inpainting, KernelBlur, SuperResolution, box_mask, random_mask
from ...referee_core.randomness import generators
from ...referee_core.views import grey
from ..sockets import LoadedMeasurement
from .inputs import check_finite, check_images

MASK_SIZE = (
    "Connect a mask of the picture's size to 'mask' of Measurement. Load Image gives one of 64 x 64 where the file has "
    "no transparency."
)


@contextmanager
def _advising(advice: str) -> Iterator[None]:
    """Adds to the text of a ValueError what to do."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        raise ValueError(f"{text[0].upper()}{text[1:]}. {advice}") from None


def _fitting(build: Callable[[int, int], Measurement], advice: str) -> LoadedMeasurement:
    """What ``build`` makes of height and width, if it accepts a picture of this size."""

    def make(height: int, width: int) -> Measurement:
        with _advising(advice):
            measurement = build(height, width)
            measurement.check(height, width)
        return measurement

    return LoadedMeasurement(make)


def _generator(seed: int) -> torch.Generator:
    (generator,) = generators([seed], ["measurement"])["measurement"]
    return generator


def _super_resolution(sigma: float, factor: int) -> LoadedMeasurement:
    measurement = SuperResolution(factor, sigma=sigma)

    def make(height: int, width: int) -> Measurement:
        rows, columns = (side - side % factor for side in (height, width))
        with _advising(f"Crop it to {columns} x {rows}." if rows and columns else "Take a larger picture."):
            measurement.check(height, width)
        return measurement

    return LoadedMeasurement(make, factor)


def _gaussian_blur(sigma: float, horizontal: float, vertical: float) -> LoadedMeasurement:
    measurement = GaussianBlur(horizontal, vertical, sigma=sigma)
    return _fitting(lambda *_: measurement, "Lower 'horizontal' and 'vertical' of Measurement.")


def _motion_blur(sigma: float, size: int, intensity: float, seed: int) -> LoadedMeasurement:
    measurement = KernelBlur(motion_kernel(size, intensity, _generator(seed)), sigma=sigma)
    return _fitting(lambda *_: measurement, "Lower 'size' of Measurement.")


def _blur_kernel(sigma: float, kernel: torch.Tensor) -> LoadedMeasurement:
    check_images("kernel", kernel)
    check_finite("kernel", kernel)
    if len(kernel) > 1:
        raise ValueError(f"The input 'kernel' holds {len(kernel)} pictures: connect one.")
    with _advising("Connect a bright spot or line on black to 'kernel'."):
        measurement = KernelBlur(grey(kernel[..., :3].movedim(-1, 1))[0, 0], sigma=sigma)
    return _fitting(lambda *_: measurement, "Connect a smaller picture to 'kernel' of Measurement.")


def _inpainting(sigma: float, mask: torch.Tensor) -> LoadedMeasurement:
    masks = mask.reshape(-1, 1, *mask.shape[-2:])
    check_finite("mask", masks)
    with _advising("Leave some of 'mask' black."):
        measurement = Inpainting(1 - masks, sigma=sigma)
    return LoadedMeasurement(_fitting(lambda *_: measurement, MASK_SIZE).make, masks=len(masks))


def _box(sigma: float, width: int, height: int) -> LoadedMeasurement:
    return _fitting(
        lambda rows, columns: Inpainting(box_mask(rows, columns, height, width), sigma=sigma),
        "Lower 'width' and 'height' of Measurement.",
    )


def _random_pixels(sigma: float, missing: float, seed: int) -> LoadedMeasurement:
    return _fitting(
        lambda rows, columns: Inpainting(random_mask(rows, columns, missing, _generator(seed)), sigma=sigma),
        "Lower 'missing' of Measurement.",
    )


def _jpeg(sigma: float, quality: int) -> LoadedMeasurement:
    measurement = JPEG(quality, sigma=sigma)
    return LoadedMeasurement(lambda *_: measurement)  # any size will do


KINDS: dict[str, Callable[..., LoadedMeasurement]] = {
    "super-resolution": _super_resolution,
    "gaussian blur": _gaussian_blur,
    "motion blur": _motion_blur,
    "blur kernel": _blur_kernel,
    "inpainting": _inpainting,
    "box": _box,
    "random pixels": _random_pixels,
    "jpeg": _jpeg,
}
"""How each kind is made of its noise and its own inputs."""


def look_back(
    images: torch.Tensor, measurement: LoadedMeasurement, measured: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[float], float]:
    """Restored pictures measured again.

    Args:
        images: [B, H, W, C]. measured: [1 or B, h, w, C].
    Returns: the images [B, H, W, 3], with what is known put back bit for bit where the measurement is a mask; the
        residual [B, h, w, 3]; its root mean square of each; the measurement's noise.
    """
    height, width = (side * measurement.factor for side in measured.shape[1:3])
    if tuple(images.shape[1:3]) != (height, width):
        raise ValueError(
            f"The input 'images' is {images.shape[2]} x {images.shape[1]}, and 'measured' stands for a picture of "
            f"{width} x {height}: connect the restored picture as it was decoded."
        )
    if len(measured) not in (1, len(images)):
        raise ValueError(
            f"The inputs 'images' and 'measured' hold {len(images)} and {len(measured)} pictures: give one to each."
        )
    measurement.check_count(len(images))
    A = measurement.make(height, width)
    y = measured[..., :3].movedim(-1, 1).float()
    x = images[..., :3].movedim(-1, 1).float()
    y = y.expand(len(x), -1, -1, -1)
    if isinstance(A, Inpainting):
        x = torch.where(A.mask, y, x)
    left, deviations = residual(A, x, y), residual_rms(A, x, y)
    return x.movedim(1, -1), left.movedim(1, -1), [float(d) for d in deviations], A.sigma
