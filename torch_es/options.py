"""The arguments of `ES` as plain data, for checkpoints; of functions, only `torch.optim`'s own are made again."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch


def describe(options: dict[str, Any]) -> dict[str, Any]:
    """Plain values as they are, `torch.optim` factories by name; other functions must be given again to `load`.

    Example:
        >>> describe({"sigma": 0.1, "optimizer": partial(torch.optim.SGD, lr=0.1), "shaping": max})
        {'sigma': 0.1, 'optimizer': {'torch.optim': 'SGD', 'keywords': {'lr': 0.1}}}
    """
    described: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, (str, int, float, bool, type(None))):
            described[name] = value
        elif isinstance(value, partial) and getattr(torch.optim, value.func.__name__, None) is value.func:
            described[name] = {"torch.optim": value.func.__name__, "keywords": value.keywords}
    return described


def migrated(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a checkpoint of schema 1, or a later one, under the names that they have now.

    Example:
        >>> migrated({"max_episode_steps": 5})
        {'rules': {'max_steps': 5}}
    """
    made = dict(options)
    if "rules" not in made:
        made["rules"] = {"max_steps": made.pop("max_episode_steps", None)}
    return made


def undescribe(options: dict[str, Any]) -> dict[str, Any]:
    """Return arguments from their description.

    Raises:
        ValueError: If one names something that is no optimiser.
    """
    made = dict(options)
    for name, value in options.items():
        if isinstance(value, dict) and name != "rules":
            kind = getattr(torch.optim, str(value.get("torch.optim")), None)
            if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
                raise ValueError(f"`{name}` of the checkpoint is no optimiser of torch.optim: {value}.")
            made[name] = partial(kind, **value["keywords"])
    return made
