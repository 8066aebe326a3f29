"""Choose the evaluator: worker processes, or this process."""

from __future__ import annotations

import logging
import multiprocessing

from torch_es.checks import check_kind
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
    """Return the evaluator for a number of workers, one for each core by default; with 0, this process plays all.

    The sizes of shared memory follow from the snapshot, one like those to come.
    """
    check_kind("tolerance", tolerance, FaultTolerance)
    if num_workers == 0:
        return SerialEvaluator(objective)
    if multiprocessing.current_process().daemon:
        _log.warning("This process is a daemon and may not start workers: it plays everything itself, same bits.")
        return SerialEvaluator(objective)
    return ProcessEvaluator(objective, snapshot, num_workers, tolerance)
