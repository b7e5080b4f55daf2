"""Published BLIP-2 files of each kind, small and made here."""

import gzip
import hashlib
import re
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from core.published_files import assert_same_state, put_lavis, read_lavis
from safetensors.torch import save_file

from referee_core.losses import bind
from referee_core.referees.blip2.files import open_published
from referee_core.referees.blip2.text import DEC
from referee_core.referees.blip2.vocabulary import BUNDLED, bert_base_uncased, find_vocabulary
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
    with pytest.raises(ValueError, match=r"vocab.txt (has|is not)"):
        open_source(path)


def test_the_vocabulary_that_comes_with_the_pack_is_berts_own():
    text = gzip.decompress(BUNDLED.read_bytes())
    digest = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"  # of the published vocab.txt
    assert hashlib.sha256(text).hexdigest() == digest
    words = bert_base_uncased()
    assert len(words) == 30523 and words[30522] == DEC
    assert [words[i] for i in (0, 100, 101, 102, 103, 4937)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat"]


def test_a_published_model_needs_no_vocabulary_beside_it_and_is_not_broken_by_a_bad_one(tmp_path):
    (tmp_path / "vocab.txt").write_text("<html>not found</html>")
    assert find_vocabulary(tmp_path / "model.safetensors", 30523) == ((), bert_base_uncased())


def test_a_missing_vocabulary_is_explained(tmp_path, lavis):
    path = put_lavis(tmp_path, *lavis)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"put the vocab.txt it was trained with beside it"):
        open_source(path)


def test_capital_letters_in_names_and_suffixes_change_nothing(tmp_path, lavis):
    path = put_lavis(tmp_path, *lavis)
    (tmp_path / "eva_vit_g.pth").rename(tmp_path / "EVA_ViT_g.PTH")
    path = path.rename(tmp_path / "BLIP2_Pretrained.PTH")
    assert_same_state(load(path), lavis[0])
    assert_same_state(load(tmp_path), lavis[0])


UNSAFE = re.compile("weights_only|trusted|allowlist|safe_globals", re.IGNORECASE)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1000\n"


def a_zip(path: Path) -> None:
    with ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize("name", ["it.pth", "it.PT", "it.bin", "it.safetensors", "it.SafeTensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (POINTER, "git lfs pull"),
        (b"", "empty file"),
        (b"\n<!DOCTYPE html><html>" + b"x" * 2000, "web page"),
        (b"Entry not found", "short text .*'Entry not found'"),
        (a_zip, "zip archive of something else .*readme.txt"),
        (b"\x07" * 5000, "damaged or cut off"),
    ],
    ids=["pointer", "empty", "page", "text", "zip", "noise"],
)
def test_what_is_no_weights_is_named_with_the_remedy(tmp_path, name, content, said):
    path = tmp_path / name
    content(path) if callable(content) else path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be read .*{said}") as error:
        load(path)
    assert not UNSAFE.search(str(error.value))
    assert error.value.__suppress_context__


def test_swapped_suffixes_and_programs_are_named(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "it.pth")
    with pytest.raises(ValueError, match="Rename it to .safetensors"):
        load(tmp_path / "it.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "program.pt")
    with pytest.raises(ValueError, match="program .TorchScript., which is never executed") as error:
        load(tmp_path / "program.pt")
    assert not UNSAFE.search(str(error.value))


@pytest.mark.parametrize(
    "name", ["language_model.model.decoder.layers.0.fc1.weight", "opt_proj.weight", "t5_proj.weight", "llm_proj.weight"]
)
def test_blip2_with_a_language_model_is_recognised_even_where_parts_are_absent(tmp_path, name):
    tensors = {name: torch.zeros(2), "vision_model.embeddings.patch_embedding.weight": torch.zeros(1)}
    for file in ("model.safetensors", "model-00001-of-00002.safetensors"):
        save_file(tensors, tmp_path / file)
        with pytest.raises(ValueError, match=f"{file} is BLIP-2 with a language model.*blip2-itm-vit-g"):
            load(tmp_path / file)


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
    with pytest.raises(ValueError, match=r"blip2_pretrained.pth .*never executed") as error:
        open_source(path)
    assert not UNSAFE.search(str(error.value))
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
    (split / "model.safetensors.index.json").write_text(
        '{"weight_map": {"query_tokens": "../../secret"'
    )  # never opened
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


@pytest.mark.parametrize("spoil", ["pointer", "half", "no head", "narrow head"])
def test_a_bad_neighbour_costs_the_caption_head_and_nothing_else(tmp_path, hugging_face, caplog, spoil):
    folder = put_hugging_face(tmp_path / "hf", hugging_face)
    expected = load(folder).network.state_dict()
    state = {"Qformer.bert.embeddings.word_embeddings.weight": hugging_face.embeddings.word_embeddings.weight.float()}
    if spoil == "narrow head":
        state["Qformer.cls.predictions.decoder.bias"] = torch.zeros(3)
    path = folder / "blip2_pretrained.pth"
    torch.save({"model": state}, path)
    if spoil in ("pointer", "half"):
        path.write_bytes(POINTER if spoil == "pointer" else path.read_bytes()[:-500])
    caplog.clear()
    for chosen in (folder, folder / "model.safetensors"):
        referee = load(chosen)
        assert referee.terms == ("itm",)
        assert all(torch.equal(v, expected[k]) for k, v in referee.network.state_dict().items())
    if spoil != "no head":
        assert "blip2_pretrained.pth" in caplog.text


def test_another_kind_of_model_is_refused_with_what_it_holds(tmp_path):
    save_file({"unet.conv.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(
        ValueError, match=r"other.safetensors is not a BLIP-2 stage-1 model \(it holds unet.conv.weight"
    ):
        open_published(tmp_path / "other.safetensors")
