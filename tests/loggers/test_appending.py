import os

import pytest

from torch_es.loggers.appending import AppendFile


def test_a_piece_that_did_not_fit_is_written_with_the_next(tmp_path, monkeypatch):
    file = AppendFile(tmp_path / "log")
    file.append(b"one")
    write = os.write

    def full(handle, content):
        write(handle, content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        file.append(b"two")
    assert (tmp_path / "log").read_bytes() == b"one"
    monkeypatch.undo()
    file.append(b"three")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"onetwothree"
