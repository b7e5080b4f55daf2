"""Nodes called by another node, titles of nodes, and the checks of inputs."""

import server
import torch

from pack.nodes.bridge.inputs import check_finite, check_images
from pack.nodes.bridge.judging.scores import score, title_of
from pack.nodes.losses import RefereeLoss
from pack.nodes.referee_can_play import RefereeOptimizer
from pack.nodes.score import RefereeScore
from pack.referee_core.losses import plain_loss
from programs.players import loss, referee, vae

found = {}


class Nobody:  # listens to a server that nobody has started
    client_id = None

    def __getattr__(self, name):
        return lambda *a, **k: None


server.PromptServer.instance = Nobody()
RUN = dict(
    seed=1,
    steps=2,
    preset="paper",
    w1=2.0,
    lr=0.3,
    lr_end=0.15,
    noise=0.1,
    tail=0,
    result="last",
    record_every=1,
    views_at_once=0,
    stop_at=0.0,
    patience=0,
)


def call(node, prepared, **inputs):
    made = node.PREPARE_CLASS_CLONE(None) if prepared else node
    with torch.inference_mode():
        return getattr(made() if not prepared else made, node.FUNCTION)(**inputs).result


picture = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1))
for prepared in (False, True):
    red = "a (red:1.2) circle"
    text = call(RefereeLoss, prepared, referee=referee, text=red, itm_weight=1.0, caption_weight=0.0)[0]
    scores = call(RefereeScore, prepared, images=picture, loss=loss, keep=0)
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    run = call(RefereeOptimizer, prepared, vae=vae, latent_image=latent, loss=loss, **RUN)
    found[str(prepared)] = [score(text, picture).texts[0], scores[2], list(run[1].shape)]

graph = {
    "nodes": [{"id": 5, "type": "abc", "title": "Outer"}, {"id": 6, "title": "Mine"}, {"id": 7}],
    "definitions": {"subgraphs": [{"id": "abc", "nodes": [{"id": 2, "title": "Inner"}]}]},
}
found["titles"] = {n: title_of(graph, n) for n in ("6", "7", "5:2", "5:9", "6:2", "None")}


def message(check, *inputs):
    try:
        check(*inputs)
    except ValueError as error:
        return str(error)


bad = torch.zeros(3, 2, 2, 3)
bad[1, 0, 0, 0], bad[2, 0, 0, 0] = torch.inf, torch.nan
found["errors"] = {
    "finite": message(check_finite, "latent_image", bad),
    "good": message(check_finite, "latent_image", bad[:1]),
    "rgba": message(check_images, "images", torch.zeros(1, 8, 8, 4)),
    "mask": message(check_images, "images", torch.zeros(1, 8, 8)),
    "grey": message(check_images, "images", torch.zeros(1, 8, 8, 1)),
    "none": message(check_images, "images", torch.zeros(0, 8, 8, 3)),
}
found["plain"] = float(plain_loss(loss.loss, picture.movedim(-1, 1))[0].min())
