import hashlib
import json
import os
import stat
from collections import Counter

import numpy as np
import pytest
import torch

from torch_es.runs import checkpoint

STATE = {
    "a": torch.arange(3.0), "b": {"c": [torch.tensor(2, dtype=torch.int64), 0.1, None, "x"], "d": np.ones(2)},
    "t": torch.arange(6.0).view(2, 3).T,
}  # fmt: skip


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path / "c", STATE)
    loaded = checkpoint.load(tmp_path / "c")
    assert torch.equal(loaded["a"], STATE["a"])
    assert loaded["b"]["c"][1:] == [0.1, None, "x"]
    assert loaded["b"]["d"].dtype == torch.float64
    assert torch.equal(loaded["t"], STATE["t"])
    assert os.listdir(tmp_path) == ["c"]


def test_keys_keep_their_types_and_tuples_stay_tuples(tmp_path):
    """A scheduler counts its milestones by whole numbers, and optimisers look parameters up by them."""
    state = {
        "milestones": Counter([3, 7, 7]),
        "numbers": {3: 1},
        "betas": (0.9, (0.99, None)),
        "mixed": {"a": 1, 2.5: "b"},
        "rows": [(1,), {}],
        "pairs": {(1, ("a", None)): [(2, 3)]},
        "counted": Counter({(1, 2): 3}),
    }
    checkpoint.save(tmp_path / "c", state)
    loaded = checkpoint.load(tmp_path / "c")
    assert loaded == state
    assert list(loaded["milestones"].elements()) == [3, 7, 7]
    assert checkpoint.unpack(checkpoint.pack(state)) == state


def test_numbers_of_numpy_are_plain_numbers_and_anything_else_is_named(tmp_path):
    checkpoint.save(tmp_path / "c", {"epoch": np.int64(3), "over": np.bool_(True), np.int64(7): np.float32(0.5)})
    assert checkpoint.load(tmp_path / "c") == {"epoch": 3, "over": True, 7: 0.5}
    for state in ({"seen": {1, 2}}, {"seen": b"a"}, {"seen": [1 + 2j]}):
        with pytest.raises(TypeError, match=r"A checkpoint cannot hold `/seen.*: it takes numbers, text and tensors"):
            checkpoint.save(tmp_path / "d", state)
    assert os.listdir(tmp_path) == ["c"]


def test_saving_again_replaces(tmp_path):
    checkpoint.save(tmp_path / "c", STATE)
    checkpoint.save(tmp_path / "c", {"a": 1})
    assert checkpoint.load(tmp_path / "c") == {"a": 1}
    assert os.listdir(tmp_path) == ["c"]


def test_a_folder_that_holds_anything_else_is_left_alone(tmp_path):
    for name in ("precious", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    checkpoint.save(tmp_path / "precious" / "model", STATE)
    checkpoint.save(tmp_path / "run", STATE)  # an empty folder is taken
    (tmp_path / "run" / "notes.txt").write_text("of a checkpoint")
    (tmp_path / "file").write_text("plain")
    before = sorted(tmp_path.rglob("*"))
    for name, message in {
        "precious": r"and it holds model, thesis.txt; save to `.*precious/model`, say",
        "run": r"and it holds notes.txt",
        "file": r"must be a folder, or not exist yet, but it is a file",
    }.items():
        with pytest.raises(ValueError, match=message):
            checkpoint.save(tmp_path / name, {"a": 1})
    assert sorted(tmp_path.rglob("*")) == before
    assert checkpoint.load(tmp_path / "precious" / "model")["b"]["c"][1:] == [0.1, None, "x"]


@pytest.mark.parametrize("gone", ["MANIFEST.json", "tensors.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_replaced(tmp_path, gone):
    checkpoint.save(tmp_path / "c", STATE)
    (tmp_path / "c" / gone).unlink()
    checkpoint.save(tmp_path / "c", {"a": 1})
    assert checkpoint.load(tmp_path / "c") == {"a": 1}


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "bit"])
def test_damage_is_found(tmp_path, name, damage):
    checkpoint.save(tmp_path / "c", STATE)
    path = tmp_path / "c" / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[0] ^= 128
        path.write_bytes({"empty": b"", "half": bytes(content[: len(content) // 2]), "bit": bytes(content)}[damage])
    with pytest.raises(ValueError, match=r"is not a whole checkpoint|is damaged"):
        checkpoint.load(tmp_path / "c")


def rewritten(folder, name, content):
    """Change a file and have the manifest agree with it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    manifest[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest))


def test_a_newer_schema_is_refused_with_the_version_that_reads_it(tmp_path):
    checkpoint.save(tmp_path / "generation-000001", STATE)
    document = json.loads((tmp_path / "generation-000001" / "state.json").read_text())
    changed = {**document, "schema": 99, "torch_es": "7.5"}
    rewritten(tmp_path / "generation-000001", "state.json", json.dumps(changed).encode())
    checkpoint.save(tmp_path / "generation-000000", STATE)
    with pytest.raises(ValueError, match=r"has schema 99, this version reads up to 1; upgrade torch-evolution to 7\.5"):
        checkpoint.newest(tmp_path)


def test_latest_is_the_highest_number(tmp_path):
    for number in (2, 10):
        checkpoint.save(tmp_path / f"generation-{number:06d}", {"number": number})
    assert checkpoint.newest(tmp_path) == {"number": 10}


def test_checkpoints_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("generation-999999", "generation-1000000", "generation-000002", "generation-x"):
        (tmp_path / name).mkdir()
    found = [path.name for path in checkpoint.numbered(tmp_path)]
    assert found == ["generation-000002", "generation-999999", "generation-1000000"]


def test_files_and_folders_reach_the_disk(tmp_path, monkeypatch):
    synced = []
    own = os.fsync
    monkeypatch.setattr(os, "fsync", lambda h: (synced.append(stat.S_ISDIR(os.fstat(h).st_mode)), own(h)))
    checkpoint.save(tmp_path / "c", {"a": torch.ones(2)})
    assert synced == [False, False, False, True, True]  # two files, the manifest; the folder, and where it was renamed
