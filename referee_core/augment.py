"""The augmentation regularizer: the referee judges random views of the image, not the image alone.

L~_y(x) = E_A[L_y(A(x))] (Referee Can Play, arXiv 2402.16305, section 3.2). Without it the latent drifts into an
adversarial picture that satisfies the referee and nobody else (its Table 2).
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F


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

    def __post_init__(self):
        if self.count < 1:
            raise ValueError(f"augmentation count must be at least 1, got {self.count}")
        if not 0 <= self.keep <= self.count:
            raise ValueError(f"augmentation keep must lie between 0 (all) and count ({self.count}), got {self.keep}")

    def maps(self) -> list:
        """Kornia's modules for the maps that are switched on, in order."""
        import kornia.augmentation as K  # heavy; ComfyUI's start must not pay for it

        maps = []
        if self.flip:
            maps.append(K.RandomHorizontalFlip(p=0.5))
        if self.rotation or self.translation:
            shift = (self.translation, self.translation) if self.translation else None
            maps.append(K.RandomAffine(self.rotation, translate=shift, p=1.0))
        if self.perspective:
            maps.append(K.RandomPerspective(self.perspective, p=0.4))
        if self.colour:
            maps.append(K.ColorJitter(self.colour, self.colour, self.colour, min(self.colour, 0.5), p=0.5))
        if self.erasing:
            scale = (self.erasing / 4, self.erasing)
            maps.append(K.RandomErasing(scale=scale, ratio=(0.3, 3.3), p=1.0, same_on_batch=self.shared_erasing))
        return maps

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Random views of images.

        Args:
            images: [N, 3, H, W] in [0, 1]; each gets its own random map.
            generator: a CPU generator; the only source of randomness.
        Returns: [N, 3, H, W]; gradients reach ``images``.
        """
        views = images
        if self.crop:
            views = self._crop(views, generator)
        seed = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[]):  # kornia draws from the global CPU generator
            torch.default_generator.manual_seed(seed)
            for augment in self.maps():
                views = augment(views)
        spread = self.noise * torch.rand(len(views), 1, 1, 1, generator=generator)
        spread = (spread.square() + self.extra_noise**2).sqrt()
        if self.noise or self.extra_noise:
            views = views + (spread * torch.randn(views.shape, generator=generator)).to(views)
        return views

    def _crop(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        scale = 1 - self.crop * torch.rand(len(images), generator=generator)
        shift = (1 - scale)[:, None] * (2 * torch.rand(len(images), 2, generator=generator) - 1)
        theta = torch.zeros(len(images), 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale, scale, shift
        grid = F.affine_grid(theta.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


PAPER = Augmentation()
REFERENCE_CODE = replace(PAPER, count=10, extra_noise=0.2, shared_erasing=True, pooled_resize=True)
NONE = Augmentation(count=1, rotation=0, translation=0, perspective=0, colour=0, erasing=0, noise=0)
PRESETS = {"paper": PAPER, "reference code": REFERENCE_CODE, "none": NONE}
