"""A trainer and its run's folder: what is written when, and what may be continued."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from torch import nn

from torch_es.checks import differences
from torch_es.errors import RunFolderError, WorkerError
from torch_es.runs.folder import RunFolder
from torch_es.runs.machine import describe
from torch_es.runs.options import is_function
from torch_es.runs.replay_log import Record, digest, fingerprint
from torch_es.training.signals import Stopped
from torch_es.training.trainer import Trainer

_CHANGEABLE = ("num_lanes", "eval_every", "eval_episodes")  # without changing theta
_TENSORS = 6  # of theta's size in a checkpoint: theta, the best, Adam's two, and room


class Recordable(Protocol):
    """What a recording needs of `ES`."""

    trainer: Trainer
    network: nn.Module
    described: dict[str, Any]
    seed: int

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return a checkpoint's state."""
        ...


class Recording:
    """A run as it goes into its folder: begun or continued, recorded, and saved as it ends.

    Args:
        es: Whose run it is.
        folder: A path, or an open folder.
    """

    def __init__(self, es: Recordable, folder: str | Path | RunFolder) -> None:
        self._es = es
        self._own = not isinstance(folder, RunFolder)
        self._folder = folder if isinstance(folder, RunFolder) else RunFolder(folder)
        self._begun = False
        self._saved_at = 0.0

    def __enter__(self) -> Recording:
        if self._own:
            self._folder.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save, unless theta may be in the middle of a step."""
        try:
            if self._begun and isinstance(error, (Stopped, WorkerError, type(None))):
                self.save(last=True)
        finally:
            if self._own:
                self._folder.__exit__(kind, error, trace)

    def begin(self, resume: bool) -> bool:
        """Continue the run that the folder holds, or begin one; return whether there was a checkpoint.

        Raises:
            RunFolderError: If it holds one and `resume` is not set.
            ValueError: If that one was made otherwise; every difference is named.
        """
        es, folder = self._es, self._folder
        if folder.begun and not resume:
            raise RunFolderError(f"`{folder.path}` holds a run; name another folder, or set `resume=True`.")
        state = folder.newest()
        if state is not None:
            own = {name: value for name, value in es.described.items() if name not in _CHANGEABLE}
            saved = {name: v for name, v in state["options"].items() if name in own or is_function(v)}
            if found := differences(saved, {name: own[name] for name in saved if name in own}):
                raise ValueError(f"The run in `{folder.path}` is another one: {found}.")
            es.restore(state)
            folder.saved = es.trainer.strategy.centre.generation
        header = {"seed": es.seed, "initial": fingerprint(es.network), "machine": describe(), "options": es.described}
        parameters = es.trainer.strategy.centre.parameters
        folder.open(
            header, es.trainer.strategy.centre.generation, _TENSORS * parameters.dim * parameters.dtype.itemsize
        )
        self._begun = True
        self._saved_at = es.trainer.seconds
        return state is not None

    def record(self, metrics: dict[str, float], checkpoint_every: float) -> None:
        """Write the generation just played, and a checkpoint if one is due."""
        trainer = self._es.trainer
        assert trainer.played is not None
        theta = digest(trainer.strategy.centre.theta)
        progress = trainer.progress_dict()
        played = trainer.played
        self._folder.record(metrics, Record(played.number, played.fitness, played.lengths, theta, progress))
        if trainer.seconds - self._saved_at >= checkpoint_every:
            self.save()
            self._saved_at = trainer.seconds

    def save(self, last: bool = False) -> None:
        """Write a checkpoint of the trainer as it stands."""
        self._folder.save(self._es.trainer.strategy.centre.generation, self._es.state_dict, last)
