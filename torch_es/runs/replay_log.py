"""`replay.log`: the returns of every generation, from which any generation's theta can be rebuilt.

A generation's step follows from theta, the seeds and the returns. So only the returns have to be kept: 8 bytes for each
member, and 4 for its length. The observation statistics follow from the episodes, which would have to be played again
to know them, so they are logged after each generation, with the counters: their size does not grow with the number of
parameters. A digest of theta after each generation tells a replay whether its bits are those of the run.

The file is a header and one frame for each generation: its size, its digest, its content. Each digest covers the one
before it, so a damaged, missing or moved frame is found.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from torch_es.errors import RunFolderError
from torch_es.loggers.appending import AppendFile
from torch_es.nn import buffers
from torch_es.runs.checkpoint import Tree, pack, unpack
from torch_es.types import Float64Array

_MAGIC = b"torch_es replay log 1\n"
_FRAME = struct.Struct("<I8s")


class Record(NamedTuple):
    """One generation.

    Attributes:
        generation: Its number.
        arrays: What its members returned, each `(members, ...)`: `fitness`, as the strategy was told it, NaN where a
            member was dropped; `lengths`, the steps of each member; `behaviours`, where the run has them.
        theta: Digest of theta after its step.
        progress: The trainer's statistics and counters after it; see `Trainer.progress_dict`.
    """

    generation: int
    arrays: Mapping[str, npt.NDArray[Any]]
    theta: bytes
    progress: Tree

    @property
    def fitness(self) -> Float64Array:
        """The fitness of each member, `(members,)`."""
        return self.arrays["fitness"]

    @property
    def lengths(self) -> npt.NDArray[np.uint32]:
        """The steps of each member, `(members,)`."""
        return self.arrays["lengths"]


class _Frame(NamedTuple):
    content: bytes
    chain: bytes
    end: int


class ReplayLog:
    """A run's replay log, open for appending.

    Args:
        path: The file; created, with `header`, if it does not exist.
        header: Plain data that a replay is checked against, and the number of the `generation` to be appended first. In
            a file that exists, that generation and later ones are cut, and what a killed process left half written.

    Raises:
        RunFolderError: If the file is not a replay log, or its header or an earlier generation is damaged or missing.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "replay.log"
        >>> log = ReplayLog(path, {"seed": 3, "generation": 0})
        >>> log.append(Record(0, {"fitness": np.zeros((2, 2))}, digest(torch.zeros(3)), {"steps": 4}))
        >>> log.close()
        >>> header, records = read(path)
        >>> header["seed"], next(records).progress
        (3, {'steps': 4})
    """

    def __init__(self, path: Path, header: Tree) -> None:
        content = path.read_bytes() if path.is_file() else b""
        first = next(_frames(content, path, strict=True), None)
        # new, or killed before the header was whole, or before a generation was saved: perhaps by another trainer
        if first is None or unpack(first.content)["generation"] == header["generation"]:
            self._file, self._chain = AppendFile(path), b""
            self._file.cut(0)
            self._file.append(_MAGIC)
            self._append(pack(header))
            return
        start, generation = unpack(first.content)["generation"], header["generation"]
        kept = list(_frames(content, path))[: 1 + max(0, generation - start)]
        whole = len(kept) - 1
        if whole != generation - start:
            raise RunFolderError(
                f"`{path}` holds {whole} whole generations from {start} on, not all before {generation}."
            )
        self._file, self._chain = AppendFile(path), kept[-1].chain
        self._file.cut(kept[-1].end)  # F28b

    def append(self, record: Record) -> None:
        """Write a generation."""
        self._append(pack({"arrays": dict(record.arrays), "theta": record.theta.hex(), "progress": record.progress}))

    def _append(self, content: bytes) -> None:
        self._chain = _digest(self._chain + content)
        self._file.append(_FRAME.pack(len(content), self._chain) + content)

    def sync(self) -> None:
        """Wait until what is written would survive a power failure."""
        self._file.sync()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: str | Path) -> tuple[Tree, Iterator[Record]]:
    """Return the header and an iterator over the generations, in order; it raises an error where the file is damaged.

    Raises:
        RunFolderError: If the file is missing or is not a replay log.
    """
    path = Path(path)
    if not path.is_file():
        raise RunFolderError(f"`{path}` does not exist: the run has no replay log.")
    frames = _frames(path.read_bytes(), path, strict=True)
    header = next(frames, None)
    if header is None:
        raise RunFolderError(f"`{path}` is empty: the run has not begun.")
    fields = unpack(header.content)
    return fields, (_record(number, frame.content) for number, frame in enumerate(frames, fields["generation"]))


def digest(theta: torch.Tensor) -> bytes:
    """Return an 8-byte digest of the bits of `theta`."""
    return _digest(theta.detach().contiguous().numpy().data)


def fingerprint(module: nn.Module) -> str:
    """Return a digest of all parameters of a module, frozen ones too, by name.

    Example:
        >>> fingerprint(nn.Linear(1, 1)) == fingerprint(nn.Linear(1, 1))
        False
    """
    return buffers.digest(dict(module.named_parameters()))


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=8).digest()


def _frames(content: bytes, path: Path, strict: bool = False) -> Iterator[_Frame]:
    """Yield whole frames. End at the first damaged one; with `strict`, raise unless it is an unfinished tail."""
    if not content.startswith(_MAGIC):
        if _MAGIC.startswith(content):
            return
        raise RunFolderError(f"`{path}` is no replay log.")
    at, chain, number = len(_MAGIC), b"", 0
    while at + _FRAME.size <= len(content):
        size, expected = _FRAME.unpack_from(content, at)
        body = content[at + _FRAME.size : at + _FRAME.size + size]
        if len(body) < size:
            return  # the process was killed while writing
        chain = _digest(chain + body)  # replay-c
        if chain != expected:  # replay-b
            if strict:
                raise RunFolderError(f"`{path}` is damaged at byte {at}: frame {number} has another digest.")
            return
        at += _FRAME.size + size
        number += 1
        yield _Frame(body, chain, at)


def _record(generation: int, content: bytes) -> Record:
    fields = unpack(content)
    arrays = {name: tensor.numpy() for name, tensor in fields["arrays"].items()}
    return Record(generation, arrays, bytes.fromhex(fields["theta"]), fields["progress"])
