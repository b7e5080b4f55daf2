"""Train the demo's networks: ``python -m training [vae referee diffusion hardened]``.

Seeded and resumable: stop it at any time and start it again. Writes weights and measured figures to
referee_core/demo/weights. On two CPU cores each stage takes between twenty minutes and an hour; on a GPU, minutes.
"""

import argparse
from pathlib import Path

STAGES = ("vae", "referee", "diffusion", "hardened")
STEPS = {"vae": 2400, "referee": 6000, "diffusion": 7000, "hardened": 1500}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stages", nargs="*", choices=STAGES, default=STAGES, help="default: all, in this order")
    parser.add_argument("--state", type=Path, default=Path(".training"), help="where unfinished states are kept")
    parser.add_argument("--steps", type=int, help="fewer steps, to try the script out")
    args = parser.parse_args()
    for stage in args.stages:
        from importlib import import_module

        import_module(f"training.{stage}").train(args.state, args.steps or STEPS[stage])


if __name__ == "__main__":
    main()
