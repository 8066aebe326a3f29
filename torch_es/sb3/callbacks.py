"""Counting the steps of a generation for SB3's callbacks, so that `eval_freq` means what it means for PPO."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList


class Calls(int):
    """A number of calls that went up by many at once: it is a multiple of `n` if it went past a multiple of `n`.

    Callbacks of SB3 ask `n_calls % eval_freq == 0` at each step. Asked once a generation, a plain number would hardly
    ever be a multiple.

    Args:
        now: The number.
        before: What it was when it was last asked.

    Example:
        >>> calls = Calls(23_000, before=19_000)
        >>> calls % 10_000, calls % 5_000 == 0, calls % 9_000
        (0, True, 5000)
    """

    before: int

    def __new__(cls, now: int, before: int = 0) -> Calls:
        """Make the number."""
        calls = super().__new__(cls, now)
        calls.before = before
        return calls

    def __mod__(self, other: Any) -> Any:
        """Return 0 if a multiple was passed, otherwise the remainder."""
        return 0 if int(self) // other > self.before // other else int(self) % other


class _Coming(int):
    """`n_calls` before a generation's calls: to add the one call of `on_step` is to add them all."""

    calls = 1

    def __add__(self, _one: Any) -> Calls:
        return Calls(int(self) + self.calls, before=int(self))


def expect(callback: BaseCallback, calls: int) -> None:
    """Have the next `on_step` of a callback, and of those that are called with it, count as `calls` calls.

    Example:
        >>> from stable_baselines3.common.callbacks import ConvertCallback
        >>> callback = ConvertCallback(lambda locals_, globals_: True)
        >>> callback.model = type("Model", (), {"num_timesteps": 0})()
        >>> expect(callback, 400)
        >>> callback.on_step(), callback.n_calls
        (True, 400)
    """
    coming = _Coming(callback.n_calls)
    coming.calls = calls
    callback.n_calls = coming
    for each in callback.callbacks if isinstance(callback, CallbackList) else ():
        expect(each, calls)
