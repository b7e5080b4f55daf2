"""The demo's referee: BLIP-2 stage 1 at 2.5 million parameters, trained to tell "a red circle to the left of a blue
square" from "a blue circle to the left of a red square".

Three losses share one vision pass: captioning of the true caption, image-text matching of the true caption against
three false ones (captions.MISTAKES), and dense helpers. Which object covers each patch, read from the vision tower:
kept as the ``where`` head. In the matching pass, layer after layer, what a decision needs: after the first, which of
the named things has a query's own colour (there are as many queries as colours); after the second, how many objects of
each shape have that colour, and where they are; after the third, how the two things lie that a caption names; after the
last, whether what each word says is so. Without these, colours and shapes are long seen but not bound, and relations
stay at chance.
"""

import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import nn

from referee_core.augment import PAPER
from referee_core.demo.captions import MISTAKES, caption, false_scene
from referee_core.demo.models import REFEREE, VOCABULARY
from referee_core.demo.storage import FOLDER
from referee_core.demo.storage import save as save_tensors
from referee_core.demo.world import MOST_ALIKE, MOST_NAMED, OBJECTS, SHAPES, Object, Scene, is_held_out
from referee_core.referees.blip2.model import Blip2, caption_loss, caption_mask, match_mask
from referee_core.referees.blip2.text import Tokenizer
from referee_core.referees.blip2.weights import save
from referee_core.referees.pixels import normalise

from . import common, made
from .labels import ARRANGING, offset_labels, query_labels, role_labels, word_labels
from .pictures import UNKNOWN, Pictures, paint, training_set

IMAGES = 32
FALSE = 3  # wrong captions for each picture, the first of them mostly about what the caption is about
ABOUT = {"pair": "swap", "three": "swap", "relation": "relation", "number": "number"}
TOKENIZER = Tokenizer(VOCABULARY, REFEREE.max_text_tokens)
AUGMENTATION = replace(PAPER, rotation=15, perspective=0.2, colour=0.04, erasing=0.06, noise=0.15)
AUGMENTED_FROM = 0.4  # of the training
NOISED_FROM = 0.3  # of the training: from then on half of the pictures are decoded from noised latents


def tokenise(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Match ids, caption ids [N, L] and mask of the scenes' captions."""
    encoded = [TOKENIZER.encode(caption(s)) for s in scenes]
    length = max(e.mask.shape[1] for e in encoded)

    def pad(rows):
        return torch.cat([F.pad(r, (0, length - r.shape[1])) for r in rows]).to(common.device())

    return pad(e.match_ids for e in encoded), pad(e.caption_ids for e in encoded), pad(e.mask for e in encoded)


class Student(nn.Module):
    """The referee, its ``where`` head, and the heads that only training has."""

    def __init__(self):
        super().__init__()
        self.blip2 = Blip2(REFEREE)
        self.where = nn.Linear(REFEREE.vision_dim, 1 + len(OBJECTS))
        self.count_head = nn.Linear(REFEREE.dim, len(SHAPES) * (1 + MOST_ALIKE))
        self.place_head = nn.Linear(REFEREE.dim, len(SHAPES) * 2)
        self.word_head = nn.Linear(REFEREE.dim, 2)
        self.role_head = nn.Linear(REFEREE.dim, MOST_NAMED)
        self.offset_head = nn.Linear(REFEREE.dim, 2)
        for name, p in self.named_parameters():
            if "embed" in name and "patch" not in name or name.endswith("_token") or name.endswith("_tokens"):
                nn.init.normal_(p, std=0.1)
            elif p.ndim > 1:
                nn.init.trunc_normal_(p, std=p[0].numel() ** -0.5)
        with torch.no_grad():
            self.blip2.vision.pos_embed[0, 1:] = waves(REFEREE.image_size // REFEREE.patch_size, REFEREE.vision_dim)

    def layers(self, ids: torch.Tensor, mask: torch.Tensor, image) -> list[torch.Tensor]:
        """Hidden states after each layer of the Q-Former; see its ``forward``."""
        states, qformer = [], self.blip2.qformer
        hooks = [layer.register_forward_hook(lambda *call: states.append(call[-1])) for layer in qformer.layers]
        try:
            qformer(ids, mask, image)
        finally:
            for hook in hooks:
                hook.remove()
        return states


def waves(side: int, dim: int) -> torch.Tensor:
    """Sines and cosines of each patch's column and row [side^2, dim], where positions start from: small random ones are
    drowned by the patches' content, and a referee without them learns neither relations nor numbers."""
    frequency = math.pi / 2 ** (torch.arange(dim // 4) * (4 / dim) * math.log2(4 * side))
    angle = torch.arange(side)[:, None] * frequency
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.cat([axis.repeat(side, 1), axis.repeat_interleave(side, 0)], dim=1)


def claims(rng: random.Random, known: Pictures, index: int) -> list[Scene]:
    """What is said of a picture: something true, if there is such a caption, and FALSE wrong things. No held-out
    caption is among them."""
    true = known.describe(rng, index)
    if true is not None and not is_held_out(true.objects):
        base, said = true, [true]
    else:
        base = _nearly(rng, [o for o in known.objects[index] if o != UNKNOWN] or [rng.choice(OBJECTS)])
        said = [base]
    if known.asked and not known.judged(index, known.asked[index]):
        said.append(known.asked[index])
    alike = len(set(known.objects[index])) == 1 < len(known.objects[index])
    about = "number" if alike else ABOUT.get(base.category, "colour")
    while len(said) <= FALSE:
        kind = about if len(said) == 1 and rng.random() < 0.8 else rng.choice(list(MISTAKES))
        wrong = false_scene(rng, base, kind)
        if wrong is not None and not is_held_out(wrong.objects):
            said.append(wrong)
    return said


def _nearly(rng: random.Random, objects: list[Object]) -> Scene:
    """A caption near to a picture of which none is true, or only a held-out one."""
    kinds = tuple(dict.fromkeys(rng.sample(objects, len(objects))))[:MOST_NAMED]
    most = max(kinds, key=objects.count)
    near = [Scene((most,) * n) for n in range(1, MOST_ALIKE + 1) if abs(n - objects.count(most)) <= 1]
    options = [scene for scene in (*near, Scene(kinds)) if not is_held_out(scene.objects)]
    return rng.choice(options or [Scene(kinds[:1])])


def loss_function(student: Student, sources_at: Callable[[int], list[Pictures]], augmented_from: int = 0):
    """Args: sources_at: step -> where its batch draws from, from each alike."""
    net, queries, said_of_each = student.blip2, REFEREE.queries, 1 + FALSE

    def loss_at(step: int, rng: random.Random):
        sources = sources_at(step)
        drawn = [(known, rng.randrange(len(known))) for known in sources for _ in range(IMAGES // len(sources))]
        pictures = torch.cat([known.floats([i]) for known, i in drawn]).to(common.device())
        cover = torch.stack([known.cover[i].float() for known, i in drawn]).to(pictures)
        truths = [(known.objects[i], known.centres[i]) for known, i in drawn]
        claimed = [claims(rng, known, i) for known, i in drawn]
        named = [said[k] for k in range(said_of_each) for said in claimed]
        honest = torch.tensor([known.judged(i, said[0]) for (known, i), said in zip(drawn, claimed, strict=True)])
        honest = honest.to(pictures.device)

        augments = step >= augmented_from and step % 4 > 0  # the patches' owners would have to be moved along
        if augments:
            pictures = AUGMENTATION(pictures, torch.Generator().manual_seed(step))
        else:
            pictures = pictures + 0.1 * torch.rand(len(drawn), 1, 1, 1).to(pictures) * torch.randn_like(pictures)

        tokens = net.vision(normalise(pictures))
        where = F.cross_entropy(student.where(tokens[:, 1:]).transpose(1, 2), cover.transpose(1, 2))
        image = net.qformer.image_keys_values(net.vision_norm(tokens))
        match_ids, caption_ids, mask = tokenise(named)

        true_ids, true_mask = caption_ids[: len(drawn)], mask[: len(drawn)]
        hidden = net.qformer(true_ids, caption_mask(true_mask, queries), image)
        caption_logits = net.caption_head(hidden[:, queries:], net.qformer.word_embeddings)
        cg = caption_loss(caption_logits, true_ids, true_mask)[honest].mean()
        repeated = [tuple(t.repeat(said_of_each, 1, 1, 1) for t in kv) for kv in image]
        first, early, middle, hidden = student.layers(match_ids, match_mask(mask, queries), repeated)
        logits = net.itm_head(hidden[:, :queries]).mean(1)
        target = torch.zeros(len(match_ids), dtype=torch.long, device=logits.device)
        target[: len(drawn)] = honest.long()
        itm = F.cross_entropy(logits, target, weight=torch.tensor([1.0, FALSE], device=logits.device))

        roles = role_labels(named).to(pictures.device)
        role = F.binary_cross_entropy_with_logits(student.role_head(first[:, :queries]), roles)
        counts, places = (t.to(pictures.device) for t in query_labels(truths * said_of_each))
        counted = student.count_head(early[:, :queries]).unflatten(-1, (len(SHAPES), -1))
        count = F.cross_entropy(counted.movedim(-1, 1), counts)
        placed = student.place_head(early[:, :queries]).unflatten(-1, (len(SHAPES), 2))
        place = F.smooth_l1_loss(placed[counts > 0], places[counts > 0])
        offsets = offset_labels(named, truths * said_of_each).to(pictures.device)
        known_offset = offsets.isfinite().all(-1)
        offset = F.smooth_l1_loss(student.offset_head(middle[:, :queries][known_offset]), offsets[known_offset])
        labels = word_labels(match_ids, named, truths * said_of_each)
        words = student.word_head(hidden[:, queries:]).transpose(1, 2)
        arranges = torch.isin(match_ids, ARRANGING.to(match_ids.device))  # few words, which would drown in the mean
        word = F.cross_entropy(words, labels.masked_fill(arranges, -1), ignore_index=-1)
        arranged = F.cross_entropy(words, labels.masked_fill(~arranges, -1), ignore_index=-1)

        loss = cg + itm + word + arranged + 5 * count + 5 * place + 5 * role + 5 * offset + (0 if augments else where)
        correct = (logits.argmax(-1) == target).float()
        return loss, {
            "cg": cg, "count": count, "place": place, "itm": itm, "where": where,
            "word": word, "arranged": arranged, "role": role, "offset": offset,
            "true": correct[: len(drawn)][honest].mean(), "false": correct[len(drawn) :].mean(),
        }  # fmt: skip

    return loss_at


@torch.no_grad()
def measure(net: Blip2, known: Pictures) -> dict:
    """Balanced accuracy of ITM's own decision for each kind of mistake, and how often the caption loss prefers the
    truth to swapped attributes. Of pictures that networks made, also of the decision about what they were made for."""
    rng = random.Random("referee-test")
    accepts, rejects = defaultdict(list), defaultdict(list)
    prefers = []
    for i in range(len(known)):
        true = known.describe(rng, i)
        said = {} if true is None else {"true": true} | {kind: false_scene(rng, true, kind) for kind in MISTAKES}
        said = {kind: scene for kind, scene in said.items() if scene is not None}
        if known.asked:
            said["asked"] = known.asked[i]
        image = net.encode_image(normalise(known.floats([i]).to(common.device())))
        image = [tuple(t.expand(len(said), -1, -1, -1) for t in kv) for kv in image]
        ids, caption_ids, mask = tokenise(list(said.values()))
        says = dict(zip(said, net.itm_logits(image, ids, mask).argmax(-1).tolist(), strict=True))
        for kind in MISTAKES.keys() & said.keys():
            accepts[kind].append(says["true"])
            rejects[kind].append(1 - says[kind])
        if known.asked:
            obeys = known.judged(i, known.asked[i])
            (accepts if obeys else rejects)["asked"].append(says["asked"] if obeys else 1 - says["asked"])
        if "swap" in said:
            losses = caption_loss(net.caption_logits(image, caption_ids, mask), caption_ids, mask)
            kinds = list(said)
            prefers.append(float(losses[kinds.index("true")] < losses[kinds.index("swap")]))
    figures = {f"itm_accuracy_{kind}": (mean(accepts[kind]) + mean(rejects[kind])) / 2 for kind in accepts}
    return figures | {"caption_prefers_truth": mean(prefers)}


def train(state_dir: Path, steps: int) -> None:
    """On drawn pictures, later on noised ones too."""
    torch.manual_seed(0)
    student, known = Student().to(common.device()), training_set(state_dir)

    def sources_at(step: int) -> list[Pictures]:
        return [known] if step < NOISED_FROM * steps else [known, made.noised(state_dir)]

    loss_at = loss_function(student, sources_at, int(AUGMENTED_FROM * steps))
    common.run("referee", student, steps, loss_at, peak=1.2e-3, state_dir=state_dir, bf16=True)
    finish(student)


def finish(student: Student) -> None:
    """Measure and save."""
    student.eval()
    shares = {"pair": 1, "relation": 1, "three": 1, "number": 1}
    held_out = paint(random.Random("referee-pictures"), 600, held_out=True, shares=shares)
    common.write_figures("referee", measure(student.blip2, held_out))
    save(FOLDER / "referee.safetensors", student.blip2, VOCABULARY, torch.float16)
    save_tensors("where", student.where.state_dict())
