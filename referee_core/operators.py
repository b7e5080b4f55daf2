"""The kinds of measurements: a picture shrunk, blurred, with holes, compressed."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from .kernels import Axis, Blurring, Shrinking, gaussian_taps, matrix_of, svd_of
from .measurements import Measurement
from .views import at_least_single

FACTORS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Separable(Measurement):
    """A x = R x S^T with one matrix for the columns of the picture and one for its rows.

    From the singular values of R and S follow those of A, and with them the proximal step in closed form.
    """

    @abstractmethod
    def axes(self) -> tuple[Axis, Axis]:
        """What happens down the columns (R), and along the rows (S)."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        r, s = self._matrices(height, width, x)
        return r @ x @ s.mT

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        height, width = self.picture_size(*y.shape[-2:])
        r, s = self._matrices(height, width, y)
        return r.mT @ y @ s

    @torch.no_grad()
    def prox(self, x: torch.Tensor, y: torch.Tensor, lam: float) -> torch.Tensor:
        # by the Woodbury identity it is x + A^T (A A^T + lam)^-1 (y - A x), and A A^T is diagonal in singular vectors
        sides = zip(self.axes(), x.shape[-2:], strict=True)
        (u, s, v), (u2, s2, v2) = (svd_of(axis, size, x.dtype, x.device) for axis, size in sides)
        values = s[:, None] * s2
        return x + v @ (values / (values**2 + lam) * (u.mT @ (y - self.A(x)) @ u2)) @ v2.mT

    def _matrices(self, height: int, width: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        down, along = self.axes()
        return matrix_of(down, height, like.dtype, like.device), matrix_of(along, width, like.dtype, like.device)


@dataclass(frozen=True)
class SuperResolution(Separable):
    """The picture shrunk by a factor of 2, 4, 8 or 16.

    It is bicubic (a = -0.5) with antialiasing, as torch.nn.functional.interpolate and PIL do it, so that pictures which
    the usual tools shrank fit. Inside the picture it is also the operator of TReg; at its borders TReg reflects.
    """

    factor: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.factor not in FACTORS:
            raise ValueError(f"the factor of super-resolution must be one of {FACTORS}, got {self.factor}")

    def check(self, height: int, width: int) -> None:
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"super-resolution by {self.factor} needs a picture whose width and height are multiples of "
                f"{self.factor}, got {width} x {height}"
            )

    def picture_size(self, height: int, width: int) -> tuple[int, int]:
        return height * self.factor, width * self.factor

    def first_guess(self, y: torch.Tensor) -> torch.Tensor:
        """Enlarged, bicubic."""
        return F.interpolate(y, scale_factor=self.factor, mode="bicubic", align_corners=False)

    def axes(self) -> tuple[Axis, Axis]:
        return Shrinking(self.factor), Shrinking(self.factor)


def _check_reach(reach_x: int, reach_y: int, height: int, width: int) -> None:
    """A border can reflect no more pixels than there are behind the outermost one."""
    if reach_x >= width or reach_y >= height:
        raise ValueError(
            f"this blur reaches {reach_x} pixels across and {reach_y} down, so it needs a picture of at least "
            f"{reach_x + 1} x {reach_y + 1} pixels (width x height), got {width} x {height}"
        )


@dataclass(frozen=True)
class GaussianBlur(Separable):
    """A Gaussian blur with reflected borders, isotropic or not; its axes are those of the picture.

    Attributes:
        horizontal, vertical: the standard deviations in pixels; 0 leaves that axis sharp. The Gaussian ends after four
            of them. Borders are reflected about the middle of the outermost pixel ("mirror" in scipy).
    """

    horizontal: float
    vertical: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(d >= 0 and math.isfinite(d) for d in (self.horizontal, self.vertical)):
            raise ValueError(
                f"the deviations of a Gaussian blur must be numbers not below 0, got {self.horizontal} and "
                f"{self.vertical}"
            )

    def check(self, height: int, width: int) -> None:
        reach_x, reach_y = (len(gaussian_taps(d)) // 2 for d in (self.horizontal, self.vertical))
        _check_reach(reach_x, reach_y, height, width)

    def axes(self) -> tuple[Axis, Axis]:
        return Blurring(self.vertical), Blurring(self.horizontal)


@dataclass(frozen=True, eq=False)
class KernelBlur(Measurement):
    """A blur by any kernel, with reflected borders, since a photograph's borders are not periodic.

    It is a true convolution: y[i] = sum_j kernel[j] x[i + c - j], where c = size // 2 is the kernel's middle, so that y
    of one bright pixel shows the kernel as it is. Its adjoint comes from autograd, its proximal step from conjugate
    gradients.

    Attributes:
        kernel: [h, w], not negative; on construction it is scaled to sum 1.
    """

    kernel: torch.Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel.ndim != 2:
            raise ValueError(f"a blur kernel must have the shape [height, width], got {list(self.kernel.shape)}")
        with torch.inference_mode(False), torch.no_grad():
            kernel = at_least_single(self.kernel)
            if not (kernel.isfinite() & (kernel >= 0)).all():
                raise ValueError("the values of a blur kernel must be numbers not below 0")
            if not kernel.any():
                raise ValueError("this blur kernel is empty: all its values are 0")
            object.__setattr__(self, "kernel", kernel / kernel.sum())

    def check(self, height: int, width: int) -> None:
        rows, columns = self.kernel.shape
        _check_reach(columns // 2, rows // 2, height, width)

    def A(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = self.kernel.shape
        left, top = (columns - 1) // 2, (rows - 1) // 2
        padded = F.pad(x, (left, columns - 1 - left, top, rows - 1 - top), mode="reflect")
        size = padded.shape[-2:]
        # what is cut off is where the periodic convolution differs from the one that is wanted
        y = torch.fft.irfft2(torch.fft.rfft2(padded) * torch.fft.rfft2(self.kernel.to(x), size), size)
        return y[..., rows - 1 :, columns - 1 :]


@dataclass(frozen=True, eq=False)
class Inpainting(Measurement):
    """The picture with some pixels missing: y is 0 there, and has no noise.

    Attributes:
        mask: [1 or B, 1, H, W], 1 for known pixels. On construction it is made black and white: above 0.5 is known.
    """

    mask: torch.Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mask.ndim != 4 or self.mask.shape[1] != 1:
            raise ValueError(f"a mask must have the shape [images, 1, height, width], got {list(self.mask.shape)}")
        with torch.inference_mode(False), torch.no_grad():
            known = self.mask > 0.5
        if not known.flatten(1).any(1).all():
            raise ValueError("this mask leaves no pixel known")
        object.__setattr__(self, "mask", known)

    def check(self, height: int, width: int) -> None:
        rows, columns = self.mask.shape[-2:]
        if (rows, columns) != (height, width):
            raise ValueError(
                f"the mask and the picture must have the same size: {columns} x {rows} and {width} x {height}"
            )

    def measured(self, y: torch.Tensor) -> torch.Tensor:
        return self.mask.to(y)

    def first_guess(self, y: torch.Tensor) -> torch.Tensor:
        """Missing pixels in the mean colour of the known ones."""
        known = self.mask.to(y)
        mean = (known * y).sum((-2, -1), keepdim=True) / known.sum((-2, -1), keepdim=True)
        return torch.where(self.mask.to(y.device), y, mean)

    def A(self, x: torch.Tensor) -> torch.Tensor:
        return self.mask.to(x) * x

    def A_adjoint(self, y: torch.Tensor) -> torch.Tensor:
        return self.A(y)

    @torch.no_grad()
    def prox(self, x: torch.Tensor, y: torch.Tensor, lam: float) -> torch.Tensor:
        return x + self.A(y - x) / (1 + lam)


def box_mask(height: int, width: int, box_height: int, box_width: int) -> torch.Tensor:
    """A mask [1, 1, height, width] of ones with a box of zeros, the missing pixels, in the middle."""
    if not (0 < box_height <= height and 0 < box_width <= width):
        raise ValueError(f"a box of {box_width} x {box_height} does not fit into a picture of {width} x {height}")
    mask = torch.ones(1, 1, height, width)
    top, left = (height - box_height) // 2, (width - box_width) // 2
    mask[..., top : top + box_height, left : left + box_width] = 0
    return mask


def random_mask(height: int, width: int, share_missing: float, generator: torch.Generator) -> torch.Tensor:
    """A mask [1, 1, height, width] with this share of its pixels missing (0), drawn without replacement."""
    if not 0 <= share_missing <= 1:
        raise ValueError(f"the share of missing pixels must be between 0 and 1, got {share_missing}")
    missing = torch.randperm(height * width, generator=generator)[: round(share_missing * height * width)]
    return torch.ones(height * width).index_fill(0, missing, 0).view(1, 1, height, width)


@dataclass(frozen=True)
class JPEG(Measurement):
    """The colour picture (3 channels) after JPEG compression with subsampled colours (4:2:0); not linear.

    It is kornia's jpeg_codec_differentiable: from a DCT to its inverse, without the lossless coding. Rounding is made
    smooth, round(v) + (v - round(v))^3 (Reich et al., WACV 2024; Shin and Song, 2017), so its gradient is not zero,
    and its result is close to that of a real JPEG file but not equal. The result's range is limited to [0, 1], softly.
    A picture whose sides are not multiples of 16 is continued by its last row and column meanwhile.

    Attributes:
        quality: 1 to 100, as in libjpeg.
    """

    linear: ClassVar[bool] = False

    quality: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.quality <= 100:
            raise ValueError(f"the quality of a JPEG must be between 1 and 100, got {self.quality}")

    def check(self, height: int, width: int) -> None:
        """Any size will do."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        from kornia.enhance import jpeg_codec_differentiable

        return jpeg_codec_differentiable(x, x.new_full((len(x),), self.quality))
