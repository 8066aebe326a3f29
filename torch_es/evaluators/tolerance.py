"""Deadlines and retries: how long to wait for workers, and what to do when they fail."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from torch_es.checks import check_choice, check_count, check_positive

ENDLESS = 100_000  # steps of an episode after which it is asked whether it ever ends

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FaultTolerance:
    """Timeouts and retries for workers that crash or hang.

    A task is retried with the same seeds, so a fault that does not come back changes no bit of the result. Tasks that
    were lost with two workers are then played alone, to find the one at fault.

    Attributes:
        task_timeout: Seconds without a step after which a worker that has tasks counts as hung.
        start_timeout: Seconds that a worker may take to import torch and make its environments.
        stop_timeout: Seconds that all workers may take to close their environments at the end.
        max_restarts: Workers to replace within one generation before giving up.
        max_retries: How often to try a task again after it took its worker down.
        on_failure: What to do after that. "raise" ends the run. "drop_pair" leaves the member's pair out of the step
            and counts it. If an environment raises an exception, "raise" raises it at once, and "drop_pair" retries.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> FaultTolerance(task_timeout=2.0).max_retries
        2
    """

    task_timeout: float = 600.0
    start_timeout: float = 120.0
    stop_timeout: float = 5.0
    max_restarts: int = 10
    max_retries: int = 2
    on_failure: Literal["raise", "drop_pair"] = "raise"

    def __post_init__(self) -> None:
        for name in ("task_timeout", "start_timeout", "stop_timeout"):
            check_positive(name, getattr(self, name))
        check_count("max_restarts", self.max_restarts, minimum=0)
        check_count("max_retries", self.max_retries, minimum=0)
        check_choice("on_failure", self.on_failure, ("raise", "drop_pair"))


TOLERANCE = FaultTolerance()


class EndlessWarning:
    """Says once that no episode ends: the steps are taken, so nothing hangs, and a generation would never be whole."""

    _told = False

    def check(self, steps: int) -> None:
        """Take the number of steps that each lane took since an episode ended."""
        if steps >= ENDLESS and not self._told:
            self._told = True
            _log.warning(
                "%s steps without the end of an episode: if the environment never ends one, cap them by `max_steps` "
                "(EpisodeRules(max_steps=...), or episode.max_steps).", f"{steps:,}",
            )  # fmt: skip


def nothing() -> None:
    """Do nothing."""
