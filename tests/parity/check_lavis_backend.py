"""LavisReferee against Blip2Referee on the same random weights, in float64.

Run in LAVIS's environment (see lavis_offline.py): python tests/parity/check_lavis_backend.py
"""

import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
from lavis_offline import build, in_double, prepare  # noqa: E402
from make_fixtures import MODELS, TEXTS  # noqa: E402

from referee_core.referees.blip2.config import Blip2Config  # noqa: E402
from referee_core.referees.blip2.keys import translate  # noqa: E402
from referee_core.referees.blip2.lavis import LavisReferee  # noqa: E402
from referee_core.referees.blip2.model import Blip2  # noqa: E402
from referee_core.referees.blip2.referee import Blip2Referee  # noqa: E402
from referee_core.referees.tensor_files import LazyTensor  # noqa: E402


def main() -> None:
    prepare()
    for seed, (name, sizes) in enumerate(MODELS.items()):
        with tempfile.TemporaryDirectory() as folder:
            model = build(sizes, Path(folder) / "vocab.txt", seed)
        ours, _ = translate({k: LazyTensor(tuple(v.shape), lambda v=v: v) for k, v in model.state_dict().items()})
        network = Blip2(Blip2Config(**sizes)).double()
        network.load_state_dict({k: v.read().double() for k, v in ours.items()})
        lavis = LavisReferee(in_double(model))
        referees = (lavis, Blip2Referee(network, lavis.tokenizer.vocabulary))
        for text in TEXTS:
            images = torch.rand(2, 3, *2 * [sizes["image_size"]], dtype=torch.float64, requires_grad=True)
            for term in lavis.terms:
                results = []
                for referee in referees:
                    assert referee.image_size == sizes["image_size"]
                    loss = referee.losses(referee.encode_images(images), referee.encode(text), (term,))[term]
                    results.append((loss, torch.autograd.grad(loss.sum(), images)[0]))
                for theirs, mine in zip(*results, strict=True):
                    difference = ((theirs - mine).norm() / theirs.norm()).item()
                    assert difference <= 1e-9, f"{name}, {text!r}, {term}: {difference}"
        print(name, "equal")


if __name__ == "__main__":
    main()
