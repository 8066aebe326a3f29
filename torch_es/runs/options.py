"""The arguments of `ES` as plain data, for checkpoints; of functions, only `torch.optim`'s can be restored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any

import torch

from torch_es.envs.rules import EpisodeRules


def describe(options: dict[str, Any]) -> dict[str, Any]:
    """Return plain values as they are, `torch.optim` factories by name, and only the name of any other function.

    Example:
        >>> describe({"sigma": 0.1, "optimizer": partial(torch.optim.SGD, lr=0.1), "shaping": max})
        {'sigma': 0.1, 'optimizer': {'torch.optim': 'SGD', 'keywords': {'lr': 0.1}}, 'shaping': {'function': 'max'}}
    """
    return {name: _described(value) for name, value in options.items()}


def _described(value: Any) -> Any:
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, Real):  # NumPy's
        return int(value) if isinstance(value, Integral) else float(value)
    function, keywords = (value.func, value.keywords) if isinstance(value, partial) else (value, {})
    name = getattr(function, "__qualname__", type(function).__qualname__)
    if getattr(torch.optim, name, None) is function:
        return {"torch.optim": name, "keywords": dict(keywords)}
    return {"function": name}  # without its module, which is another where a script is imported


def is_function(described: object) -> bool:
    """Return whether this describes a function that cannot be restored.

    Example:
        >>> [is_function(value) for value in describe({"sigma": 0.1, "shaping": max}).values()]
        [False, True]
    """
    return isinstance(described, dict) and "function" in described


def saved_options(state: dict[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """Return the arguments of `ES` from a checkpoint's state; `given` names those that the caller gives again.

    Raises:
        ValueError: If another one was a function, the environment has no id or one that would import a module, or one
            names something that is not an optimiser.
    """
    saved = dict(state["options"])
    if "population_size" in given:
        saved.pop("num_pairs", None)  # it says the same
    functions = {name: value["function"] for name, value in saved.items() if is_function(value)}
    if own := [value["function"] for value in saved["rules"].values() if is_function(value)]:
        functions["rules"] = own[0]
    if missing := [f"`{name}` (it was `{function}`)" for name, function in functions.items() if name not in given]:
        raise ValueError(
            f"{', '.join(missing)} must be given again: functions are not saved, so that loading never runs code."
        )
    rules = saved.pop("rules")
    plain = {name: value for name, value in saved.items() if name not in functions}
    made = {name: _optimizer(name, value) if isinstance(value, dict) else value for name, value in plain.items()}
    if "env" not in given:
        if saved["env"] is None and "fitness_fn" not in given:
            raise ValueError(
                'The checkpoint names no environment: pass `env`, as `ES.load(path, policy, "CartPole-v1")`, or the '
                "function that it was made with, as `env` or `fitness_fn`."
            )
        if ":" in str(saved["env"]):  # F33b
            raise ValueError(f"`env` {saved['env']!r} of the checkpoint would import a module; pass `env` yourself.")
    return made if "rules" in functions else {**made, "rules": EpisodeRules(**rules)}


def check_replaced(state: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse another strategy or optimiser, or sigma where the strategy moves it, than a checkpoint's state belongs to.

    Raises:
        ValueError: If one is given; functions cannot be compared.
    """
    moved = state["strategy"].get("sigma") is not None
    for name in ("strategy", "optimizer", *["sigma"] * moved):
        if name not in given:
            continue
        then, now = state["options"].get(name), _described(given[name])
        if then is not None and then != now and not is_function(then) and not is_function(now):
            raise ValueError(
                f"`{name}` must be the checkpoint's, {then}, since its state is restored, got {now}. For another, "
                "begin anew: give the network that was trained to a new `ES`."
            )


def _optimizer(name: str, described: dict[str, Any]) -> Any:
    kind = getattr(torch.optim, str(described.get("torch.optim")), None)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):  # F33a
        raise ValueError(f"`{name}` of the checkpoint is not an optimiser of torch.optim: {described}.")
    return partial(kind, **described["keywords"])
