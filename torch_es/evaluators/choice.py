"""Choose the evaluator: worker processes, or this process."""

from __future__ import annotations

import logging
import multiprocessing

from torch_es.evaluators.process import ProcessEvaluator
from torch_es.evaluators.protocol import Evaluator
from torch_es.evaluators.serial import SerialEvaluator
from torch_es.evaluators.tolerance import TOLERANCE, FaultTolerance
from torch_es.rollout import Objective, Snapshot

_log = logging.getLogger(__name__)


def make_evaluator(
    objective: Objective,
    snapshot: Snapshot,
    num_workers: int | None = None,
    tolerance: FaultTolerance = TOLERANCE,
) -> Evaluator:
    """Return the evaluator for a number of workers.

    Args:
        objective: What is evaluated.
        snapshot: One like those to come; the sizes of shared memory follow from it.
        num_workers: Worker processes; by default one for each core. With 0, this process plays everything.
        tolerance: Deadlines and retries.
    """
    if num_workers == 0:
        return SerialEvaluator(objective)
    if multiprocessing.current_process().daemon:
        _log.warning("This process is a daemon and may not start workers: it plays everything itself, same bits.")
        return SerialEvaluator(objective)
    return ProcessEvaluator(objective, snapshot, num_workers, tolerance)
