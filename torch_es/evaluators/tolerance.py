"""What is borne of workers and environments that fail, and for how long anything is waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch_es.checks import check_choice, check_count, check_positive


@dataclass(frozen=True)
class FaultTolerance:
    """Deadlines and retries of the process evaluator.

    A task is retried with the same seeds, so that a fault that passes changes no bit of the result. Tasks of a worker
    that was lost twice are played alone, one on a worker, which finds the one that is to blame.

    Attributes:
        task_timeout: Seconds without a result after which a worker that has tasks counts as hung.
        start_timeout: Seconds for a worker to import torch and make its environments.
        stop_timeout: Seconds for all workers to close their environments at the end.
        max_restarts: Workers replaced within a generation before giving up.
        max_retries: How often a task is tried again after it took its worker down.
        on_failure: Then "raise" ends the run, and "drop_pair" gives the member no return, so that its pair is left
            out of the step and counted. An exception in an environment is raised at once by "raise", and retried by
            "drop_pair".

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
