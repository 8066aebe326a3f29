"""Evolution behind Stable-Baselines3's API: `torch_es.sb3.ES("MlpPolicy", env)` replaces `PPO("MlpPolicy", env)`."""

from torch_es.errors import needs

with needs("sb3"):
    import stable_baselines3 as _  # noqa: F401 - imported here, so that the error names the extra

from torch_es.sb3.actor import actor
from torch_es.sb3.algorithm import ES

__all__ = ["ES", "actor"]
