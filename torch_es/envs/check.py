"""Check whether an environment keeps to Gymnasium's rules, and whether its episodes follow from their seeds.

Resuming, retrying and comparing all rest on this: the same seed gives the same episode. Some environments break it.
BipedalWalker-v3 of gymnasium 1.4 remembers the episode before (as LunarLander did, Gymnasium issue 728); others draw
from a global generator or from the clock. So episodes are written down step by step, and compared.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from torch_es.envs import EnvFactory
from torch_es.envs.index import env_index, numbered
from torch_es.spaces import Layout

_COLUMNS = ("observation", "reward", "terminated", "truncated")


def objections(factory: EnvFactory) -> tuple[str, list[str]]:
    """Return what Gymnasium's own checker refuses ("" if nothing), and its warnings.

    Example:
        >>> objections(lambda: gym.make("CartPole-v1"))[1][0]
        'A Box observation space minimum value is -infinity. This is probably too low.'
    """
    env, refused = factory(), ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_env(env.unwrapped, skip_render_check=True, skip_close_check=True)
        except Exception as error:  # noqa: BLE001 - assertions, and whatever the environment raises; it is reported
            refused = f"{type(error).__name__}: {error}"
    env.close()
    plain = (re.sub(r"\x1b\[\d+m|WARN: ", "", str(warning.message)) for warning in caught)
    return refused, list(dict.fromkeys(plain))


class Transcript(gym.Wrapper[Any, Any, Any, Any]):
    """Writes each episode to `folder`, in a file named by its seed; with `fresh`, each is played in a new environment.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> env = Transcript(lambda: gym.make("CartPole-v1"), folder, fresh=True)
        >>> _ = env.reset(seed=3); _ = env.step(0); env.close()
        >>> read(folder, 3)["reward"]
        array([1.])
    """

    def __init__(self, factory: EnvFactory, folder: Path, fresh: bool) -> None:
        super().__init__(factory())
        self._factory, self._folder, self._fresh, self._index = factory, folder, fresh, env_index()
        self._row = Layout(self.env.observation_space).row
        self._action_row = Layout(self.env.action_space).row
        self._seed: int | None = None
        self._steps: list[tuple[Any, ...]] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self._write()
        if self._fresh and self._seed is not None:  # F48b
            self.env.close()
            self.env = numbered(self._factory, self._index)
        self._seed = seed
        observation, info = self.env.reset(seed=seed, options=options)
        self._first = self._row(observation).copy()
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and write down the action and its results."""
        outcome = self.env.step(action)
        observation, *rest, _ = outcome
        self._steps.append((self._action_row(action).copy(), self._row(observation).copy(), *rest))
        return outcome

    def close(self) -> None:
        """Write the last episode."""
        self._write()
        super().close()

    def _write(self) -> None:
        if self._seed is None or not self._steps:
            return
        columns: dict[str, Any] = dict(
            zip(("action", *_COLUMNS), map(np.stack, zip(*self._steps, strict=True)), strict=True)
        )
        np.savez_compressed(self._folder / f"{self._seed}.npz", first=self._first, **columns)
        self._steps = []


Episode = dict[str, np.ndarray[Any, Any]]


def read(folder: Path, seed: int) -> Episode:
    """Return a `Transcript` of an episode: columns with one row for each step, and the first observation."""
    with np.load(folder / f"{seed}.npz") as file:
        return dict(file)


def compare(one: Path, other: Path, seeds: Sequence[int]) -> dict[int, str]:
    """Return the seeds of the episodes that differ between two folders, each with the first difference."""
    found = {seed: first_difference(read(one, seed), read(other, seed)) for seed in seeds}
    return {seed: what for seed, what in found.items() if what}  # F48c


def first_difference(one: Episode, other: Episode) -> str:
    """Say in which step two plays of an episode first differ, and in what; "" if they are the same, bit for bit.

    If the actions differ first, the environment is not at fault: the policy rounded differently.

    Example:
        >>> steps = {name: np.zeros((2, 1)) for name in ("first", "action", *_COLUMNS)}
        >>> first_difference(steps, {**steps, "observation": np.array([[0.0], [0.5]])})
        'step 2: observation[0] is 0.0 and 0.5'
    """
    if where := _part(one["first"], other["first"]):
        return f"reset: observation{where}"
    length = min(len(one["reward"]), len(other["reward"]))
    for step in range(length):
        if _part(one["action"][step], other["action"][step]):
            return ""
        for column in _COLUMNS:
            if where := _part(one[column][step], other[column][step]):
                return f"step {step + 1}: {column}{where}"
    lengths = len(one["reward"]), len(other["reward"])
    return "" if lengths[0] == lengths[1] else "it is {} and {} steps long".format(*lengths)


def _part(one: Any, other: Any) -> str:
    """Return "[i] is x and y" for the first element that differs, or ""."""
    a, b = np.ravel(one), np.ravel(other)
    if np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
        return ""
    if a.shape != b.shape:
        return f" has {a.size} and {b.size} elements"
    place = int(np.flatnonzero((a != b) & ~((a != a) & (b != b)))[0])  # NaN is not equal to itself
    return f"{f'[{place}]' if np.ndim(one) else ''} is {a[place]} and {b[place]}"
