"""What the command line makes, in a program: the trainer of a task with tuned settings, or of a run folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch_es.cli import config
from torch_es.es import ES

_UNREAD = (  # by the trainer; the command line reads them
    "max_seconds", "final_episodes", "video", "logger", "checkpoint_every", "keep_checkpoints", "on_save_error",
    "run_dir", "resume",
)  # fmt: skip
_OF_THE_RUN = {  # what cannot be replaced in it
    "env": "`set_env` of the trainer plays in another environment",
    "policy": "the network is the run's; `ES(policy, ...)` trains another one",
    "fitness_fn": "a run of the command line has an environment",
}


def from_task(task: str, *overrides: str, seed: int = 0, **options: Any) -> ES:
    """Return a trainer with the network and the settings that `torch-es env=TASK` trains with.

    They are in the package's `conf/env/*.yaml`, under `tuned`. `learn()` without `total_timesteps` trains for the tuned
    budget.

    Args:
        task: An id of Gymnasium, as "Hopper-v5", or the name of the file, as "hopper".
        overrides: As on the command line, "strategy.sigma=0.05" or "policy=mlp". Another policy, strategy or optimizer
            drops what was tuned for the first one.
        seed: All randomness follows from it.
        options: Replace arguments of `ES`, as `num_workers=0`. An `optimizer` drops the tuned `scheduler`.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If there are no tuned settings for `task`, a value is out of its range, or nothing reads it.

    Example:
        >>> with from_task("Hopper-v5", num_workers=0) as es:
        ...     es.strategy.theta.shape
        torch.Size([36])
    """
    _check_given(task, overrides, options)
    words = [f"env={config.tuned_env(task)}", f"seed={seed}", *overrides]
    if "optimizer" in options and not any(key.partition(".")[0] == "scheduler" for key in config.keys(overrides)):
        options = {"scheduler": None, **options}  # the tuned one belongs to the tuned optimizer
    settings = config.compose_config(words)
    es = config.build(settings, **options)
    es.budget = settings["total_timesteps"]
    return es


def from_run(folder: str | Path, *, best: bool = False, imports: Collection[str] = (), **options: Any) -> ES:
    """Return the trainer of a run folder that the command line wrote, to act or to train on; a zoo policy is one.

    It continues with the run's settings. A learning-rate scheduler that has reached its end stays there; for another
    learning rate, give the network to a new trainer: `ES(old.network, ...)`.

    Args:
        folder: With the run's `config.yaml` and its checkpoints.
        best: Take the best centre evaluated in training, not the last.
        imports: Modules that the run's config names and that may be imported, which runs their code.
        options: Replace arguments of `ES`, as `num_workers=0`; not strategy, optimizer, and sigma where it is learnt.

    Raises:
        ValueError: If the folder is not a run folder, holds no checkpoint, or names a module that is not in `imports`;
            or if an option cannot be replaced.

    Example:
        >>> with from_run("zoo/CartPole-v1", num_workers=0) as es:
        ...     es.evaluate(episodes=1)[0].return_
        500.0
    """
    for name, way in _OF_THE_RUN.items():
        if name in options:
            raise ValueError(f"`{name}` must be left out of `from_run`: {way}.")
    path = Path(folder)
    settings = config.load_config(path)
    config.check_imports(path, settings, imports)
    return config.restored(path, settings, best=best, **options)


def _check_given(task: str, overrides: Sequence[str], options: Mapping[str, Any]) -> None:
    """Refuse what contradicts the task, what nothing here reads, and a group that would keep what was tuned."""
    for word in (task, *overrides):
        if not isinstance(word, str):
            raise TypeError(
                "The task and each override must be a string of its own, as in "
                f'`from_task("Hopper-v5", "strategy.sigma=0.05")`, got {word!r} of type {type(word).__name__}.'
            )
    for name in (*config.keys(overrides), *options):
        if name in ("env", "env.id"):
            raise ValueError(f"`{name}` must be left out: the task, {task}, is the environment; name another task.")
        if name.partition(".")[0] in _UNREAD:
            raise ValueError(
                f"`{name}` is not read by `from_task`, which only makes the trainer; its `learn` takes `max_seconds`, "
                "`loggers`, `folder`, `resume` and `checkpoint_every`."
            )
    for word in overrides:
        if "seed" in config.keys([word]):
            raise ValueError(f'`seed` must be an argument of `from_task`, as `seed=3`, got the override "{word}".')
    for name, value in options.items():
        text = isinstance(value, str)
        if name in ("policy", "strategy") or (name in ("optimizer", "evaluator") and text):
            option = value if text else name.upper()
            raise ValueError(
                f'`{name}` is a group of settings: give it as an override, `from_task("{task}", "{name}={option}")`, '
                "which drops what was tuned for another option; `ES` takes objects."
            )
