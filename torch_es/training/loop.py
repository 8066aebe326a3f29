"""The loop of `ES.learn`: one generation after another, each recorded, logged and told to the caller."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import torch

from torch_es.runs.recording import Recording
from torch_es.runs.replay_log import Record, digest
from torch_es.training.signals import StopSignals
from torch_es.training.trainer import Trainer
from torch_es.types import Metrics

Callback = Callable[[dict[str, float]], bool | None]


class Budget(NamedTuple):
    """How long to train; the generation in which either is spent is finished.

    Attributes:
        timesteps: Environment steps, counted from the start of the run.
        seconds: Wall-clock time from now on.
    """

    timesteps: int
    seconds: float


def loop(
    trainer: Trainer,
    generation: Callable[[StopSignals], dict[str, float]],
    budget: Budget,
    recording: Recording | None,
    log: Callable[[Metrics], None],
    callback: Callback | None,
) -> None:
    """Play generations until the budget is spent, the callback returns False, or a signal stops it.

    Args:
        trainer: Plays and learns.
        generation: Plays one and returns its metrics.
        budget: How long.
        recording: Writes each generation to the run folder.
        log: Takes each generation's metrics.
        callback: Called with each generation's metrics.
    """
    limit = trainer.seconds + budget.seconds
    # tensors made in inference mode could not be changed outside of it later
    with torch.inference_mode(False), StopSignals() as signals, recording or contextlib.nullcontext():
        while trainer.total_timesteps < budget.timesteps and trainer.seconds < limit:
            metrics = generation(signals)
            if recording is not None:
                recording.record(metrics, record_of(trainer), trainer.seconds)
            log(metrics)
            if callback is not None and callback(metrics) is False:
                break


def record_of(trainer: Trainer) -> Record:
    """Return what the replay log keeps of the generation that was just played."""
    played = trainer.played
    assert played is not None
    theta = digest(trainer.strategy.centre.theta)
    return Record(played.number, {"fitness": played.fitness, "lengths": played.lengths}, theta, trainer.progress_dict())
