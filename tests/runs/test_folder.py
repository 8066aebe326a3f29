import os
from functools import partial

import pytest
from helpers import Stepper
from walk import Walk

from torch_es import ES, mlp
from torch_es.errors import RunFolderError
from torch_es.runs import checkpoint
from torch_es.runs.folder import RunFolder, cut_metrics


def test_a_folder_in_use_is_refused_and_free_again(tmp_path):
    with RunFolder(tmp_path), pytest.raises(RunFolderError, match=f"being written by process {os.getpid()} on "):
        RunFolder(tmp_path).__enter__()
    with RunFolder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("tail", "kept"),
    [("", 2), ('{"time/iterations": 3}\n', 2), ('{"time/iter', 2), ('{"time/iterations": 2}', 2), ("\0\0\0\n", 2)],
)
def test_rows_that_come_again_and_torn_ones_are_cut(tail, kept, tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = '{"time/iterations": 1}\n{"time/iterations": 2}\n'
    path.write_text(whole + tail)
    cut_metrics(path, 2)
    assert path.read_text() == whole
    assert len(whole.splitlines()) == kept


def test_a_second_run_is_not_mixed_into_the_first(tmp_path):
    def trainer():
        return ES(mlp(3, 1, (4,), seed=0), Stepper, num_pairs=2, num_workers=0)

    trainer().learn(20, folder=tmp_path / "r")
    with pytest.raises(RunFolderError, match="holds a run; name another folder, or set `resume=True`"):
        trainer().learn(20, folder=tmp_path / "r")


def test_logs_reach_the_disk_before_the_checkpoint(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("torch_es.loggers.appending.AppendFile.sync", lambda self: calls.append("log"))
    own = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *a: (calls.append("checkpoint"), own(*a)))
    ES(mlp(1, 2), partial(Walk, 3), num_pairs=2, num_workers=0).learn(1, folder=tmp_path / "r")
    assert calls == ["log", "log", "checkpoint"]
