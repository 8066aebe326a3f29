"""What workers played, in the form of episodes that Stable-Baselines3's buffers, callbacks and monitors know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import unwrap_wrapper
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper

from torch_es.training.generation import Generation
from torch_es.types import Float64Array

SUCCESS = "is_success"


class Ending:
    """What the last `info` of an episode says, brought back from workers as the episode's behaviour.

    Args:
        keys: Of numbers in `info`; NaN stands for what is not there, or is no number.

    Example:
        >>> Ending(["is_success", "score"])(None, {"is_success": True})
        array([ 1., nan])
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)

    def __call__(self, observation: Any, info: Mapping[str, Any]) -> Float64Array:
        """Return a number for each key."""
        return np.array([_number(info.get(key)) for key in self.keys])


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan


def monitors(env: VecEnv | None) -> list[Monitor[Any, Any]]:
    """Return the Monitor of each of a `VecEnv`'s environments that lives in this process and has one."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    found = [unwrap_wrapper(each, Monitor) for each in env.envs] if isinstance(env, DummyVecEnv) else []
    return [monitor for monitor in found if isinstance(monitor, Monitor)]


def ending(env: VecEnv | None) -> Ending:
    """Return what brings back all that SB3 and a `VecEnv`'s monitors look for in the last `info`."""
    named = [key for monitor in monitors(env) for key in monitor.info_keywords]
    return Ending(list(dict.fromkeys([SUCCESS, *named])))


def infos(played: Generation, keys: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """Return for each episode of a generation the `info` of its last step: what Monitor adds, and `keys`."""
    told = []
    for number in range(played.returns.size):
        result = played.result(number)
        episode = {"r": round(result.return_, 6), "l": result.length, "t": seconds}
        values = () if result.behaviour is None else result.behaviour.tolist()
        ended = {key: value for key, value in zip(keys, values, strict=False) if not math.isnan(value)}
        success = {SUCCESS: bool(ended[SUCCESS])} if SUCCESS in ended else {}
        told.append({"episode": {**episode, **ended}, **success})
    return told


def write_monitors(env: VecEnv | None, episodes: Sequence[dict[str, Any]]) -> None:
    """Write what workers played where SB3's plots look for it: in the monitors of a `VecEnv`, by turns."""
    for monitor, episode in zip(cycle(monitors(env)), episodes, strict=False):
        monitor.episode_returns.append(episode["r"])
        monitor.episode_lengths.append(episode["l"])
        monitor.episode_times.append(episode["t"])
        monitor.total_steps += episode["l"]
        if monitor.results_writer is not None:
            columns = ("r", "l", "t", *monitor.info_keywords)
            monitor.results_writer.write_row({key: episode[key] for key in columns if key in episode})
