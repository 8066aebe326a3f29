"""Any generation of a run, built again from its replay log: the same bits, without a checkpoint."""

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
from torch_es.training.trainer import Trainer


def rebuild(
    trainer: Trainer, network: nn.Module, path: str | Path, generation: int, evaluator: Callable[[], Evaluator]
) -> Record | None:
    """Bring a trainer that stands where the run began to the start of a generation.

    Each logged generation is told to the strategy again, which costs its noise and its step, no episode; theta's digest
    is compared with the run's after each. Where actions alone are searched, a step follows from the scores of the
    actions, which are as large as theta and not logged: there the generations are played again.

    Args:
        trainer: With the module's initial weights, the strategy and the optimiser of the run.
        network: The module.
        path: Of `replay.log`.
        generation: Which is next to be played afterwards.
        evaluator: Gives who plays, if anything must be played.

    Returns:
        What that generation returned, if the log knows it.

    Raises:
        RunFolderError: If the log is damaged, is of another run, or this machine's bits differ from the run's.
        ValueError: If the log does not reach so far.
    """
    check_count("generation", generation, minimum=0)
    header, records = read(path)
    strategy = trainer.strategy
    first = header["generation"]
    if generation < first:
        raise ValueError(f"`generation` must be at least {first}, where `{path}` begins, got {generation}.")
    if (first, header["initial"]) != (strategy.generation, fingerprint(network)):
        raise RunFolderError(
            f"`{path}` began with other weights, at generation {first}; give the module as it was when the run began. "
            + difference(header["machine"])
        )
    while strategy.generation < generation:
        record = next(records, None)
        if record is None:
            raise ValueError(f"`generation` must be at most {strategy.generation}, got {generation}.")
        if trainer.snapshot().searches_actions:
            trainer.run_generation(evaluator())
        else:
            strategy.tell(Outcome(record.fitness, behaviours=record.arrays.get("behaviours")))
        trainer.load_progress_dict(record.progress)
        if digest(strategy.theta) != record.theta:  # replay-a
            raise RunFolderError(
                f"Generation {record.generation} gives theta other bits than the run had: "
                f"{difference(header['machine']) or 'the module, strategy or optimiser is another'}."
            )
    with contextlib.suppress(RunFolderError):  # damage that follows does not touch what was rebuilt
        return next(records, None)
    return None
