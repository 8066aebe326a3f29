"""`from_task`: a trainer with the settings that were tuned for an environment, in a program."""

from __future__ import annotations

from typing import Any

from torch_es.cli import config
from torch_es.es import ES


def from_task(task: str, *overrides: str, seed: int = 0, **options: Any) -> ES:
    """Return a trainer with the network and the settings that `torch-es env=TASK` trains with.

    They are in the package's `conf/env/*.yaml`, under `tuned`. `learn()` without `total_timesteps` trains for the tuned
    budget.

    Args:
        task: An id of Gymnasium, as "Hopper-v5", or the name of the file, as "hopper".
        overrides: As on the command line, "strategy.sigma=0.05" or "policy=mlp". Another policy, strategy or optimizer
            drops what was tuned for the first one.
        seed: All randomness follows from it.
        options: Replace arguments of `ES`, as `num_workers=0`.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If there are no tuned settings for `task`, or a value is out of its range.

    Example:
        >>> with from_task("Hopper-v5", num_workers=0) as es:
        ...     es.strategy.theta.shape
        torch.Size([36])
    """
    words = [f"env={config.tuned_env(task)}", f"seed={seed}", *overrides]
    settings = config.compose_config(words)
    es = config.build(settings, **options)
    es.budget = settings["total_timesteps"]
    return es
