"""Published files become one referee file: whole or not at all, by function and by command."""

import pytest
import torch
from core.published_files import assert_same_state, put_lavis, read_lavis
from safetensors import safe_open

from referee_core.referees.blip2 import __main__ as command
from referee_core.referees.blip2.text import DEC
from referee_core.referees.blip2.weights import COMPACT, load, open_source, write


@pytest.fixture(scope="module")
def lavis():
    return read_lavis()


def test_conversion_keeps_the_weights_and_leaves_no_part(tmp_path, lavis):
    path = put_lavis(tmp_path, *lavis)
    target, seen = tmp_path / "models" / "referee.safetensors", []
    write(target, open_source(path), progress=lambda done, total: seen.append((done, total)))
    assert [f.name for f in target.parent.iterdir()] == ["referee.safetensors"]
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1]
    with safe_open(target, framework="pt") as file:
        assert "blip2_pretrained.pth" in file.metadata()["sources"]
        assert file.get_tensor("vision.cls_token").dtype == torch.bfloat16
        assert file.get_tensor("qformer.query_tokens").dtype == torch.float32
    assert_same_state(load(target, COMPACT), lavis[0], COMPACT)
    assert load(target).tokenizer.vocabulary == [*lavis[1], DEC]


def test_of_a_conversion_that_is_stopped_nothing_is_left(tmp_path, lavis):
    source, target = open_source(put_lavis(tmp_path, *lavis)), tmp_path / "models" / "target"

    class Stop(Exception):
        pass

    def stop(done, total):
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        write(target, source, progress=stop)
    assert not target.parent.exists()
    write(target, source)
    assert [f.name for f in target.parent.iterdir()] == ["target"]
    assert_same_state(load(target, COMPACT), lavis[0], COMPACT)


def test_the_command_converts_and_reports(tmp_path, lavis, monkeypatch, capsys):
    path = put_lavis(tmp_path, lavis[0] | {"strange": torch.zeros(1)}, lavis[1])
    monkeypatch.setattr("sys.argv", ["x", str(path), str(tmp_path / "out.safetensors")])
    command.main()
    assert "not used: strange" in capsys.readouterr().out
    assert_same_state(load(tmp_path / "out.safetensors", COMPACT), lavis[0], COMPACT)
    (tmp_path / "eva_vit_g.pth").unlink()
    with pytest.raises(SystemExit) as stop:
        command.main()
    assert stop.value.code == 1
    assert "eva_vit_g.pth" in capsys.readouterr().err
