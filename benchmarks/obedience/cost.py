"""What a picture costs: the calls of the networks, and what the same calls cost at the sizes that people use."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """TFLOP of one call of each network.

    Attributes:
        pairs: the diffusion model with and without the prompt; of a distilled one, which knows no negative prompt, one
            pass. decodes, decode_gradients: the autoencoder's decoder, and back through it.
        views, view_gradients: the referee on one view, and back through it.
    """

    name: str
    pairs: float
    decodes: float
    decode_gradients: float
    views: float
    view_gradients: float


SD15 = Size("SD 1.5 at 512 px, BLIP-2", 1.6, 2.5, 2.5, 0.56, 0.58)
QWEN_IMAGE = Size("Qwen-Image (20 billion) at 1024 px, Qwen3-VL 4B", 2 * 69.3, 4.71, 4.71, 2.46, 2.46)
Z_IMAGE = Size("Z-Image Turbo (6 billion, no CFG) at 1024 px, Qwen3-VL 4B", 55.6, 10.47, 10.47, 2.46, 2.46)
SIZES = (SD15, QWEN_IMAGE, Z_IMAGE)
"""The last two are counted by ``python -m benchmarks.obedience.sizes``; with frozen weights the way back costs what the
way there does."""


@dataclass(frozen=True)
class Calls:
    """How often each network is asked for one picture; see Size."""

    pairs: int = 0
    decodes: int = 0
    decode_gradients: int = 0
    views: int = 0
    view_gradients: int = 0

    @property
    def tflop(self) -> float:
        return self.price(SD15)

    def price(self, size: Size) -> float:
        """TFLOP at a size."""
        return sum(count * getattr(size, name) for name, count in vars(self).items())

    def __add__(self, other: "Calls") -> "Calls":
        return Calls(**{name: count + getattr(other, name) for name, count in vars(self).items()})
