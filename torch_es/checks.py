"""Checks of arguments: each error names the argument, the rule, the value and, if there is one, the way out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

Choice = TypeVar("Choice", bound=str)


def check_positive(name: str, value: object) -> float:
    """Return `value` as a float if it is a finite number above zero.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not finite or not above zero.

    Example:
        >>> check_positive("sigma", 0.1)
        0.1
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"`{name}` must be a positive number, got {value!r} of type {type(value).__name__}.")
    if not (math.isfinite(value) and float(value) > 0):
        raise ValueError(f"`{name}` must be positive, got {value}.")
    return float(value)


def check_kind(name: str, value: object, kind: Any) -> None:
    """Refuse a value that is not of `kind`, a class or `Callable`. None passes: it stands for what was not given.

    Raises:
        TypeError: If it is of another kind.

    Example:
        >>> check_kind("callback", 5, Callable)
        Traceback (most recent call last):
        TypeError: `callback` must be a function, got 5 of type int.
    """
    if value is not None and not isinstance(value, kind):
        what = "a function" if kind is Callable else f"of type {kind.__name__}"
        raise TypeError(f"`{name}` must be {what}, got {value!r} of type {type(value).__name__}.")


def check_count(name: str, value: object, minimum: int = 1) -> int:
    """Return `value` as an int if it is a whole number of at least `minimum`; 1e6 is one.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is below `minimum`.

    Example:
        >>> check_count("num_pairs", 32), check_count("total_timesteps", 1e6)
        (32, 1000000)
    """
    count = int(value) if isinstance(value, Integral) or (isinstance(value, float) and value.is_integer()) else None
    if isinstance(value, bool) or count is None:
        raise TypeError(f"`{name}` must be a whole number, got {value!r} of type {type(value).__name__}.")
    if count < minimum:
        raise ValueError(f"`{name}` must be at least {minimum}, got {value}.")
    return count


def check_flag(name: str, value: object) -> bool:
    """Return `value` if it is a bool.

    Raises:
        TypeError: If it is anything else, even a string: "no" and "off" would count as true.

    Example:
        >>> check_flag("video", False)
        False
    """
    if not isinstance(value, bool):
        raise TypeError(f"`{name}` must be true or false, got {value!r} of type {type(value).__name__}.")
    return value


def check_choice(name: str, value: object, choices: Iterable[Choice]) -> Choice:
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: If it is not; the message lists the choices and suggests the nearest.

    Example:
        >>> check_choice("shaping", "sign", ["centered_ranks", "sign"])
        'sign'
    """
    names = sorted(choices)
    if isinstance(value, str) and value in names:
        return names[names.index(value)]
    raise ValueError(f"`{name}` must be one of {', '.join(names)}; got {value!r}.{suggestion(str(value), names)}")


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean `x`?" for the nearest known word, ignoring case, or "" if none is near.

    Example:
        >>> suggestion("sigm", ["sigma", "seed"])
        ' Did you mean `sigma`?'
    """
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(word.casefold(), folded, n=1, cutoff=0.5)
    return f" Did you mean `{folded[near[0]]}`?" if near else ""


def described(value: object) -> str:
    """Say what a value is that was not expected: its type, and the names or types of what it holds.

    Example:
        >>> described({"a": 1}), described((1, None)), described(None)
        ("a dict with 'a'", 'a tuple of int, NoneType', 'None')
    """
    kind = f"a {type(value).__name__}"
    if isinstance(value, Mapping):
        return f"{kind} with {', '.join(map(repr, value)) or 'nothing'}"
    if isinstance(value, (tuple, list)):
        return f"{kind} of {', '.join(type(part).__name__ for part in value[:9]) or 'nothing'}"
    return "None" if value is None else kind


def differences(saved: Mapping[str, object], own: Mapping[str, object]) -> str:
    """List every key whose values differ, with both values; "" if there is none.

    Example:
        >>> differences({"sigma": 0.1, "seed": 0}, {"sigma": 0.2, "seed": 0, "env": "x"})
        '`env` was absent, is x; `sigma` was 0.1, is 0.2'
    """
    keys = sorted({*saved, *own})
    both = [(key, saved.get(key, "absent"), own.get(key, "absent")) for key in keys]
    return "; ".join(f"`{key}` was {then}, is {now}" for key, then, now in both if then != now)


def flat(tree: object, path: str = "") -> dict[str, Any]:
    """Return nested mappings as one flat mapping, with keys joined by dots.

    Example:
        >>> flat({"env": {"id": "Hopper-v5", "kwargs": {}}, "seed": 0})
        {'env.id': 'Hopper-v5', 'env.kwargs': {}, 'seed': 0}
    """
    if not isinstance(tree, Mapping) or not tree:
        return {path: tree} if path else {}
    return {k: v for key, part in tree.items() for k, v in flat(part, f"{path}.{key}" if path else key).items()}
