"""What a run writes, and when: every generation to the logs, and a checkpoint at intervals and at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType

from torch_es.errors import Stopped
from torch_es.runs.checkpoint import Tree
from torch_es.runs.folder import RunFolder
from torch_es.runs.replay_log import Record
from torch_es.types import Metrics

_log = logging.getLogger(__name__)


class Recording:
    """Records a run in its open folder while it is trained, and saves the last whole generation however that ends.

    `state` returns what a checkpoint holds, `every` are the seconds between two; the run took `seconds` until now.
    """

    def __init__(self, folder: RunFolder, state: Callable[[], Tree], every: float, seconds: float) -> None:
        self.path = folder.path
        self._folder, self._state, self._every = folder, state, every
        self._saved_at = seconds

    def record(self, metrics: Metrics, record: Record, seconds: float) -> None:
        """Write the generation just played, and a checkpoint if one is due."""
        self._folder.record(metrics, record)
        if seconds - self._saved_at >= self._every:
            self._folder.save(self._state)
            self._saved_at = seconds

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Save the last whole generation; one that was stopped in the middle of its update is not whole."""
        if error is None or isinstance(error, Stopped):
            self._folder.save(self._state, last=True)  # F12
            return
        try:
            state = self._state()
            if state["generation"] == self._folder.generation:
                self._folder.save(lambda: state, last=True)
        except Exception as failure:  # noqa: BLE001 - the error that ended the run is the one to be raised
            _log.warning("Generation %d could not be saved: %s", self._folder.generation, failure)
