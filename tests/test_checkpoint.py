import hashlib
import json
import os

import numpy as np
import pytest
import torch

from torch_es import checkpoint

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


def test_saving_again_replaces(tmp_path):
    checkpoint.save(tmp_path / "c", STATE)
    checkpoint.save(tmp_path / "c", {"a": 1})
    assert checkpoint.load(tmp_path / "c") == {"a": 1}
    assert os.listdir(tmp_path) == ["c"]


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
    with pytest.raises(ValueError, match=r"has schema 99, this version reads up to 2; upgrade torch-evolution to 7\.5"):
        checkpoint.newest(tmp_path)


def test_latest_is_the_highest_number(tmp_path):
    for number in (2, 10):
        checkpoint.save(tmp_path / f"generation-{number:06d}", {"number": number})
    assert checkpoint.newest(tmp_path) == {"number": 10}
