"""A run's folder: one run at a time writes it, it holds every generation once, and its newest checkpoints are whole."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from filelock import BaseFileLock, FileLock, Timeout, UnixFileLock

from torch_es.checks import check_choice, check_count, differences
from torch_es.errors import ResourceError, RunFolderError
from torch_es.loggers import JsonlLogger
from torch_es.loggers.appending import set_aside
from torch_es.runs import checkpoint
from torch_es.runs.checkpoint import Tree
from torch_es.runs.machine import describe
from torch_es.runs.options import is_function
from torch_es.runs.replay_log import Record, ReplayLog
from torch_es.types import Metrics

_log = logging.getLogger(__name__)
_MIB = 2**20

OnSaveError = Literal["warn", "raise"]
_TENSORS = 6  # of theta's size in a checkpoint: theta, the best, Adam's two, and room
_CHANGEABLE = ("num_lanes", "eval_every", "eval_episodes")  # without changing the weights that a run reaches


class RunFolder:
    """Holds `metrics.jsonl`, `replay.log` and `checkpoints/`, locked against other processes while it is open.

    Args:
        path: Made if it does not exist.
        keep: Newest checkpoints to keep.
        on_save_error: What happens when the disk is full: "raise" stops training, "warn" logs a warning and tries again
            later. What is already saved stays as it is either way, and at the end of a run it is always an error.

    Raises:
        RunFolderError: On entering, if another process has it open.
        ResourceError: On entering, if it cannot be written to.

    Example:
        >>> import tempfile
        >>> with RunFolder(tempfile.mkdtemp()) as folder:
        ...     folder.saved is None
        True
    """

    def __init__(self, path: str | Path, keep: int = 3, on_save_error: OnSaveError = "warn") -> None:
        self.path = Path(path).absolute()  # whoever changes the current folder does not move the run
        self.checkpoints = self.path / "checkpoints"
        self.saved: int | None = None  # the newest checkpoint's generation
        self.generation = 0  # the next to be recorded
        self._keep = check_count("keep", keep)
        self._on_save_error = check_choice("on_save_error", on_save_error, ("warn", "raise"))
        self._lock: BaseFileLock | None = None
        self._metrics: JsonlLogger | None = None
        self._replay: ReplayLog | None = None
        self._warned = False  # that the folder was deleted

    def __enter__(self) -> RunFolder:
        make_folder(self.path)  # F26
        self._entered = os.stat(self.path)
        self._lock = locked(self.path / ".lock")
        checkpoint.clear(self.checkpoints)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._metrics, self._replay):
            if file is not None:
                file.close()
        self._metrics = self._replay = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def continued(self, resume: bool, options: Mapping[str, Any], generation: int = 0) -> Tree | None:
        """Return the state from which the run in this folder continues, or None if a run begins.

        Args:
            resume: Whether it may continue.
            options: The arguments of the trainer that continues it, as plain data.
            generation: Where this trainer is; a warning tells that it goes back.

        Raises:
            RunFolderError: If a run is in it and `resume` is not set.
            ValueError: If that run was made with other arguments; every difference is named.
        """
        begun = any((self.path / name).exists() for name in ("metrics.jsonl", "replay.log", "checkpoints"))
        if begun and not resume:
            raise RunFolderError(f"`{self.path}` holds a run; name another folder, or set `resume=True`.")
        state = checkpoint.newest(self.checkpoints)
        if state is None:
            return None
        own = {name: value for name, value in options.items() if name not in _CHANGEABLE}
        saved = {name: v for name, v in state["options"].items() if name in own or is_function(v)}
        if found := differences(saved, {name: own[name] for name in saved if name in own}):  # F34a
            raise ValueError(f"The run in `{self.path}` is another one: {found}.")
        self.saved = state["generation"]
        if generation > state["generation"]:
            _log.warning(
                "This trainer is at generation %d, and goes back to the run in `%s`, which is at %d; what it learned "
                "since is dropped.", generation, self.path, self.saved,
            )  # fmt: skip
        return state

    def open(self, header: Mapping[str, Any], generation: int, theta_bytes: int) -> None:
        """Begin to record at `generation`; what is already recorded of it and of later ones is removed.

        Args:
            header: What a replay is checked against, if the log does not exist yet.
            generation: The generation to play next.
            theta_bytes: Size of the weights, to see whether the disk has room for checkpoints.

        Raises:
            ResourceError: If it has not.
        """
        check_folder(self.path, (self._keep + 1) * _TENSORS * theta_bytes)
        self.generation = generation
        if self.saved is None:
            self._set_aside()
        cut_metrics(self.path / "metrics.jsonl", generation)  # F28a
        self._metrics = JsonlLogger()
        self._metrics.start({}, self.path)
        path = self.path / "replay.log"
        header = {**header, "machine": describe(), "generation": generation}
        try:
            self._replay = ReplayLog(path, header)
        except RunFolderError as error:
            aside = set_aside(path)
            _log.warning("%s It is kept as %s; a new one begins at generation %d.", error, aside.name, generation)
            self._replay = ReplayLog(path, header)

    def _set_aside(self) -> None:
        """Keep the logs of a run that has no checkpoint: it begins anew, and its checkpoints may have been deleted."""
        logs = [self.path / name for name in ("metrics.jsonl", "replay.log")]
        if not (logs[0].is_file() and logs[0].stat().st_size):
            return
        kept = " and ".join(set_aside(log).name for log in filter(Path.is_file, logs))
        _log.warning("`%s` has no checkpoint: its logs are kept as %s, and the run begins anew.", self.path, kept)

    def record(self, metrics: Metrics, record: Record) -> None:
        """Write a generation's row and what it returned."""
        assert self._metrics is not None
        assert self._replay is not None
        self.generation = record.generation + 1
        if self._deleted():
            return
        with self._saving(f"generation {record.generation} of the logs"):
            self._replay.append(record)
        with self._saving(f"row {record.generation} of metrics.jsonl"):
            self._metrics.log(metrics)

    def save(self, state: Callable[[], Tree], last: bool = False) -> None:
        """Write a checkpoint; the generation in it is the one to play next.

        The logs reach the disk before it, so that it never holds more generations than they do.

        Raises:
            OSError: If there is no room, and it is the last one, or `on_save_error` is "raise".
            ResourceError: If it is the last one, and the folder was deleted or moved during the run.
        """
        deleted, generation = self._deleted(), self.generation
        if self.saved != generation or deleted:
            with self._saving(f"checkpoint {generation}", must=last):
                for file in (self._replay, self._metrics):
                    if file is not None and not deleted:
                        file.sync()
                checkpoint.save(self.checkpoints / f"generation-{generation:06d}", state())
                self.saved = generation
                checkpoint.prune(self.checkpoints, generation, self._keep)
        if last and deleted:
            raise ResourceError(
                f"`{self.path}` was deleted or moved during the run: it holds no rows, and the checkpoint is new."
            )

    def _deleted(self) -> bool:
        """Return whether somebody deleted the logs, or the folder is elsewhere; the first time, warn."""
        if self._metrics is None or not (self._metrics.deleted or self._moved()):
            return False
        if not self._warned:
            _log.warning(
                "`%s` was deleted or moved: rows are not written any more; checkpoints are written there again.",
                self.path,
            )
            self._warned = True
        return True

    def _moved(self) -> bool:
        try:
            return not os.path.samestat(self._entered, os.stat(self.path))
        except FileNotFoundError:
            return True

    @contextlib.contextmanager
    def _saving(self, what: str, must: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if must or self._on_save_error == "raise":  # F25
                raise
            _log.warning("Could not write %s (%s); what was saved before is kept, and training continues.", what, error)


def make_folder(folder: Path) -> None:
    """Make a folder, if it is not there yet, and check that it can be written to.

    Raises:
        ResourceError: If not.

    Example:
        >>> import tempfile
        >>> make_folder(Path(tempfile.mkdtemp()) / "new")
    """
    with contextlib.suppress(OSError):  # the check names the reason
        folder.mkdir(parents=True, exist_ok=True)
    check_folder(folder, 0)


def check_folder(folder: Path, needed: int) -> None:
    """Check that `folder` can be written to and that its disk has `needed` bytes left.

    Raises:
        ResourceError: If not.

    Example:
        >>> import tempfile
        >>> check_folder(Path(tempfile.mkdtemp()), 1)
    """
    probe = folder / f".probe{os.getpid()}"
    try:
        probe.write_bytes(b"0")
        probe.unlink()
    except OSError as error:
        raise ResourceError(f"`{folder}` cannot be written to ({error.strerror}); name another folder.") from error
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"`{folder}` has {free / _MIB:.1f} MiB left, the run's checkpoints need {needed / _MIB:.1f} MiB; "
            "make room or name a folder on another disk."
        )


def entered(folder: str | Path | RunFolder) -> contextlib.AbstractContextManager[RunFolder]:
    """Return a run folder to be used in a `with` statement; one that the caller has open stays open after it."""
    return contextlib.nullcontext(folder) if isinstance(folder, RunFolder) else RunFolder(folder)


def cut_metrics(path: Path, generations: int) -> None:
    """Remove the rows of `metrics.jsonl` from generation number `generations` on, and a row that is not whole.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> _ = path.write_text('{"time/iterations": 1}\\n{"time/iterations": 2}\\n{"time')
        >>> cut_metrics(path, 1); path.read_text()
        '{"time/iterations": 1}\\n'
    """  # noqa: D301 - the backslashes are the example's
    if not path.is_file():
        return
    size = 0
    with contextlib.suppress(json.JSONDecodeError):  # of a row that did not reach the disk as a whole
        for row in path.read_bytes().splitlines(keepends=True):
            if json.loads(row)["time/iterations"] > generations or not row.endswith(b"\n"):
                break
            size += len(row)
    os.truncate(path, size)  # in one step: a process killed here leaves the rows before, or the rows after


def locked(path: Path) -> BaseFileLock:
    """Return a lock that is held until its `release`, or until this process ends, however it ends.

    Raises:
        RunFolderError: If another process holds it; it is named.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)  # F36
    except Timeout as error:
        raise RunFolderError(f"`{path.parent}` is being written by {_owner(path)}; wait for it or end it.") from error
    except (OSError, NotImplementedError) as error:  # a file system without locks
        _log.warning("`%s` cannot be locked (%s): see to it that one run at a time writes it.", path.parent, error)
    if isinstance(lock, UnixFileLock):  # elsewhere the file is the lock's own
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
    return lock


def _owner(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")[:200] or "another process"
    return "another process"
