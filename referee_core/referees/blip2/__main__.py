"""Convert published BLIP-2 files to one referee file.

``python -m referee_core.referees.blip2 SOURCE TARGET.safetensors``
"""

import argparse
from pathlib import Path

from .weights import open_source, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m referee_core.referees.blip2", description=__doc__)
    parser.add_argument("source", type=Path, help="blip2_pretrained.pth, or the folder or file of blip2-itm-vit-g")
    parser.add_argument("target", type=Path, help="the file to write, e.g. models/referee/blip2.safetensors")
    arguments = parser.parse_args()
    try:
        source = open_source(arguments.source)
    except (FileNotFoundError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    for name in source.unknown:
        print("not used:", name)
    if not source.config.caption_head:
        print("no caption head: put blip2_pretrained.pth beside the source to have it too")

    def progress(done: int, total: int) -> None:
        print(f"\r{done / 1e9:.2f} of {total / 1e9:.2f} GB", end="", flush=True)

    try:
        write(arguments.target, source, progress=progress)
    except OSError as error:
        parser.exit(1, f"\nWriting {arguments.target} ended: {error.strerror or error}. Make room and run again.\n")
    print(f"\n{arguments.target}")


if __name__ == "__main__":
    main()
