"""Checkpoints are data only: tensors in safetensors, the rest in JSON. Loading one never runs code."""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch

from torch_es.errors import NonFiniteError
from torch_es.runs.machine import version

Tree = Any  # nested dicts and lists of tensors, arrays, numbers, strings, None

_log = logging.getLogger(__name__)

_TENSOR, _TUPLE, _ITEMS, _COUNTER = "$", "$tuple", "$items", "$counter"  # values that JSON cannot hold
_LENGTH = 4  # bytes of a length
_MANIFEST = "MANIFEST.json"
_FILES = ("state.json", "tensors.safetensors")
SCHEMA = 1


class NewerSchemaError(ValueError):
    """The checkpoint was written by a newer version of torch_es."""


def save(folder: str | Path, state: Tree) -> None:
    """Write `state` as a folder that is either whole or absent: staged, synced, manifest last, then renamed.

    Args:
        folder: The folder; replaced if it is empty or a checkpoint, whole or not.
        state: Nested dicts, lists and tuples of tensors, arrays and plain values.

    Raises:
        ValueError: If `folder` holds anything else, which would be lost; then nothing is written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "checkpoint"
        >>> save(path, {"theta": torch.ones(2), "generation": 3})
        >>> load(path)["generation"]
        3
    """
    folder = Path(folder)
    _check_replaceable(folder)
    tensors: dict[str, torch.Tensor] = {}
    document = {"schema": SCHEMA, "torch_es": version("torch-evolution"), "state": _split(state, tensors, "")}
    contents = dict(zip(_FILES, (json.dumps(document, indent=1).encode(), _blob(tensors)), strict=True))
    manifest = {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    staging = folder.with_name(f".{folder.name}.tmp{os.getpid()}")  # F15
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        for name, content in contents.items():
            _write(staging / name, content)
        _write(staging / _MANIFEST, json.dumps(manifest, indent=1).encode())
        _sync(staging)
        _replace(folder, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _sync(folder.parent)


def load(folder: str | Path) -> Tree:
    """Read what `save` wrote.

    Raises:
        ValueError: If the folder is not a checkpoint, or a file in it is damaged; the error names the file.
        NewerSchemaError: If it was written by a newer version.
    """
    folder = Path(folder)
    try:
        document = json.loads(_checked(folder, "state.json"))
        if document["schema"] > SCHEMA:
            raise NewerSchemaError(
                f"`{folder}` has schema {document['schema']}, this version reads up to {SCHEMA}; "
                f"upgrade torch-evolution to {document.get('torch_es', 'a newer version')}."
            )
        return _join(document["state"], safetensors.torch.load(_checked(folder, "tensors.safetensors")))
    except (
        OSError,
        KeyError,
        TypeError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        safetensors.SafetensorError,
    ) as error:
        if isinstance(error, FileNotFoundError) and (way := _way_out(folder)):
            raise ValueError(f"`{folder}` is a run folder; {way}.") from error
        raise ValueError(f"`{folder}` is not a whole checkpoint: {error}.") from error


def newest(folder: str | Path) -> Tree | None:
    """Return the state of the newest whole checkpoint below `folder`, or None if there is no checkpoint.

    A damaged one is named in a warning and skipped.

    Raises:
        ValueError: If there are checkpoints and none is whole.
        NewerSchemaError: If the newest was written by a newer version.

    Example:
        >>> newest("/nonexistent") is None
        True
    """
    damaged: list[str] = []
    for path in reversed(numbered(folder)):
        try:
            state = load(path)
        except NewerSchemaError:
            raise
        except ValueError as error:
            damaged.append(str(error))
            continue  # F31b
        for message in damaged:
            _log.warning("%s The checkpoint %s is used instead.", message, path)
        return state
    if damaged:
        raise ValueError(f"No checkpoint in `{folder}` is whole. {' '.join(damaged)}")
    return None


def numbered(folder: str | Path) -> list[Path]:
    """Return the checkpoints `generation-N` below `folder`, the oldest first."""
    found = {path: path.name.removeprefix("generation-") for path in Path(folder).glob("generation-*")}
    return sorted((path for path, number in found.items() if number.isdigit()), key=lambda path: int(found[path]))


def prune(folder: str | Path, newest: int, keep: int) -> None:
    """Remove all numbered checkpoints but `newest`, which was just written, and the `keep - 1` before it.

    Those with higher numbers go too: the run has continued from an earlier one, since they were damaged.
    """
    paths = numbered(folder)
    end = paths.index(Path(folder) / f"generation-{newest:06d}") + 1
    for path in set(paths) - set(paths[max(0, end - keep) : end]):
        shutil.rmtree(path, ignore_errors=True)


def clear(folder: str | Path) -> None:
    """Remove what a killed process left half written."""
    for path in (*Path(folder).glob(".*.tmp*"), *Path(folder).glob(".*.old*")):  # F32
        shutil.rmtree(path, ignore_errors=True)


def pack(tree: Tree) -> bytes:
    """Return a tree as one piece: the length of its JSON, the JSON, and its tensors in safetensors.

    Example:
        >>> unpack(pack({"a": torch.ones(2), "b": [1, None]}))
        {'a': tensor([1., 1.]), 'b': [1, None]}
    """
    tensors: dict[str, torch.Tensor] = {}
    document = json.dumps(_split(tree, tensors, None), separators=(",", ":")).encode()
    return len(document).to_bytes(_LENGTH, "little") + document + _blob(tensors)


def unpack(blob: bytes) -> Tree:
    """Read what `pack` wrote."""
    end = _LENGTH + int.from_bytes(blob[:_LENGTH], "little")
    return _join(json.loads(blob[_LENGTH:end]), safetensors.torch.load(blob[end:]))


def check_finite(tree: Tree, path: str = "") -> None:
    """Refuse a state with NaN or infinity in a tensor: it must never become the newest checkpoint.

    Raises:
        NonFiniteError: Naming the tensor.

    Example:
        >>> check_finite({"a": [torch.ones(2)]})
    """
    if isinstance(tree, torch.Tensor) and tree.is_floating_point() and not torch.isfinite(tree).all():
        raise NonFiniteError(f"`{path}` holds NaN or infinity and is not saved; lower the learning rate or `sigma`.")
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else ()
    for key, value in children:
        check_finite(value, f"{path}/{key}" if path else str(key))


def _way_out(folder: Path) -> str:
    """Say how a run folder is loaded; "" if it is none."""
    if (folder / "config.yaml").is_file():
        return f'use `torch_es.from_run("{folder}")`'
    kept = numbered(folder / "checkpoints")
    return f"give its newest checkpoint, `{kept[-1]}`" if kept else ""


def _checked(folder: Path, name: str) -> bytes:
    """Return a file's content if its size and hash are those in the manifest."""
    content = (folder / name).read_bytes()
    if not (folder / _MANIFEST).is_file():
        raise ValueError(f"`{folder}` is not a whole checkpoint: it has no {_MANIFEST}.")
    expected = json.loads((folder / _MANIFEST).read_bytes())[name]
    if len(content) != expected["bytes"]:
        raise ValueError(f"`{folder / name}` is damaged: {len(content)} bytes, its manifest says {expected['bytes']}.")
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:  # F31a
        raise ValueError(f"`{folder / name}` is damaged: its hash is not the one in {_MANIFEST}.")
    return content


def _split(tree: Tree, tensors: dict[str, torch.Tensor], path: str | None) -> Tree:
    """Put the tensors of a tree into `tensors`, by their paths or, with `path` None, by number; return the rest."""

    def part(key: Any, value: Tree) -> Tree:
        return _split(value, tensors, None if path is None else f"{path}/{key}")

    if isinstance(tree, np.ndarray):
        tree = torch.from_numpy(tree)
    if isinstance(tree, torch.Tensor):
        name = len(tensors) if path is None else path
        tensors[str(name)] = tree.detach().clone(memory_format=torch.contiguous_format)  # F37
        return {_TENSOR: name}
    if isinstance(tree, dict):
        parts = {k: part(k, v) for k, v in tree.items()}
        # JSON has text keys only, and schedulers count milestones by numbers, in a Counter
        if isinstance(tree, Counter) or not all(isinstance(k, str) for k in parts):
            return {_COUNTER if isinstance(tree, Counter) else _ITEMS: [[part("key", k), v] for k, v in parts.items()]}
        return parts
    if isinstance(tree, (list, tuple)):
        row = [part(i, v) for i, v in enumerate(tree)]
        return {_TUPLE: row} if isinstance(tree, tuple) else row
    plain = tree.item() if isinstance(tree, np.generic) else tree
    if not isinstance(plain, (str, int, float, type(None))):
        raise TypeError(
            f"A checkpoint cannot hold `{path}`, {plain!r} of type {type(plain).__name__}: it takes numbers, text and "
            "tensors, and dicts, lists and tuples of these."
        )
    return plain


def _join(tree: Tree, tensors: dict[str, torch.Tensor]) -> Tree:
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[str(tree[_TENSOR])]
        if _TUPLE in tree:
            return tuple(_join(v, tensors) for v in tree[_TUPLE])
        if _COUNTER in tree:
            return Counter({_join(k, tensors): v for k, v in tree[_COUNTER]})
        items = tree[_ITEMS] if _ITEMS in tree else tree.items()
        return {_join(k, tensors): _join(v, tensors) for k, v in items}
    return [_join(v, tensors) for v in tree] if isinstance(tree, list) else tree


def _blob(tensors: dict[str, torch.Tensor]) -> bytes:
    blob: bytes = safetensors.torch.save(tensors)
    return blob


def _check_replaceable(folder: Path) -> None:
    if not folder.is_dir():
        if folder.exists():
            raise ValueError(f"`{folder}` must be a folder, or not exist yet, but it is a file; name another.")
        return
    if others := sorted({path.name for path in folder.iterdir()} - {_MANIFEST, *_FILES}):
        raise ValueError(
            f"`{folder}` must be empty, a checkpoint or not exist yet, since what it holds is replaced, and it holds "
            f"{', '.join(others[:3])}{', ...' if len(others) > 3 else ''}; save to `{folder / 'model'}`, say."
        )


def _replace(folder: Path, staging: Path) -> None:
    """Replace `folder` by `staging`, if the kernel can do it without a moment in which neither exists."""
    if not folder.exists():
        staging.rename(folder)
    elif not _exchange(folder, staging):
        old = folder.with_name(f".{folder.name}.old{os.getpid()}")
        folder.rename(old)
        staging.rename(folder)
        shutil.rmtree(old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step (Linux, renameat2 with RENAME_EXCHANGE)."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, TypeError):  # macOS has no such function, Windows no library of the process
        return False
    here, exchange = -100, 2
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    if sys.platform == "win32":  # which opens no folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
