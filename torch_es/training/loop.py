"""The loop of `ES.learn`: one generation after another, each recorded, logged and told to the caller."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from torch_es.checks import check_count, check_kind, check_positive
from torch_es.loggers import JsonlLogger
from torch_es.loggers.protocol import Logger, check_loggers
from torch_es.runs.recording import Recording
from torch_es.runs.replay_log import Record, digest
from torch_es.training.signals import StopSignals
from torch_es.training.trainer import Trainer
from torch_es.types import Metrics

_log = logging.getLogger(__name__)

Callback = Callable[[dict[str, float]], bool | None]


def loop(
    trainer: Trainer,
    generation: Callable[[StopSignals], dict[str, float]],
    timesteps: int,
    seconds: float,
    recording: Recording | None,
    log: Callable[[Metrics], None],
    callback: Callback | None,
) -> None:
    """Play generations until the budget is spent, the callback returns False, or a signal stops it.

    The budget is of environment steps, counted from the start of the run, of which the last generation is finished, and
    of wall-clock seconds from now on, of which a generation that is not whole by then is left out.
    """
    deadline, before = time.monotonic() + seconds, trainer.played
    with StopSignals(deadline) as signals, recording or contextlib.nullcontext():
        while trainer.total_timesteps < timesteps and time.monotonic() < deadline:
            metrics = generation(signals)
            if recording is not None:
                recording.record(metrics, record_of(trainer), trainer.seconds)
            log(metrics)
            answer = None if callback is None else callback(metrics)
            if isinstance(answer, (bool, np.bool_)) and not answer:
                break
    steps = trainer.total_timesteps
    if steps >= timesteps and trainer.played is before:
        more = timesteps * (steps // timesteps + 1)
        _log.warning(
            f"The run has {steps:,} steps and `total_timesteps` is {timesteps:,}: nothing was left to learn. Give "
            f"more, as total_timesteps={more:_}."
        )
    elif trainer.played is before:
        _log.warning("`max_seconds` was over before a generation was whole: nothing was learned.")


def check_learning(
    total_timesteps: float | None,
    callback: Callback | None,
    loggers: Sequence[Logger],
    folder: object,
    resume: bool,
    checkpoint_every: float,
) -> int:
    """Return the steps to train for, if the arguments of `ES.learn` are right; see there.

    Raises:
        TypeError: If one is of the wrong kind, or there is no budget.
        ValueError: If one is out of its range.
    """
    if total_timesteps is None:
        raise TypeError("`total_timesteps` is missing; only a trainer of `torch_es.from_task` has a budget.")
    check_kind("callback", callback, Callable)
    check_kind("loggers", loggers, Sequence)
    check_loggers(loggers)
    if folder is not None and any(isinstance(logger, JsonlLogger) for logger in loggers):
        raise ValueError(
            "`loggers` must not hold a JsonlLogger with `folder`, whose metrics.jsonl has the rows anyway."
        )
    if resume and folder is None:
        raise ValueError("`resume` needs the `folder` of the run to continue.")
    if checkpoint_every != 0:
        check_positive("checkpoint_every", checkpoint_every)
    return check_count("total_timesteps", total_timesteps)


def record_of(trainer: Trainer) -> Record:
    """Return what the replay log keeps of the generation that was just played."""
    played = trainer.played
    assert played is not None
    arrays = {"fitness": played.outcome.fitness, "lengths": played.lengths.sum(axis=1, dtype=np.uint32)}
    if played.outcome.behaviours is not None:
        arrays["behaviours"] = played.outcome.behaviours
    return Record(played.number, arrays, digest(trainer.strategy.theta), trainer.progress_dict())
