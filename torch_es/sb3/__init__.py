"""Stable-Baselines3's API, evolved: `torch_es.sb3.ES("MlpPolicy", env)` where `PPO("MlpPolicy", env)` stood."""

from torch_es.errors import MissingExtraError

try:
    import stable_baselines3 as _  # noqa: F401 - asked for here, so that what is missing is named
except ImportError as error:
    raise MissingExtraError("stable-baselines3", "sb3") from error

from torch_es.sb3.actor import actor
from torch_es.sb3.algorithm import ES

__all__ = ["ES", "actor"]
