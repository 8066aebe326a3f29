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

from torch_es.training.generation import Generation
from torch_es.types import Float64Array

SUCCESS = "is_success"


def ending(observation: Any, info: Mapping[str, Any], keys: Sequence[str]) -> Float64Array:  # noqa: ARG001
    """Return the numbers that the last `info` of an episode holds, so that they come back from the workers.

    Args:
        observation: Not used; `ES` calls this as the episode's behaviour.
        info: Of the last step.
        keys: What to look for; NaN stands for what is not there, or is no number.

    Example:
        >>> ending(None, {"is_success": True, "word": "over"}, ["is_success", "score", "word"])
        array([ 1., nan, nan])
    """
    return np.array([_number(info.get(key)) for key in keys])


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError):
        return math.nan


def monitors(env: VecEnv | None) -> list[Monitor[Any, Any]]:
    """Return the Monitor of each of a `VecEnv`'s environments that lives in this process and has one."""
    inner = None if env is None else env.unwrapped
    found = [unwrap_wrapper(each, Monitor) for each in inner.envs] if isinstance(inner, DummyVecEnv) else []
    return [monitor for monitor in found if isinstance(monitor, Monitor)]


def ending_keys(env: VecEnv | None) -> tuple[str, ...]:
    """Return what SB3, and the monitors of a `VecEnv`, look for in the last `info` of an episode."""
    named = [key for monitor in monitors(env) for key in monitor.info_keywords]
    return tuple(dict.fromkeys([SUCCESS, *named]))


def infos(played: Generation, keys: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """Return the `info` of each episode's last step: what Monitor adds, and the numbers that came back for `keys`."""
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
    """Write what workers played where SB3's plots look for it: in the monitors of a `VecEnv`, in turn."""
    for monitor, episode in zip(cycle(monitors(env)), episodes, strict=False):
        monitor.episode_returns.append(episode["r"])
        monitor.episode_lengths.append(episode["l"])
        monitor.episode_times.append(episode["t"])
        monitor.total_steps += episode["l"]
        if monitor.results_writer is not None:
            columns = ("r", "l", "t", *monitor.info_keywords)
            monitor.results_writer.write_row({key: episode[key] for key in columns if key in episode})
