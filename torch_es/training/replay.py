"""Rebuild any generation of a run from its replay log: the same bits, without a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from torch import nn

from torch_es.checks import check_count
from torch_es.errors import RunFolderError
from torch_es.evaluators import Evaluator
from torch_es.runs.machine import difference
from torch_es.runs.replay_log import Record, digest, fingerprint, read
from torch_es.search import Outcome
from torch_es.search.perturbation import serial_sum
from torch_es.training.trainer import Trainer


def rebuild(
    trainer: Trainer, network: nn.Module, path: str | Path, generation: int, evaluator: Callable[[], Evaluator]
) -> Record | None:
    """Bring a trainer from the start of a run to the start of one of its generations.

    The strategy is told the outcome of each logged generation again. That costs the noise and the step, but no episode.
    After each, theta's digest is compared with the run's. If the search is by actions alone, a step follows from their
    scores, which are as large as theta and are not logged, so those generations are played again.

    Args:
        trainer: With the module's initial weights, the strategy and the optimiser of the run.
        network: The module.
        path: The run's `replay.log`.
        generation: The generation that is next afterwards.
        evaluator: Returns the evaluator, if anything must be played.

    Returns:
        What that generation returned, if the log knows it.

    Raises:
        RunFolderError: If the log is damaged or belongs to another run, or this machine's bits differ from the run's.
        ValueError: If the log ends before that generation, or the trainer is not where it begins.
    """
    check_count("generation", generation, minimum=0)
    header, records = read(path)
    strategy = trainer.strategy
    first = header["generation"]
    if generation < first:
        raise ValueError(f"`generation` must be at least {first}, where `{path}` begins, got {generation}.")
    if strategy.generation != first:
        raise ValueError(
            f"The trainer must be at generation {first}, where `{path}` begins, got {strategy.generation}; make a new "
            "one."
        )
    if header["initial"] != fingerprint(network):
        raise RunFolderError(
            f"`{path}` began with other weights; give the module as it was when the run began. "
            + difference(header["machine"])
        )
    while strategy.generation < generation:
        record = next(records, None)
        if record is None:
            raise ValueError(f"`generation` must be at most {strategy.generation}, got {generation}.")
        if trainer.snapshot().searches_actions:
            trainer.run_generation(evaluator())
        else:
            strategy.tell(Outcome(record.fitness, behaviours=record.arrays.get("behaviours")), serial_sum)
        trainer.load_progress_dict(record.progress)
        if digest(strategy.theta) != record.theta:  # replay-a
            raise RunFolderError(
                f"Generation {record.generation} gives theta other bits than the run had: "
                f"{difference(header['machine']) or 'another module, device, strategy or optimiser'}."
            )
    with contextlib.suppress(RunFolderError):  # damage that follows does not touch what was rebuilt
        return next(records, None)
    return None
