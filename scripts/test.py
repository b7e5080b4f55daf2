"""Run the tests in an environment of their own: ``python -m scripts.test [pytest arguments]``."""

import os
import subprocess
import sys

from .environment import PACK, enter

ALL = ["tests", "-m", "not slow", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"]
"""Three processes side by side, each with a ComfyUI of its own: on two cores, as each waits now and then."""

if __name__ == "__main__":
    enter()
    given = sys.argv[1:]
    threads = {} if given else {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", *(given or ALL)]
    raise SystemExit(subprocess.run(command, cwd=PACK, env={**os.environ, **threads}).returncode)
