"""Write the parity fixtures: random BLIP-2 models of LAVIS with their losses and image gradients in float64.

Run in LAVIS's environment (see lavis_offline.py): python tests/parity/make_fixtures.py
Each file holds LAVIS's weights (float32, by LAVIS's names), and under "expected." the pictures, token ids, logits,
losses and gradients of three texts, one at a time and as one padded batch.
"""

import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from lavis_offline import WORDS, build, in_double, prepare  # noqa: E402

TEXTS = (
    "two small dogs",
    "A red cat, sitting under the table",
    "a red cat sitting under the table with a big blue dog on a house , and a photo of the sea",  # too long
)
BASE = dict(
    image_size=28, patch_size=14, vision_dim=32, vision_depth=3, vision_heads=4, vision_mlp_dim=72, dim=24, layers=4,
    heads=4,
    mlp_dim=40, cross_attention_every=2, queries=6, vocab_size=len(WORDS) + 1, max_positions=40, max_text_tokens=12,
)  # fmt: skip
MODELS = {
    "published-pattern": BASE,
    "every-layer-reads": BASE | dict(cross_attention_every=1, layers=3, vision_depth=2, image_size=42, queries=4),
    "every-third-reads": BASE
    | dict(cross_attention_every=3, layers=5, vision_depth=4, vision_heads=2, dim=32, heads=2),
}


def caption_loss(model, image_embeds: torch.Tensor, tokens) -> torch.Tensor:
    """The image-captioning part of Blip2Qformer.forward with LAVIS's own modules."""
    queries = model.query_tokens.expand(len(image_embeds), -1, -1)
    seen = torch.ones(image_embeds.shape[:-1], dtype=torch.long)
    cached = model.Qformer.bert(
        query_embeds=queries,
        encoder_hidden_states=image_embeds,
        encoder_attention_mask=seen,
        use_cache=True,
        return_dict=True,
    )
    ids = tokens.input_ids.clone()
    ids[:, 0] = model.tokenizer.bos_token_id
    labels = ids.masked_fill(ids == model.tokenizer.pad_token_id, -100)
    mask = torch.cat([torch.ones(queries.shape[:-1], dtype=torch.long), tokens.attention_mask], dim=1)
    return model.Qformer(
        ids, attention_mask=mask, past_key_values=cached.past_key_values, return_dict=True, labels=labels
    ).loss


def expectations(model, size: int, seed: int) -> dict[str, torch.Tensor]:
    images = torch.randn(len(TEXTS), 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def tokens(texts, **options):
        return model.tokenizer(texts, truncation=True, max_length=model.max_txt_len, return_tensors="pt", **options)

    def embeds(pixels):
        return model.ln_vision(model.visual_encoder(pixels))

    found = {"images": images}
    for i, text in enumerate(TEXTS):
        pixels = images[i : i + 1].clone().requires_grad_()
        logits = model({"image": pixels, "text_input": [text]}, match_head="itm")
        itm = F.cross_entropy(logits, torch.ones(1, dtype=torch.long))
        caption = caption_loss(model, embeds(pixels), tokens([text]))
        found |= {
            f"{i}.ids": tokens([text]).input_ids,
            f"{i}.itm_logits": logits.detach(),
            f"{i}.itm_gradient": torch.autograd.grad(itm, pixels)[0],
            f"{i}.caption_loss": caption.detach(),
            f"{i}.caption_gradient": torch.autograd.grad(caption, pixels)[0],
        }
    pixels, padded = images.clone().requires_grad_(), tokens(list(TEXTS), padding="max_length")
    caption = caption_loss(model, embeds(pixels), padded)
    found |= {
        "padded.ids": padded.input_ids,
        "padded.mask": padded.attention_mask.bool(),
        "padded.match_logit": model.compute_itm(embeds(pixels), padded.input_ids, padded.attention_mask).detach(),
        "padded.caption_loss": caption.detach(),
        "padded.caption_gradient": torch.autograd.grad(caption, pixels)[0],
    }
    return {f"expected.{k}": v.contiguous() for k, v in found.items()}


def main() -> None:
    prepare()
    for seed, (name, sizes) in enumerate(MODELS.items()):
        with tempfile.TemporaryDirectory() as folder:
            model = build(sizes, Path(folder) / "vocab.txt", seed)
        weights = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
        expected = expectations(in_double(model), sizes["image_size"], seed)
        metadata = {"sizes": json.dumps(sizes), "texts": json.dumps(TEXTS), "words": json.dumps(WORDS)}
        save_file(weights | expected, HERE / f"{name}.safetensors", metadata)
        print(name, (HERE / f"{name}.safetensors").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
