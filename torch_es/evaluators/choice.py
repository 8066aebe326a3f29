"""Which evaluator it is: processes, or this one where there are to be none, or can be none."""

from __future__ import annotations

import logging
import multiprocessing

import torch

from torch_es.envs.rules import EpisodeRules
from torch_es.evaluators.process import ProcessEvaluator
from torch_es.evaluators.protocol import Evaluator, PlayerFactory
from torch_es.evaluators.serial import SerialEvaluator
from torch_es.evaluators.tolerance import FaultTolerance
from torch_es.evaluators.wire import Board

_log = logging.getLogger(__name__)


def make_evaluator(
    player_factory: PlayerFactory,
    sizes: tuple[int, torch.dtype, int, int],
    seed: int,
    num_workers: int | None,
    tolerance: FaultTolerance,
    rules: EpisodeRules,
) -> Evaluator:
    """Return the evaluator for a number of workers.

    Args:
        player_factory: Makes a player.
        sizes: For the `Board`: parameters, their dtype, elements of an observation, members with a score.
        seed: The run's seed.
        num_workers: 0 for none; None for one on each core.
        tolerance: Deadlines and retries.
        rules: Of the episodes.
    """
    if num_workers == 0:
        return SerialEvaluator(player_factory)
    if multiprocessing.current_process().daemon:
        _log.warning("This process is a daemon, which may start no workers: it plays itself, with the same bits.")
        return SerialEvaluator(player_factory)
    return ProcessEvaluator(player_factory, Board(*sizes), seed, num_workers, tolerance, rules)
