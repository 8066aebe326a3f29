"""Where commands about a run write: the folder of `--out` is made, and what cannot be written is told at once."""

from pathlib import Path

import pytest
import torch

from torch_es.cli import main

FILES = {"plot": "a.png", "record": "a.mp4", "report": "a.html", "export": "a.onnx"}


@pytest.mark.parametrize("command", ["plot", "report"])
def test_the_folder_of_out_is_made(command, run, tmp_path):
    path = tmp_path / "new" / FILES[command]
    assert main([command, str(run[0]), "--out", str(path)]) == 0
    assert path.stat().st_size > 1000


def test_the_ending_of_out_is_the_format_of_an_export(run, tmp_path, capsys):
    path = tmp_path / "policy.pt2"
    assert main(["export", str(run[0]), "--out", str(path)]) == 0
    assert torch.export.load(path).module() is not None
    assert main(["export", str(run[0]), "--out", str(path), "--format", "onnx"]) == 2
    assert "`--format` must fit the ending of `--out`, got onnx for" in capsys.readouterr().err
    assert main(["export", str(run[0]), "--out", str(tmp_path / "policy.foo")]) == 2
    assert "`--out` must end in .onnx or .pt2, got" in capsys.readouterr().err


@pytest.mark.parametrize("command", FILES)
def test_a_place_that_cannot_be_written_is_told_in_a_line_before_any_work(command, run, monkeypatch, capsys):
    monkeypatch.setattr("torch_es.cli.playing.config.restored", None)
    assert main([command, str(run[0]), "--out", f"/proc/{FILES[command]}"]) == 1
    assert capsys.readouterr().err == (
        "torch-es: `/proc` cannot be written to (No such file or directory); name another folder.\n"
    )
    assert main([command, str(run[0]), "--out", str(run[0])]) == 2
    assert "is a folder; name a file in it" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused_and_not_made(tmp_path, capsys):
    assert main(["plot", str(tmp_path / "none")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    assert not list(Path(tmp_path).iterdir())


def test_a_sweep_in_a_place_that_cannot_be_written_is_told_in_a_line(capsys):
    assert main(["sweep", "env=cartpole", "sweep.dir=/proc/s"]) == 1
    assert "`/proc/s` cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pic[log].png", "a[/b].png"])
def test_a_path_is_printed_as_it_is(name, run, tmp_path, capsys):
    assert main(["plot", str(run[0]), "--out", str(tmp_path / name)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / name}\n"


def test_a_video_needs_an_ending_that_names_a_format(run, tmp_path, capsys):
    assert main(["record", str(run[0]), "--out", str(tmp_path / "film")]) == 2
    assert "`--out` must have an ending, as film.mp4, got" in capsys.readouterr().err
