"""Where a thing of the demo world is: which patches of a picture it covers, by the referee's vision tower and one layer
that was trained beside it. The demo's detector."""

import torch
from torch import nn

from referee_core.demo import storage
from referee_core.demo.models import REFEREE
from referee_core.demo.world import OBJECTS, Object
from referee_core.referees.blip2.model import Blip2
from referee_core.referees.pixels import normalise

SIDE = REFEREE.image_size // REFEREE.patch_size


class Where:
    """Args: network: the demo's referee."""

    def __init__(self, network: Blip2):
        self.network = network
        self.head = nn.Linear(REFEREE.vision_dim, 1 + len(OBJECTS)).requires_grad_(False)
        self.head.load_state_dict(storage.load("where"))

    def __call__(self, images: torch.Tensor, thing: Object) -> torch.Tensor:
        """The share of each patch that things of this colour and shape cover, [B, SIDE, SIDE] in [0, 1].

        Args:
            images: [B, 3, S, S] in [0, 1], S the referee's size; gradients reach them.
        """
        tokens = self.network.vision(normalise(images))[:, 1:]
        share = self.head.to(tokens)(tokens).softmax(-1)[..., 1 + OBJECTS.index(thing)]
        return share.view(-1, SIDE, SIDE)
