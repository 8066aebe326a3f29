"""What a worker needs, as bytes, and which part is at fault if that fails."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import cloudpickle

from torch_es.evaluators.settings import adopt, settings
from torch_es.nn import carried
from torch_es.rollout import Objective, Player

_DEPTH = 8
_ARGUMENTS = {  # of `ES`, by where an objective keeps them
    "objective.factory": "env",
    "objective.module._modules['network']": "policy",
    "objective._behaviour": "behaviour",
    "objective.fitness_fn": "fitness_fn",
    "objective._make[0]": "policy",
}


def dumps(objective: Objective) -> bytes:
    """Pickle, by value, what is evaluated, and the settings of this process.

    Raises:
        TypeError: If a part cannot be pickled; the message names the path to it.

    Example:
        >>> import threading
        >>> dumps(partial(print, lock=threading.Lock()))
        Traceback (most recent call last):
        TypeError: A worker cannot be sent `objective.lock`, a lock: cannot pickle '_thread.lock' object. ...
    """
    getattr(objective, "lanes", None)  # they are made now, and say themselves what is wrong with the policy
    try:
        return carried.dumps((objective, settings()))
    except Exception as error:
        path, culprit = _culprit(objective, "objective", _DEPTH)  # F17
        way = "Make it inside the function that makes the environment, which runs in the worker"
        for inner, argument in _ARGUMENTS.items():
            if path.startswith(inner):
                path, way = argument + path.removeprefix(inner), way if argument == "env" else "Keep it out of there"
                break
        raise TypeError(
            f"A worker cannot be sent `{path}`, a {type(culprit).__name__}: {error}. {way}, or use `num_workers=0`."
        ) from error


def objective(payload: bytes) -> Objective:
    """Return what is evaluated, and adopt the settings of the process that pickled it."""
    made: Objective
    made, given = cloudpickle.loads(payload)  # modules are imported before, as they were in the parent
    adopt(given)
    return made


def player(payload: bytes) -> Player:
    """Make the player, with the settings of the process that pickled it."""
    return objective(payload).player()


def pickled(error: BaseException | None) -> bytes:
    """Return an exception as bytes, or b"" if these would not make it again."""
    try:
        itself: bytes = cloudpickle.dumps(error)
        pickle.loads(itself)
    except Exception:  # noqa: BLE001 - its class may not take its own arguments; the text must do
        return b""
    return itself


def unpickled(itself: bytes) -> BaseException | None:
    """Return the exception, if this process can unpickle it.

    Example:
        >>> unpickled(pickled(OSError("no such robot"))), unpickled(b"")
        (OSError('no such robot'), None)
    """
    with contextlib.suppress(Exception):
        error: BaseException | None = pickle.loads(itself)
        return error
    return None


def _culprit(value: Any, path: str, depth: int) -> tuple[str, Any]:
    """Return the innermost part that cannot be pickled."""
    for name, part in _parts(value) if depth else ():
        if not _pickles(part):
            return _culprit(part, f"{path}{name}", depth - 1)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a value: arguments of a partial, variables of a function, items, attributes."""
    if isinstance(value, partial):
        yield ".func", value.func
        yield from ((f"[{i}]", part) for i, part in enumerate(value.args))
        yield from ((f".{name}", part) for name, part in value.keywords.items())
    elif isinstance(value, dict):
        yield from ((f"[{name!r}]", part) for name, part in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((f"[{i}]", part) for i, part in enumerate(value))
    elif code := getattr(value, "__code__", None):
        cells = value.__closure__ or ()
        yield from ((f".{n}", cell.cell_contents) for n, cell in zip(code.co_freevars, cells, strict=True))
        yield from ((f".{n}", value.__globals__[n]) for n in code.co_names if n in value.__globals__)
    else:
        yield from ((f".{name}", part) for name, part in getattr(value, "__dict__", {}).items())


def _pickles(value: Any) -> bool:
    try:
        carried.dumps(value)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True
