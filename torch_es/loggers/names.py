"""Under which names metrics appear beside the runs of other libraries."""

from __future__ import annotations

from typing import Literal

from torch_es.types import Metrics

Naming = Literal["sb3", "cleanrl", "both"]
NAMINGS: tuple[Naming, ...] = ("sb3", "cleanrl", "both")

_CLEANRL = {
    "rollout/ep_rew_mean": "charts/episodic_return",
    "rollout/ep_len_mean": "charts/episodic_length",
    "eval/mean_reward": "charts/eval_episodic_return",
    "time/fps": "charts/SPS",
    "train/learning_rate": "charts/learning_rate",
}


def named(metrics: Metrics, naming: Naming) -> dict[str, float]:
    """Return a row under Stable-Baselines3's names, under CleanRL's, or under both.

    What CleanRL has no name for keeps its own.

    Example:
        >>> named({"global_step": 8.0, "time/fps": 5.0}, "cleanrl")
        {'global_step': 8.0, 'charts/SPS': 5.0}
    """
    if naming == "sb3":
        return dict(metrics)
    renamed = {_CLEANRL.get(key, key): value for key, value in metrics.items()}
    return {**metrics, **renamed} if naming == "both" else renamed
