"""torch_es: evolution strategies for any `torch.nn.Module`.

`ES` trains a policy in an environment, or any module on a function. `OpenAIES`, `PGPE`, `SNES` and `ARS` are the
algorithms by themselves, for any function of a module or a vector. `SearchGradient` adds an estimate to `.grad` where
`loss.backward()` cannot.
"""

from typing import TYPE_CHECKING, Any

from torch_es.envs import EpisodeRules
from torch_es.errors import MissingExtraError, NonFiniteError, ResourceError, RunFolderError, WorkerError
from torch_es.es import ES
from torch_es.evaluators import FaultTolerance
from torch_es.policies import Policy, RecurrentNetwork, atari_cnn, mlp
from torch_es.rollout import BatchFitness
from torch_es.search import ARS, PGPE, SNES, OpenAIES, SearchGradient
from torch_es.types import EpisodeResult, Task

if TYPE_CHECKING:
    from torch_es.trainers import from_run, from_task

__version__ = "0.1.0"

__all__ = [
    "ARS",
    "ES",
    "PGPE",
    "SNES",
    "BatchFitness",
    "EpisodeResult",
    "EpisodeRules",
    "FaultTolerance",
    "MissingExtraError",
    "NonFiniteError",
    "OpenAIES",
    "Policy",
    "RecurrentNetwork",
    "ResourceError",
    "RunFolderError",
    "SearchGradient",
    "Task",
    "WorkerError",
    "atari_cnn",
    "from_run",
    "from_task",
    "mlp",
]


def __getattr__(name: str) -> Any:
    """Import `from_task` and `from_run` when they are first used, because they bring Hydra."""
    if name in ("from_run", "from_task"):
        from torch_es import trainers

        return getattr(trainers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
