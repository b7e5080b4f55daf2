"""Published BLIP-2 files of each kind, small and made here."""

import json
from pathlib import Path

import pytest
import torch
from core.published_files import assert_same_state, put_lavis, read_lavis
from safetensors.torch import save_file

from referee_core.losses import bind
from referee_core.referees.blip2.files import open_published
from referee_core.referees.blip2.text import DEC
from referee_core.referees.blip2.weights import load, open_source
from referee_core.referees.pixels import normalise


@pytest.fixture(scope="module")
def lavis():
    return read_lavis()


@pytest.mark.parametrize("choose", ["file", "folder"])
def test_lavis_files_are_put_together(tmp_path, lavis, choose):
    path = put_lavis(tmp_path, *lavis)
    source = open_source(path if choose == "file" else tmp_path)
    assert [f.name for f in source.files] == ["blip2_pretrained.pth", "eva_vit_g.pth", "vocab.txt"]
    assert source.unknown == ()
    assert_same_state(load(path), lavis[0])
    assert load(path).tokenizer.vocabulary == [*lavis[1], DEC]
    assert load(path).terms == ("itm", "caption")


def test_a_whole_lavis_file_needs_no_tower_beside_it(tmp_path, lavis):
    weights, words = lavis
    torch.save({"model": weights}, tmp_path / "blip2_finetune_coco.pth")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert_same_state(load(tmp_path / "blip2_finetune_coco.pth"), weights)


def test_a_tower_alone_and_a_missing_tower_are_explained(tmp_path, lavis):
    path = put_lavis(tmp_path, *lavis)
    with pytest.raises(ValueError, match=r"eva_vit_g.pth is only the vision tower. Choose blip2_pretrained.pth"):
        open_source(tmp_path / "eva_vit_g.pth")
    (tmp_path / "eva_vit_g.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"put eva_vit_g.pth .* beside it"):
        open_source(path)


def test_missing_and_misshaped_tensors_are_all_named_by_our_names_and_strange_ones_are_listed(tmp_path, lavis):
    weights = dict(lavis[0])
    del weights["Qformer.bert.encoder.layer.1.output_query.dense.weight"]
    weights["ln_vision.bias"] = torch.zeros(5)
    path = put_lavis(tmp_path, weights, lavis[1])
    with pytest.raises(ValueError, match="blip2_pretrained.pth") as error:
        open_source(path)
    assert "missing qformer.layers.1.query_mlp.fc2.weight" in str(error.value)
    assert "vision_norm.bias is (5,), expected (32,)" in str(error.value)
    assert str(error.value).count(";") == 1
    whole = put_lavis(tmp_path, lavis[0] | {"opt_proj.weight": torch.zeros(2)}, lavis[1])
    assert open_source(whole).unknown == ("opt_proj.weight",)


@pytest.mark.parametrize(
    "spoil", [lambda w: w[:-1], lambda w: [*w, "zebra"], lambda w: ["x" if t == "[SEP]" else t for t in w]]
)
def test_another_vocabulary_is_refused(tmp_path, lavis, spoil):
    path = put_lavis(tmp_path, lavis[0], spoil(lavis[1]))
    with pytest.raises(ValueError, match=r"vocab.txt .*bert-base-uncased"):
        open_source(path)


def test_a_vocabulary_of_the_published_size_must_have_its_special_words_at_their_places(tmp_path):
    from referee_core.referees.blip2.files import BERT_IDS, BERT_WORDS, find_vocabulary

    words = [f"w{i}" for i in range(BERT_WORDS)]
    for token, place in BERT_IDS.items():
        words[place] = token
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    assert find_vocabulary(tmp_path / "x", BERT_WORDS + 1)[1] == [*words, DEC]
    words[101], words[102] = words[102], words[101]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    with pytest.raises(ValueError, match=r"\[CLS\], \[SEP\] not where"):
        find_vocabulary(tmp_path / "x", BERT_WORDS + 1)


def test_a_missing_vocabulary_is_explained(tmp_path, lavis):
    path = put_lavis(tmp_path, *lavis)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"put vocab.txt of bert-base-uncased .* beside it"):
        open_source(path)


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_a_cut_pickle_is_refused_by_name(tmp_path, lavis, keep):
    path = put_lavis(tmp_path, *lavis)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"blip2_pretrained.pth cannot be read .*damaged"):
        open_source(path)


def test_a_pickle_with_code_is_refused_and_never_executed(tmp_path, lavis):
    mark = tmp_path / "executed"

    class Trap:
        def __reduce__(self):
            return open, (str(mark), "w")

    path = put_lavis(tmp_path, *lavis)
    torch.save({"model": {"query_tokens": Trap()}}, path)
    with pytest.raises(ValueError, match=r"blip2_pretrained.pth .*never executed"):
        open_source(path)
    assert not mark.exists()


# small files of Hugging Face's kind


@pytest.fixture(scope="module")
def hugging_face():
    """transformers' own model with random weights; the tower's last norm as LAVIS and so ours has it."""
    from transformers import Blip2Config as TheirConfig
    from transformers import Blip2ForImageTextRetrieval, Blip2QFormerConfig, Blip2VisionConfig

    torch.manual_seed(0)
    vision = Blip2VisionConfig(
        hidden_size=176, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    qformer = Blip2QFormerConfig(
        hidden_size=128, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, encoder_hidden_size=176,
        vocab_size=32, max_position_embeddings=16, cross_attention_frequency=2, use_qformer_text_input=True,
    )  # fmt: skip
    config = TheirConfig(
        vision_config=vision.to_dict(), qformer_config=qformer.to_dict(), num_query_tokens=5, image_text_hidden_size=8
    )
    model = Blip2ForImageTextRetrieval(config).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape) * 0.3 + ("norm" in name.lower() and name.endswith("weight")))
            if name.endswith("qkv.bias"):
                p[176:352] = 0
    model.vision_model.post_layernorm.eps = 1e-5
    model.config.image_token_index = None
    return model


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "dog"] + [f"w{i}" for i in range(22)]


def put_hugging_face(folder: Path, model) -> Path:
    folder.mkdir()
    save_file({k: v.float().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "config.json").write_text("{}")
    return folder


def test_a_hugging_face_folder_judges_as_transformers_does(tmp_path, hugging_face):
    folder = put_hugging_face(tmp_path / "blip2-itm-vit-g", hugging_face)
    referee = load(folder)
    assert referee.terms == ("itm",)
    text = referee.encode("a red cat")
    pixels = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    referee.network.double()
    with torch.no_grad():
        image = referee.network.encode_image(normalise(pixels.double()))
        ours = referee.network.itm_logits(image, text.match_ids.expand(2, -1), text.mask.expand(2, -1))
        theirs = hugging_face(
            input_ids=text.match_ids.expand(2, -1),
            attention_mask=text.mask.expand(2, -1).long(),
            pixel_values=normalise(pixels.double()),
            use_image_text_matching_head=True,
        ).logits_per_image
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)  # the file is in single precision


def test_several_files_are_read_as_one(tmp_path, hugging_face):
    whole = put_hugging_face(tmp_path / "whole", hugging_face)
    split = put_hugging_face(tmp_path / "split", hugging_face)
    (split / "model.safetensors").unlink()
    state = {k: v.float().contiguous() for k, v in hugging_face.state_dict().items()}
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, name in enumerate(names):
        save_file(dict(list(state.items())[i::2]), split / name)
    index = {k: names[i % 2] for i, k in enumerate(state)}
    (split / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    expected = load(whole).network.state_dict()
    for path in (split, split / names[1]):
        for name, value in load(path).network.state_dict().items():
            assert torch.equal(value, expected[name])
    (split / names[0]).unlink()
    with pytest.raises(FileNotFoundError, match=f"{names[0]} must lie beside it"):
        load(split / names[1])


def test_without_a_caption_head_only_matching_can_be_asked(tmp_path, hugging_face):
    referee = load(put_hugging_face(tmp_path / "hf", hugging_face))
    bind(referee, "a red cat", itm=1.0, caption=0.0)
    with pytest.raises(ValueError, match="no loss caption; it offers itm"):
        bind(referee, "a red cat", itm=1.0, caption=1.0)


def test_the_caption_head_is_taken_from_lavis_beside_it(tmp_path, hugging_face):
    folder = put_hugging_face(tmp_path / "hf", hugging_face)
    generator = torch.Generator().manual_seed(2)
    head = {"dense.weight": (128, 128), "dense.bias": (128,), "LayerNorm.weight": (128,), "LayerNorm.bias": (128,)}
    state = {f"Qformer.cls.predictions.transform.{k}": torch.randn(s, generator=generator) for k, s in head.items()}
    state["Qformer.cls.predictions.decoder.bias"] = torch.randn(32, generator=generator)
    words = hugging_face.embeddings.word_embeddings.weight.detach().float().clone()
    state["Qformer.bert.embeddings.word_embeddings.weight"] = words
    torch.save({"model": state}, tmp_path / "blip2_pretrained.pth")
    referee = load(folder)
    assert referee.terms == ("itm", "caption")
    for ours, theirs in (("dense.weight", "transform.dense.weight"), ("norm.bias", "transform.LayerNorm.bias")):
        assert torch.equal(referee.network.caption_head.state_dict()[ours], state[f"Qformer.cls.predictions.{theirs}"])
    assert torch.equal(referee.network.caption_head.bias, state["Qformer.cls.predictions.decoder.bias"])
    words += 1  # the head of another model
    torch.save({"model": state}, tmp_path / "blip2_pretrained.pth")
    assert load(folder).terms == ("itm",)


def test_another_kind_of_model_is_refused_with_what_it_holds(tmp_path):
    save_file({"unet.conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other.safetensors is not a BLIP-2 stage-1 model \(it holds unet.conv.weight"
    ):
        open_published(tmp_path / "other.safetensors")
