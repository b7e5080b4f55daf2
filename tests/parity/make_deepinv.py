"""What deepinv's operators make of small random pictures, for tests/core/test_measurements.py.

pip install --target DIR deepinv && PYTHONPATH=DIR:. python -m tests.parity.make_deepinv
"""

from pathlib import Path

import torch
from deepinv import physics
from safetensors.torch import save_file

FILE = Path(__file__).parent / "deepinv" / "operators.safetensors"
HEIGHT, WIDTH, LAM = 12, 16, 0.3


def main() -> None:
    def draw(seed: int, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    x, y = draw(1, 2, 3, HEIGHT, WIDTH), draw(2, 2, 3, HEIGHT, WIDTH)
    mask = (draw(3, 1, 1, HEIGHT, WIDTH) > 0).double()
    kernels = {"odd": draw(4, 5, 3).abs(), "even": draw(5, 4, 6).abs()}
    made = {"x": x, "y": y, "mask": mask}
    theirs = {"mask": physics.Inpainting((3, HEIGHT, WIDTH), mask=mask.expand(1, 3, -1, -1))}
    for name, kernel in kernels.items():
        made[f"kernel {name}"] = kernel = kernel / kernel.sum()
        theirs[name] = physics.Blur(kernel[None, None], padding="reflect", max_iter=200, tol=1e-6)
    for name, operator in theirs.items():
        results = (operator.A(x), operator.A_adjoint(y), operator.prox_l2(x, y, 1 / LAM))
        made |= {f"{name} {what}": r for what, r in zip(("A", "adjoint", "prox"), results, strict=True)}
    save_file({name: t.contiguous() for name, t in made.items()}, FILE)


if __name__ == "__main__":
    main()
