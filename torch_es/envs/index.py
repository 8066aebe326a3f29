"""The number of the environment that is being made: a simulator may need a port, licence or display of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar

from torch_es.envs.make import Env, EnvFactory

_index: ContextVar[int] = ContextVar("index", default=0)
_worker = 0  # the number of this process among the workers


def env_index() -> int:
    """Return the number of the environment that is being made, for factories that need to tell environments apart.

    Each of `num_workers` processes makes `num_lanes` environments and keeps them, so numbers go from 0 to
    `num_workers * num_lanes - 1`. A worker that replaces a lost one takes over its numbers. Before that, the trainer
    makes number 0 in its own process, to look at the spaces, and closes it. Episodes do not depend on the number.

    Example:
        >>> class Simulator:
        ...     def __init__(self):
        ...         self.port = 5000 + env_index()
        >>> [env.port for env in environments(Simulator, 3)]
        [5000, 5001, 5002]
    """
    return _index.get()


def environments(factory: EnvFactory, count: int) -> Iterator[Env]:
    """Make one environment for each of `count` lanes, one after another."""
    return (numbered(factory, _worker * count + lane) for lane in range(count))


def numbered(factory: EnvFactory, index: int) -> Env:
    """Make an environment whose `env_index()` is `index`."""
    token = _index.set(index)
    try:
        return factory()
    finally:
        _index.reset(token)


def set_worker(number: int) -> None:
    """Tell this process its number among the workers."""
    global _worker
    _worker = number
