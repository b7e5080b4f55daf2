"""Names and shapes of the published files at full size, against LAVIS's own; nothing is read."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from referee_core.referees.blip2.config import Blip2Config
from referee_core.referees.blip2.files import check
from referee_core.referees.blip2.keys import from_tower, infer_config, translate
from referee_core.referees.tensor_files import LazyTensor

PARITY = Path(__file__).parents[1] / "parity"

with open(PARITY / "blip2_key_map.tsv", newline="") as file:
    KEY_MAP = list(csv.DictReader(file, delimiter="\t"))


def only_shapes(shapes: dict[str, tuple]) -> dict[str, LazyTensor]:
    return {name: LazyTensor(shape, lambda: pytest.fail("nothing is to be read")) for name, shape in shapes.items()}


def published(patches: int = 256) -> dict[str, LazyTensor]:
    shapes = {row["lavis_key"]: tuple(map(int, filter(None, row["shape"].strip("()").split(",")))) for row in KEY_MAP}
    shapes["visual_encoder.pos_embed"] = (1, 1 + patches, 1408)
    return only_shapes(shapes)


@pytest.mark.parametrize(("pixels", "patches"), [(224, 256), (364, 676)])
def test_lavis_at_full_size(pixels, patches):
    assert len(KEY_MAP) == 857
    ours, unknown = translate(published(patches))
    assert unknown == []
    assert infer_config(ours) == replace(Blip2Config(), image_size=pixels)
    check("published", infer_config(ours), ours)


def test_hugging_face_at_full_size():
    shapes = {}
    for row in KEY_MAP:
        name = row["hf_key"]
        if name == "DROP" or name.startswith("lm_head."):
            continue
        shape = tuple(map(int, filter(None, row["shape"].strip("()").split(","))))
        if name.endswith(("[q]", "[v]")):
            name, shape = name[:-3], (3 * shape[0],)
        shapes[name] = shape
    ours, unknown = translate(only_shapes(shapes))
    assert unknown == []
    assert infer_config(ours) == replace(Blip2Config(), caption_head=False)
    check("published", infer_config(ours), ours)


def test_a_tower_of_more_blocks_and_with_heads_is_cut_to_what_blip2_uses():
    whole = published()
    bare = {k.removeprefix("visual_encoder."): v for k, v in whole.items() if k.startswith("visual_encoder.")}
    bare |= {k.replace("blocks.38.", "blocks.39."): v for k, v in bare.items() if k.startswith("blocks.38.")}
    bare |= only_shapes(
        {"norm.weight": (1408,), "norm.bias": (1408,), "head.weight": (1024, 1408), "head.bias": (1024,)}
    )
    rest = {k: v for k, v in whole.items() if not k.startswith("visual_encoder.")}
    ours, unknown = translate(rest | from_tower(bare))
    assert unknown == []
    check("published", Blip2Config(), ours)
