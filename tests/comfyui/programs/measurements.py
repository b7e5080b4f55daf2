"""The size of the picture that a measured one shows, for each kind of the node Measurement."""

import torch

from pack.nodes.measurement import RefereeMeasurement

KINDS = {
    "super-resolution": {"factor": 8},
    "gaussian blur": {"horizontal": 2.0, "vertical": 1.0},
    "motion blur": {"size": 9, "intensity": 0.5, "seed": 0},
    "blur kernel": {"kernel": torch.ones(1, 3, 3, 3)},
    "inpainting": {"mask": torch.zeros(32, 48)},
    "box": {"width": 9, "height": 8},
    "random pixels": {"missing": 0.5, "seed": 0},
    "jpeg": {"quality": 20},
}


def loaded(kind):
    with torch.inference_mode():
        sockets = {name: KINDS[kind][name] for name in ("mask", "kernel") if name in KINDS[kind]}
    fields = {name: value for name, value in KINDS[kind].items() if name not in sockets}
    return RefereeMeasurement.execute({"kind": kind} | fields, noise=0.01, **sockets).result[0]


found = {"sizes": {}}
for kind in KINDS:
    one = loaded(kind)
    measured = one.make(32, 48).A(torch.rand(1, 3, 32, 48))
    whole = one.make(*(side * one.factor for side in measured.shape[-2:]))
    found["sizes"][kind] = [one.factor, list(whole.picture_size(*measured.shape[-2:]))]
try:
    loaded("super-resolution").make(50, 33)
except ValueError as error:
    found["error"] = str(error)
