"""Choose the evaluator: worker processes, or this process."""

from __future__ import annotations

import logging
import multiprocessing
from typing import Any

from torch_es.checks import check_kind, described
from torch_es.evaluators.process import ProcessEvaluator
from torch_es.evaluators.protocol import Evaluator
from torch_es.evaluators.serial import SerialEvaluator
from torch_es.evaluators.tolerance import TOLERANCE, FaultTolerance
from torch_es.rollout import FunctionObjective, Objective, Snapshot

_log = logging.getLogger(__name__)


def make_evaluator(
    objective: Objective,
    snapshot: Snapshot,
    num_workers: int | None = None,
    tolerance: FaultTolerance = TOLERANCE,
) -> Evaluator:
    """Return the evaluator for a number of workers; with 0, this process plays all.

    By default there is one for each core, or none for a module that is not on the CPU, of which each would make a copy.
    The sizes of shared memory follow from the snapshot, one like those to come.
    """
    check_kind("tolerance", tolerance, FaultTolerance)
    if num_workers == 0 or (num_workers is None and not all(p.is_cpu for p in objective.module.parameters())):
        return SerialEvaluator(objective)
    if multiprocessing.current_process().daemon:
        _log.warning("This process is a daemon and may not start workers: it plays everything itself, same bits.")
        return SerialEvaluator(objective)
    return ProcessEvaluator(objective, snapshot, num_workers, tolerance)


def check_evaluator(made: Any) -> Evaluator:
    """Return what a user's function made, if it is an evaluator.

    Raises:
        TypeError: If it is not.
    """
    if not hasattr(made, "evaluate"):
        raise TypeError(f"`evaluator` must return a torch_es.evaluators.Evaluator, got {described(made)}.")
    evaluator: Evaluator = made
    return evaluator


def plays_in_place(evaluator: Evaluator, objective: Objective) -> bool:
    """Whether the members are evaluated by the user's own module, of which there is no copy anywhere."""
    return isinstance(evaluator, SerialEvaluator) and isinstance(objective, FunctionObjective)
