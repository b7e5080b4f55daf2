"""Convert Referee where folders cannot be written or the disk is full."""

import resource
from pathlib import Path

from pack.nodes.bridge.models.own_files import writable
from pack.nodes.bridge.models.referee_files import convert_referee
from programs import given

found = {}

source, folder = Path(given["source"]), Path(given["folder"])
try:
    writable(["/proc/referee", str(source)], "referee")
except ValueError as error:
    found["nowhere"] = str(error)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # no file may be larger, as on a full disk
try:
    convert_referee(str(source), [str(folder)], "late", None)
except ValueError as error:
    found["full"] = str(error)
found["begun"] = [path.name for path in folder.iterdir()]
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
found["then"] = convert_referee(str(source), [str(folder)], "late", None)
found["ended"] = [path.name for path in folder.iterdir()]
