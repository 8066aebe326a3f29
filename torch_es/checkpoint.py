"""Checkpoints that are data only: safetensors for tensors, JSON for the rest. Nothing in them is ever executed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

Tree = Any  # nested dicts and lists of tensors, arrays, numbers, strings, None

_TENSOR = "__tensor__"
SCHEMA = 1


def save(folder: str | Path, state: Tree) -> None:
    """Write `state` as a folder that is either whole or absent: staged, synced, then renamed.

    Args:
        folder: Replaced if it exists.
        state: Nested dicts with string keys, and lists, of tensors, arrays and plain values.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint"
        >>> save(path, {"theta": torch.ones(2), "generation": 3})
        >>> load(path)["generation"]
        3
    """
    folder = Path(folder)
    tensors: dict[str, torch.Tensor] = {}
    document = {"schema": SCHEMA, "state": _split(state, tensors, "")}
    blob = safetensors.torch.save(tensors)
    document["sha256"] = hashlib.sha256(blob).hexdigest()
    staging = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        _write(staging / "tensors.safetensors", blob)
        _write(staging / "state.json", json.dumps(document, indent=1).encode())
        _sync(staging)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old{os.getpid()}")
            folder.rename(old)
            staging.rename(folder)
            shutil.rmtree(old)
        else:
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sync(folder.parent)


def load(folder: str | Path) -> Tree:
    """Read what `save` wrote.

    Raises:
        ValueError: If the folder is no checkpoint, is damaged, or was written by a newer version.
    """
    folder = Path(folder)
    try:
        document = json.loads((folder / "state.json").read_text())
        blob = (folder / "tensors.safetensors").read_bytes()
        if document["schema"] > SCHEMA:
            raise ValueError(f"`{folder}` has schema {document['schema']}, this version reads up to {SCHEMA}; upgrade.")
        if hashlib.sha256(blob).hexdigest() != document["sha256"]:
            raise ValueError(f"`{folder}/tensors.safetensors` is damaged: its hash is not the one in state.json.")
        return _join(document["state"], safetensors.torch.load(blob))
    except (
        OSError,
        KeyError,
        TypeError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        safetensors.SafetensorError,
    ) as error:
        raise ValueError(f"`{folder}` is not a whole checkpoint: {error}.") from error


def latest(folder: str | Path) -> Path | None:
    """Return the newest checkpoint below `folder` by its number, or None.

    Example:
        >>> latest("/nonexistent") is None
        True
    """
    found = sorted(Path(folder).glob("generation-*"))
    return found[-1] if found else None


def _split(tree: Tree, tensors: dict[str, torch.Tensor], path: str) -> Tree:
    if isinstance(tree, np.ndarray):
        tree = torch.from_numpy(tree)
    if isinstance(tree, torch.Tensor):
        tensors[path] = tree.detach().clone(memory_format=torch.contiguous_format)
        return {_TENSOR: path}
    if isinstance(tree, dict):
        return {str(k): _split(v, tensors, f"{path}/{k}") for k, v in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_split(v, tensors, f"{path}/{i}") for i, v in enumerate(tree)]
    return tree


def _join(tree: Tree, tensors: dict[str, torch.Tensor]) -> Tree:
    if isinstance(tree, dict):
        return tensors[tree[_TENSOR]] if _TENSOR in tree else {k: _join(v, tensors) for k, v in tree.items()}
    return [_join(v, tensors) for v in tree] if isinstance(tree, list) else tree


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
