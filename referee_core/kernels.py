"""What measurements are made of: the kernels of blurs, and the matrices of one axis of a picture."""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

REACH = 4.0  # standard deviations at which the Gaussian ends, as in scipy.ndimage
TURN = 4 * math.pi  # standard deviation of how far the curliest path turns, in radians per path at a constant rate
MEMORY = 0.15  # the share of a path after which its bend is mostly forgotten
POINTS = 16  # of the path, for each pixel of the kernel's side


def gaussian_taps(deviation: float) -> torch.Tensor:
    """The symmetric taps [2 r + 1] of a Gaussian, double precision, of sum 1; deviation 0 gives one tap.

    Args:
        deviation: the standard deviation in pixels.
    """
    if deviation == 0:
        return torch.ones(1, dtype=torch.float64)
    reach = int(REACH * deviation + 0.5)
    taps = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / deviation) ** 2)
    return taps / taps.sum()


def motion_kernel(size: int, intensity: float, generator: torch.Generator) -> torch.Tensor:
    """The trace of one point of light while the camera shakes, as a kernel [size, size] of sum 1, single precision.

    The camera moves at a constant speed in a random direction. The rate at which the direction turns is a random walk
    that is pulled back to zero (an Ornstein-Uhlenbeck process), so that the path is smooth. Then the path is moved and
    scaled: it is centred, and its longer side fills the kernel.

    Args:
        intensity: from 0, a straight line, to 1, a path with many curls.
        generator: a CPU generator; the same state gives the same kernel.
    """
    if size < 1:
        raise ValueError(f"the size of a motion kernel must be at least 1, got {size}")
    if not 0 <= intensity <= 1:
        raise ValueError(f"the intensity of a motion blur must be between 0 and 1, got {intensity}")
    count = POINTS * size
    start = 2 * math.pi * torch.rand((), generator=generator, dtype=torch.float64)
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    kept = math.exp(-1 / (MEMORY * count))
    fresh = math.sqrt(1 - kept**2)
    bends = list(itertools.accumulate(noise.tolist(), lambda bend, new: kept * bend + fresh * new))
    heading = start + intensity * TURN / count * torch.tensor(bends, dtype=torch.float64).cumsum(0)
    path = torch.stack([heading.sin(), heading.cos()], dim=1).cumsum(0)  # [count, 2], down and across
    low, high = path.amin(0), path.amax(0)
    path = (path - (low + high) / 2) * (size - 1) / (high - low).max() + (size - 1) / 2
    # each point's light is shared bilinearly among the four pixels around it
    shares = (1 - (path[:, :, None] - torch.arange(size)).abs()).clamp(min=0)  # [count, 2, size]
    kernel = shares[:, 0].T @ shares[:, 1]
    return (kernel / kernel.sum()).float()


@dataclass(frozen=True)
class Shrinking:
    """One axis of SuperResolution."""

    factor: int

    def matrix(self, size: int) -> torch.Tensor:
        """[measured, size], in double precision on the CPU."""
        # a square picture of unit vectors, which keeps its width: PyTorch 2.11 shrinks pictures of width 1 wrongly
        units = torch.eye(size, dtype=torch.float64)[None, None]
        size_after = (size // self.factor, size)
        return F.interpolate(units, size_after, mode="bicubic", antialias=True, align_corners=False)[0, 0]


@dataclass(frozen=True)
class Blurring:
    """One axis of GaussianBlur."""

    deviation: float

    def matrix(self, size: int) -> torch.Tensor:
        """[size, size], in double precision on the CPU."""
        taps = gaussian_taps(self.deviation)
        reach = len(taps) // 2
        units = F.pad(torch.eye(size, dtype=torch.float64)[:, None], (reach, reach), mode="reflect")
        return F.conv1d(units, taps[None, None])[:, 0].T


Axis = Shrinking | Blurring


@lru_cache(maxsize=8)
def matrix_of(axis: Axis, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The matrix of an axis of this many pixels, kept for the next call."""
    with torch.inference_mode(False), torch.no_grad():  # what is kept must be of use to autograd too
        return axis.matrix(size).to(dtype).to(device)


@lru_cache(maxsize=8)
def svd_of(axis: Axis, size: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, ...]:
    """U [h, k], s [k] and V [H, k] of that matrix, U diag(s) V^T; computed in double precision."""
    with torch.inference_mode(False), torch.no_grad():
        u, s, vt = torch.linalg.svd(axis.matrix(size), full_matrices=False)
        return tuple(part.to(dtype).to(device) for part in (u, s, vt.mT))
