"""Counting the steps of a generation for SB3's callbacks, so that `eval_freq` means what it means for PPO."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList


class Calls(int):
    """A number of calls that grows by a generation at a time.

    SB3's callbacks add 1 to `n_calls` and then ask `n_calls % eval_freq == 0`. Asked once a generation, a plain number
    would hardly ever be a multiple. This one adds all calls of the generation, and counts as a multiple if it has just
    passed one.

    Args:
        now: The number.
        coming: The calls of the next generation.
        before: The number before the last generation.

    Example:
        >>> calls = Calls(19_000, coming=4_000) + 1
        >>> calls, calls % 10_000, calls % 5_000, calls % 9_000
        (23000, 0, 0, 5000)
    """

    coming: int
    before: int

    def __new__(cls, now: int, coming: int = 1, before: int = 0) -> Calls:
        """Make the number."""
        calls = super().__new__(cls, now)
        calls.coming, calls.before = coming, before
        return calls

    def __add__(self, _one: Any) -> Calls:
        return Calls(int(self) + self.coming, before=int(self))

    def __mod__(self, other: Any) -> Any:
        return 0 if int(self) // other > self.before // other else int(self) % other


def expect(callback: BaseCallback, calls: int) -> None:
    """Make the next `on_step` of a callback, and of those that it calls in turn, count as `calls` calls."""
    callback.n_calls = Calls(callback.n_calls, coming=calls)
    for each in callback.callbacks if isinstance(callback, CallbackList) else ():
        expect(each, calls)
