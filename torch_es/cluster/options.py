"""How a cluster is reached and what is expected of its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch_es.checks import check_choice, check_count, check_kind, check_positive
from torch_es.cluster.driver import ClusterEvaluator
from torch_es.evaluators import TOLERANCE, Evaluator, FaultTolerance
from torch_es.rollout import Objective, Snapshot


@dataclass(frozen=True)
class RayEvaluator:
    """Plays episodes on all nodes of a Ray cluster, with the bits of a run on one machine.

    Each node plays with worker processes of its own. Nodes may join and leave while a run trains: what a lost node was
    playing is played elsewhere with the same seeds. Pass it to `ES(evaluator=...)`, which starts and ends the workers.
    It needs the extra `ray`, on every node.

    Attributes:
        address: `"auto"` joins the cluster that this machine is part of, `"ray://HOST:10001"` another. By default, the
            cluster that this program has joined (`ray.init`) or that the variable RAY_ADDRESS names; without either,
            Ray starts on this machine alone. A program that has joined one must call `ray.shutdown()` before another.
        runtime_env: What Ray prepares on the nodes; `{"working_dir": "."}` sends them the present folder, with the
            modules of yours in it. It does not count if this program has joined a cluster before.
        num_workers: Worker processes of each node; at most, and by default, one for each CPU that the node
            offers Ray.
        tolerance: Deadlines and retries of the workers of each node.
        node_timeout: Seconds without any node after which a run saves itself and stops.
        silence: Seconds without an answer after which a node counts as lost.
        other_processors: What to do with a node whose processor rounds differently from this machine's, so that a run's
            bits would depend on who played what: "warn" uses it, "refuse" does not.

    Raises:
        ValueError: If a value is out of its range.

    Example:
        >>> RayEvaluator(address="auto", num_workers=4).node_timeout
        300.0
    """

    address: str | None = None
    runtime_env: dict[str, Any] | None = None
    num_workers: int | None = None
    tolerance: FaultTolerance = TOLERANCE
    node_timeout: float = 300.0
    silence: float = 60.0
    other_processors: Literal["warn", "refuse"] = "warn"

    def __post_init__(self) -> None:
        check_kind("tolerance", self.tolerance, FaultTolerance)
        if self.num_workers is not None:
            check_count("num_workers", self.num_workers)
        for name in ("node_timeout", "silence"):
            check_positive(name, getattr(self, name))
        check_choice("other_processors", self.other_processors, ("warn", "refuse"))

    def __call__(self, objective: Objective, snapshot: Snapshot) -> Evaluator:
        """Join the cluster and start its workers; see `torch_es.evaluators.EvaluatorFactory`.

        Raises:
            WorkerError: If no node comes up, or the environment raises.
            ConnectionError: If there is no cluster at the address.
            ValueError: If this program has joined another cluster.
        """
        return ClusterEvaluator(objective, snapshot, self)
