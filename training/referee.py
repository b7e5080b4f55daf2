"""The demo's referee: BLIP-2 stage 1 at 2.5 million parameters, trained to tell "a red circle and a blue square" from
"a blue circle and a red square".

Three losses share one vision pass: captioning of the true caption, image-text matching of the true caption against
four false ones (colours swapped, a wrong colour, a wrong shape, an object too many or too few), and three dense helpers
that are thrown away afterwards: which object covers each patch, read from the vision tower; which shapes have the
query's own colour and how many of each, read from the queries (there are as many as colours: it breaks the plateau on
which colours and shapes are seen but not bound); and for each shape word in the matching pass, whether its object is
there.
"""

import random
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from referee_core.augment import PAPER
from referee_core.demo.models import REFEREE, VOCABULARY
from referee_core.demo.storage import FOLDER
from referee_core.demo.world import COLOURS, OBJECTS, SHAPES, Scene, caption, false_scene, random_scene
from referee_core.referees.blip2.model import Blip2, caption_loss, caption_mask, match_mask
from referee_core.referees.blip2.text import Tokenizer
from referee_core.referees.blip2.weights import save
from referee_core.referees.pixels import normalise

from . import common

IMAGES = 32
KINDS = ("swap", "colour", "shape", "count")
CROWDED = 0.5  # share of pictures with one or two objects more than the caption names, which makes it false
TOKENIZER = Tokenizer(VOCABULARY, REFEREE.max_text_tokens)
SHAPE_IDS = torch.tensor([VOCABULARY.index(s) for s in SHAPES])
AUGMENTATION = replace(PAPER, rotation=20, perspective=0.2, colour=0.04, erasing=0.06, noise=0.15)
AUGMENTED_FROM = 0.4  # of the training
NOISED_FROM = 0.35  # of the training: from then on half of the pictures are decoded from noised latents
MOST_ALIKE = 2  # objects of the same colour and shape that are told apart from fewer
MOST_NOISE = 1.2  # radians; the latent is cos z + sin eps


def tokenise(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Match ids, caption ids [N, L] and mask of the scenes' captions."""
    encoded = [TOKENIZER.encode(caption(s)) for s in scenes]
    length = max(e.mask.shape[1] for e in encoded)

    def pad(rows):
        return torch.cat([F.pad(r, (0, length - r.shape[1])) for r in rows]).to(common.device())

    return pad(e.match_ids for e in encoded), pad(e.caption_ids for e in encoded), pad(e.mask for e in encoded)


class Student(nn.Module):
    """The referee with its training-only heads."""

    def __init__(self):
        super().__init__()
        self.blip2 = Blip2(REFEREE)
        self.patch_head = nn.Linear(REFEREE.vision_dim, 1 + len(OBJECTS))
        self.query_head = nn.Linear(REFEREE.dim, len(SHAPES) * (1 + MOST_ALIKE))
        self.word_head = nn.Linear(REFEREE.dim, 2)
        for name, p in self.named_parameters():
            if "embed" in name and "patch" not in name or name.endswith("_token") or name.endswith("_tokens"):
                nn.init.normal_(p, std=0.1)
            elif p.ndim > 1:
                nn.init.trunc_normal_(p, std=p[0].numel() ** -0.5)


def false_caption(rng: random.Random, scene: Scene, kind: str) -> Scene:
    """A wrong description: of world.false_scene's kinds, or 'count', which leaves one object out or adds one."""
    if kind != "count":
        return false_scene(rng, scene, kind)
    return (rng.choice(scene),) if len(scene) == 2 else (*scene, rng.choice([o for o in OBJECTS if o not in scene]))


def crowd(rng: random.Random, scene: Scene) -> Scene:
    """The scene with an object or two that its caption does not name, now and then: often a second copy of one it
    does."""
    if rng.random() >= CROWDED:
        return scene
    extra = rng.choice([1, 2]) if len(scene) == 1 else 1
    return (*scene, *(rng.choice(scene if rng.random() < 0.6 else OBJECTS) for _ in range(extra)))


def noised(vae, pictures: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Pictures as the optimisation meets them: decoded from latents on their way from noise to an image."""
    z = common.encode(vae, pictures)
    angle = torch.tensor([rng.uniform(0, MOST_NOISE) for _ in pictures], device=z.device)[:, None, None, None]
    return common.decode(vae, angle.cos() * z + angle.sin() * torch.randn(z.shape).to(z))


def patch_labels(owners: torch.Tensor) -> torch.Tensor:
    """Owner of each patch's centre: [B, S, S] -> [B, patches]."""
    p = REFEREE.patch_size
    return owners[:, p // 2 :: p, p // 2 :: p].flatten(1)


def query_labels(scenes: list[Scene]) -> torch.Tensor:
    """How many objects of each colour and shape there are, at most MOST_ALIKE: [B, colours, shapes]."""
    labels = torch.zeros(len(scenes), len(COLOURS), len(SHAPES), dtype=torch.long)
    for row, scene in enumerate(scenes):
        for colour, shape in scene:
            labels[row, list(COLOURS).index(colour), SHAPES.index(shape)] += 1
    return labels.clamp(max=MOST_ALIKE).to(common.device())


def word_labels(ids: torch.Tensor, named: list[Scene], truths: list[Scene]) -> torch.Tensor:
    """For each shape word: 1 if the object it belongs to is in the picture, else 0; -1 at every other token."""
    labels = torch.full(ids.shape, -1)
    for row, (scene, truth) in enumerate(zip(named, truths, strict=True)):
        places = torch.isin(ids[row].cpu(), SHAPE_IDS).nonzero().flatten()
        for place, thing in zip(places, scene, strict=True):
            labels[row, place] = int(thing in truth)
    return labels.to(ids.device)


def loss_function(student: Student, vae, steps: int):
    net = student.blip2
    queries = REFEREE.queries

    def loss_at(step: int, rng: random.Random):
        scenes = [random_scene(rng) for _ in range(IMAGES)]
        shown = [crowd(rng, s) for s in scenes]
        pictures, owners = common.pictures(shown, rng)
        honest = torch.tensor([s == c for s, c in zip(scenes, shown, strict=True)], device=pictures.device)
        if step > NOISED_FROM * steps:
            half = IMAGES // 2
            pictures = torch.cat([noised(vae, pictures[:half], rng), pictures[half:]])
        generator = torch.Generator().manual_seed(step)
        if step > AUGMENTED_FROM * steps and step % 4:
            pictures = AUGMENTATION(pictures, generator)
            patch_weight = 0.0  # the owners would have to be moved along
        else:
            patch_weight = 1.0
            pictures = pictures + 0.1 * torch.rand(IMAGES, 1, 1, 1) * torch.randn_like(pictures)

        tokens = net.vision(normalise(pictures))
        patch = F.cross_entropy(student.patch_head(tokens[:, 1:]).transpose(1, 2), patch_labels(owners))
        image = net.qformer.image_keys_values(net.vision_norm(tokens))

        named = [tuple(rng.sample(s, len(s))) for s in scenes]
        for kind in KINDS:
            named += [tuple(rng.sample(f, len(f))) for f in (false_caption(rng, s, kind) for s in scenes)]
        truths = shown * (1 + len(KINDS))
        match_ids, caption_ids, mask = tokenise(named)

        true_ids, true_mask = caption_ids[:IMAGES], mask[:IMAGES]
        hidden = net.qformer(true_ids, caption_mask(true_mask, queries), image)
        caption_logits = net.caption_head(hidden[:, queries:], net.qformer.word_embeddings)
        cg = caption_loss(caption_logits, true_ids, true_mask)[honest].mean()
        counted = student.query_head(hidden[:, :queries]).unflatten(-1, (len(SHAPES), -1))
        query = F.cross_entropy(counted.movedim(-1, 1), query_labels(shown))

        repeats = 1 + len(KINDS)
        repeated = [tuple(t.repeat(repeats, 1, 1, 1) for t in kv) for kv in image]
        hidden = net.qformer(match_ids, match_mask(mask, queries), repeated)
        logits = net.itm_head(hidden[:, :queries]).mean(1)
        target = torch.zeros(len(match_ids), dtype=torch.long, device=logits.device)
        target[:IMAGES] = honest.long()
        weight = torch.tensor([1.0, 4.0], device=logits.device)
        itm = F.cross_entropy(logits, target, weight=weight)
        words = student.word_head(hidden[:, queries:])
        word = F.cross_entropy(words.transpose(1, 2), word_labels(match_ids, named, truths), ignore_index=-1)

        loss = cg + itm + word + 5 * query + patch_weight * patch
        swap = logits[IMAGES : 2 * IMAGES].softmax(-1)[:, 0]
        correct = (logits.argmax(-1) == target).float()
        return loss, {
            "cg": cg, "query": query, "itm": itm, "word": word, "patch": patch,
            "true": correct[:IMAGES][honest].mean(), "crowded": correct[:IMAGES][~honest].mean(),
            "swap": (swap > 0.5).float().mean(), "other": correct[2 * IMAGES :].mean(),
        }  # fmt: skip

    return loss_at


@torch.no_grad()
def measure(net: Blip2, count: int = 600) -> dict:
    """Accuracies on held-out pictures and captions: ITM's own decision, and which caption has the lower loss."""
    rng = random.Random("referee-test")
    sums = {f"itm_accuracy_{kind}": 0.0 for kind in KINDS} | {"caption_prefers_truth": 0.0}
    done = 0
    while done < count:
        scenes, pictures, _ = common.batch(rng, 50, held_out=True)
        chosen = [i for i, s in enumerate(scenes) if len(s) == 2 and s[0][0] != s[1][0] and s[0][1] != s[1][1]]
        scenes, image = [scenes[i] for i in chosen], net.encode_image(normalise(pictures[chosen]))
        ids, caption_ids, mask = tokenise(scenes)
        accept = net.itm_logits(image, ids, mask).argmax(-1) == 1
        true_cg = caption_loss(net.caption_logits(image, caption_ids, mask), caption_ids, mask)
        for kind in KINDS:
            ids, caption_ids, mask = tokenise([false_caption(rng, s, kind) for s in scenes])
            reject = net.itm_logits(image, ids, mask).argmax(-1) == 0
            sums[f"itm_accuracy_{kind}"] += (accept.float() + reject.float()).sum().item() / 2
            if kind == "swap":
                false_cg = caption_loss(net.caption_logits(image, caption_ids, mask), caption_ids, mask)
                sums["caption_prefers_truth"] += (true_cg < false_cg).sum().item()
        done += len(scenes)
    return {k: v / done for k, v in sums.items()}


def train(state_dir: Path, steps: int) -> None:
    torch.manual_seed(0)
    student = Student().to(common.device())
    common.run(
        "referee",
        student,
        steps,
        loss_function(student, common.frozen_vae(), steps),
        peak=1.2e-3,
        state_dir=state_dir,
        bf16=False,
    )
    student.eval()
    common.write_figures("referee", measure(student.blip2))
    save(FOLDER / "referee.safetensors", student.blip2, VOCABULARY, torch.float16)
