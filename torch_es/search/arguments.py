"""Unknown arguments: for those that other libraries have, the error says what to use instead."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from torch_es.checks import suggestion

_RATE = "the learning rate belongs to the optimiser: optimizer=partial(torch.optim.Adam, lr=...)"
_EPISODES = "a generation plays whole episodes; `num_pairs`, `min_episodes` and `min_timesteps` say how many"
_WORKERS = "`num_workers` is the number of processes, `num_lanes` that of environments in each"
_NOTHING = "evolution strategies have no use for it; leave it out"
_INSTEAD = {
    **dict.fromkeys(("lr", "learning_rate", "step_size", "stepsize"), _RATE),
    **dict.fromkeys(("n_steps", "batch_size", "train_freq", "rollout_steps"), _EPISODES),
    **dict.fromkeys(("n_envs", "num_envs", "n_jobs"), _WORKERS),
    **dict.fromkeys(
        ("n_epochs", "gamma", "gae_lambda", "clip_range", "clip_range_vf", "normalize_advantage", "ent_coef", "vf_coef",
         "max_grad_norm", "use_sde", "sde_sample_freq", "target_kl", "buffer_size", "learning_starts", "tau"),
        _NOTHING,
    ),
    "device": "the module stays where it is: call `.to(device)` on it before",
    "verbose": "give `progress_bar=True` to `learn`",
    "tensorboard_log": "give `loggers=[TensorBoardLogger()]` to `learn`",
    "policy_kwargs": "make the network with them and give it as `policy`",
    "env_kwargs": "give a function that makes the environment as `env`",
    "max_steps": "give `rules=EpisodeRules(max_steps=...)`",
    "noise_stdev": "it is called `sigma`",
    "popsize": "it is called `population_size`",
    **dict.fromkeys(("total_timesteps", "callback", "progress_bar", "loggers", "folder"), "give it to `learn`"),
}  # fmt: skip


def hint(name: str, known: Iterable[str]) -> str:
    """Say what to use instead of an argument that is not known.

    Example:
        >>> hint("lr", ["sigma"])
        ' The learning rate belongs to the optimiser: optimizer=partial(torch.optim.Adam, lr=...).'
    """
    instead = _INSTEAD.get(name)
    return f" {instead[0].upper()}{instead[1:]}." if instead else suggestion(name, known)


def check_arguments(trainer: type, strategy: str, taken: Iterable[str], options: Mapping[str, Any]) -> None:
    """Refuse options that a strategy does not take.

    `trainer` is the class that was called, which has arguments of its own.

    Raises:
        ValueError: If one is not an argument; the error says what to use instead.
    """
    known = {*taken, *inspect.signature(trainer).parameters} - {"strategy_options"}
    for name in options:
        if name not in taken:
            raise ValueError(
                f"`{name}` is not an argument of {trainer.__name__} with strategy={strategy}.{hint(name, known)} "
                f"Its arguments are {', '.join(sorted(known))}."
            )
