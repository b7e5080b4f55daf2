"""Run the tests in an environment of their own: ``python -m scripts.test [pytest arguments]``."""

import subprocess
import sys

from .environment import PACK, enter

if __name__ == "__main__":
    enter()
    raise SystemExit(
        subprocess.run(
            [sys.executable, "-m", "pytest", *(sys.argv[1:] or ["tests", "-m", "not slow"])], cwd=PACK
        ).returncode
    )
