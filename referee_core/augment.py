"""The augmentation regularizer: the referee judges random views of the image, not the image alone.

L~_y(x) = E_A[L_y(A(x))] (Referee Can Play, arXiv 2402.16305, section 3.2). Without it the latent drifts into an
adversarial picture that satisfies the referee and nobody else (its Table 2).
"""

from dataclasses import dataclass, replace

import torch

from .views import build_affine, change_colours, erase, invert_motion, invert_tilt, resample

FLIPPED, TILTED, COLOURED = 0.5, 0.4, 0.5  # shares of the views
BOX_RATIO = (0.3, 3.3)  # height to width of what is erased


@dataclass(frozen=True)
class Augmentation:
    """A distribution over image-to-image maps, and how many of them judge each step.

    A strength of 0 leaves that map out. The paper names the maps and the count; the strengths are those of its authors'
    public code.

    Attributes:
        count: views drawn per image and step.
        keep: hard mining; only the ``keep`` views with the highest loss give gradients (0: all).
        rotation: largest angle in degrees.
        translation: largest shift as a share of the width and height.
        perspective: distortion scale in [0, 1], applied with probability 0.4.
        colour: largest relative change of brightness, contrast, saturation, and of hue (as a share of the colour
            circle), applied with probability 0.5.
        erasing: largest share of the area painted black in one box (the smallest is a quarter of it).
        noise: largest standard deviation of Gaussian noise; each view draws its own between 0 and this.
        extra_noise: standard deviation of noise added to every view.
        shared_erasing: one erased box for all views of a step.
        pooled_resize: shrink the image to the referee's size by the mean of average and maximum pooling.
        flip: horizontal mirror with probability 0.5. Off in the paper: it turns "left" into "right".
        crop: largest share of the side cut away by a resized crop. Off in the paper: it can cut off what the
            caption names.
    """

    count: int = 30
    keep: int = 0
    rotation: float = 30.0
    translation: float = 0.1
    perspective: float = 0.2
    colour: float = 0.1
    erasing: float = 0.4
    noise: float = 0.1
    extra_noise: float = 0.0
    shared_erasing: bool = False
    pooled_resize: bool = False
    flip: bool = False
    crop: float = 0.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"augmentation count must be at least 1, got {self.count}")
        if not 0 <= self.keep <= self.count:
            raise ValueError(f"augmentation keep must lie between 0 (all) and count ({self.count}), got {self.keep}")

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Random views of images.

        Args:
            images: [N, 3, H, W] in [0, 1]; each gets its own random map.
            generator: a CPU generator; the only source of randomness.
        Returns: [N, 3, H, W]; gradients reach ``images``.
        """
        count = len(images)
        views = resample(images, *self._geometry(images.shape, generator))
        if self.colour:
            chosen = (_uniform(generator, 0, 1, count) < COLOURED).nonzero()[:, 0].to(images.device)
            views = views.index_copy(0, chosen, self._colour(views[chosen], generator))
        if self.erasing:
            views = erase(views, *self._box(images.shape, generator))
        if self.noise or self.extra_noise:
            spread = _uniform(generator, 0, self.noise, count, 1, 1, 1)
            spread = (spread.square() + self.extra_noise**2).sqrt().float()
            views = views + torch.randn(views.shape, generator=generator, dtype=torch.float32).mul_(spread).to(views)
        return views

    def _geometry(
        self, shape: torch.Size, generator: torch.Generator
    ) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """The arguments of ``resample``."""
        count, size = shape[0], torch.tensor([shape[3], shape[2]], dtype=torch.float64)
        framed, zoom = [], None
        if self.crop or self.flip:
            scale = 1 - _uniform(generator, 0, self.crop, count, 1)
            shift = (1 - scale) * _uniform(generator, -1, 1, count, 2) * size / 2
            mirror = torch.where(_uniform(generator, 0, 1, count, 1) < FLIPPED * self.flip, -1.0, 1.0)
            zoom = build_affine(torch.diag_embed(scale * torch.cat([mirror, torch.ones_like(mirror)], dim=1)), shift)
        if self.perspective:
            applied = _uniform(generator, 0, 1, count, 1, 1) < TILTED
            framed.append(invert_tilt(applied * _uniform(generator, 0, self.perspective, count, 4, 2) * size / 2, size))
        if self.rotation or self.translation:
            degrees = _uniform(generator, -self.rotation, self.rotation, count)
            shift = _uniform(generator, -self.translation, self.translation, count, 2) * size
            framed.append(invert_motion(degrees, shift))
        return framed, zoom

    def _colour(self, views: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Brightness, contrast, saturation and hue, in an order that all views of a call share."""
        most, shape = self.colour, (len(views), 1, 1, 1)
        factors = [_uniform(generator, max(0.0, 1 - most), 1 + most, *shape) for _ in range(3)]
        factors.append(_uniform(generator, -min(most, 0.5), min(most, 0.5), *shape))
        order = torch.randperm(4, generator=generator).tolist()
        return change_colours(views, [factor.to(views) for factor in factors], order)

    def _box(self, shape: torch.Size, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """The arguments of ``erase``: the box is narrow or flat with equal probability."""
        count, size = 1 if self.shared_erasing else shape[0], torch.tensor([shape[3], shape[2]])
        area = _uniform(generator, self.erasing / 4, self.erasing, count) * size.prod()
        flat, narrow = (_uniform(generator, min(1, limit), max(1, limit), count) for limit in BOX_RATIO)
        ratio = torch.where(_uniform(generator, 0, 1, count) < 0.5, flat, narrow)  # of height to width
        sides = torch.stack([area / ratio, area * ratio], dim=1).sqrt().round().clamp(min=1).minimum(size)
        return (_uniform(generator, 0, 1, count, 2) * (size - sides + 1)).floor(), sides


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> torch.Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


PAPER = Augmentation()
REFERENCE_CODE = replace(PAPER, count=10, extra_noise=0.2, shared_erasing=True, pooled_resize=True)
NONE = Augmentation(count=1, rotation=0, translation=0, perspective=0, colour=0, erasing=0, noise=0)
PRESETS = {"paper": PAPER, "reference code": REFERENCE_CODE, "none": NONE}
