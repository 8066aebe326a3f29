"""Metric names of other libraries, so that curves overlay theirs."""

from __future__ import annotations

from typing import Literal, get_args

from torch_es.types import Metrics

Naming = Literal["sb3", "cleanrl", "both"]
NAMINGS: tuple[Naming, ...] = get_args(Naming)

_CLEANRL = {
    "rollout/ep_rew_mean": "charts/episodic_return",
    "rollout/ep_len_mean": "charts/episodic_length",
    "eval/mean_reward": "charts/eval_episodic_return",
    "time/fps": "charts/SPS",
    "train/learning_rate": "charts/learning_rate",
}


def named(metrics: Metrics, naming: Naming) -> dict[str, float]:
    """Return metrics under the names of Stable-Baselines3, of CleanRL, or of both.

    A metric that CleanRL does not have keeps its name.

    Example:
        >>> named({"global_step": 8.0, "time/fps": 5.0}, "cleanrl")
        {'global_step': 8.0, 'charts/SPS': 5.0}
    """
    if naming == "sb3":
        return dict(metrics)
    renamed = {_CLEANRL.get(key, key): value for key, value in metrics.items()}
    return {**metrics, **renamed} if naming == "both" else renamed
