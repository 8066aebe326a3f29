"""The same evaluation on the machines of a Ray cluster."""

from typing import Any

from torch_es.errors import needs

with needs("ray"):
    import ray as _  # noqa: F401 - imported here, so that the error names the extra

from torch_es.cluster.options import RayEvaluator
from torch_es.evaluators import Evaluator
from torch_es.rollout import Objective, Snapshot

__all__ = ["RayEvaluator"]


def evaluator(objective: Objective, snapshot: Snapshot, **options: Any) -> Evaluator:
    """Start the evaluator that `RayEvaluator(**options)` describes; for `evaluator.name` in a config."""
    return RayEvaluator(**options)(objective, snapshot)
