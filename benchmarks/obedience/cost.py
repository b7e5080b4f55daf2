"""What a picture costs: the calls of the networks, and what the same calls cost at SD 1.5's and BLIP-2's size."""

from dataclasses import dataclass

TFLOP = {"pairs": 1.6, "decodes": 2.5, "decode_gradients": 2.5, "views": 0.56, "view_gradients": 0.58}
"""Of one call: the UNet with and without the prompt; the autoencoder's decoder, and back through it; the referee on one
view, and back through it."""


@dataclass(frozen=True)
class Calls:
    """How often each network is asked for one picture; see TFLOP."""

    pairs: int = 0
    decodes: int = 0
    decode_gradients: int = 0
    views: int = 0
    view_gradients: int = 0

    @property
    def tflop(self) -> float:
        return sum(count * TFLOP[name] for name, count in vars(self).items())

    def __add__(self, other: "Calls") -> "Calls":
        return Calls(**{name: count + getattr(other, name) for name, count in vars(self).items()})
