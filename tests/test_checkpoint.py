import json
import os
import pickle

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


class Bomb:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_checkpoint_never_runs(tmp_path):
    checkpoint.save(tmp_path / "c", STATE)
    bomb = Bomb()
    bomb.path = str(tmp_path / "sentinel")
    blob = pickle.dumps(bomb)
    (tmp_path / "c" / "tensors.safetensors").write_bytes(blob)
    document = json.loads((tmp_path / "c" / "state.json").read_text())
    document["sha256"] = checkpoint.hashlib.sha256(blob).hexdigest()
    (tmp_path / "c" / "state.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="is not a whole checkpoint"):
        checkpoint.load(tmp_path / "c")
    assert not (tmp_path / "sentinel").exists()


def test_a_newer_schema_is_refused(tmp_path):
    checkpoint.save(tmp_path / "c", STATE)
    path = tmp_path / "c" / "state.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ValueError, match="has schema 99, this version reads up to 1"):
        checkpoint.load(tmp_path / "c")


def test_latest_is_the_highest_number(tmp_path):
    for number in (2, 10):
        checkpoint.save(tmp_path / f"generation-{number:06d}", {})
    assert checkpoint.latest(tmp_path).name == "generation-000010"
