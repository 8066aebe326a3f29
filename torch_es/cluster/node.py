"""The training process's end of a node."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from torch_es.cluster.actor import NodeActor
from torch_es.cluster.messages import Answer, Failure, Greeting, Units
from torch_es.errors import WorkerError
from torch_es.types import Task

_PATIENCE = 1.0  # seconds that a node waits for a result before it answers that there is none


class LostError(Exception):
    """A node did not answer; the message says why."""


class Node:
    """A machine of the cluster and the actor on it.

    At most one call is under way. While it is, new tasks wait here. The node gets a few more tasks than it has lanes,
    so that no lane waits for the network.

    Args:
        info: The node's row of `ray.nodes()`.
        num_workers: Its worker processes.
        arguments: The further arguments of `NodeActor`.
    """

    def __init__(self, info: dict[str, Any], num_workers: int, *arguments: Any) -> None:
        self.id: str = info["NodeID"]
        self.address: str = info["NodeManagerAddress"]
        self.greeting: Greeting | None = None
        self.num_lanes = 0  # and a few tasks ahead
        self.restarts = 0
        self._posted = -1
        self._waiting: Units = []
        self._sent = time.monotonic()
        self._called = self._sent  # without the time in which nobody listened
        on_this_node = NodeAffinitySchedulingStrategy(self.id, soft=False)
        options = {"num_cpus": num_workers, "max_restarts": 0, "max_concurrency": 2}
        made: Any = ray.remote(NodeActor)
        self._actor: Any = made.options(scheduling_strategy=on_this_node, **options).remote(num_workers, *arguments)
        self.call: Any = self._actor.start.remote()  # what it is to answer, or None

    def __str__(self) -> str:
        return f"Node {self.address}"

    def greeted(self, greeting: Greeting) -> None:
        """Note that its workers are up."""
        self.greeting, self.num_lanes, self.call = greeting, greeting.num_lanes, None

    def give(self, tasks: tuple[Task, ...]) -> None:
        """Hand out tasks with the next call."""
        self._waiting.append(tasks)

    def exchange(self, number: int, parcel: Any, busy: bool) -> None:
        """Send what waits, and ask for results, unless a call is under way or there is nothing to ask for."""
        if self.call is None and (self._waiting or busy):
            new = None if self._posted == number else parcel
            self.call = self._actor.exchange.remote(number, self._waiting, _PATIENCE, new)
            self._posted, self._waiting = number, []
            self._called = self._sent = time.monotonic()

    def compute(self, number: int, parcel: Any, *arguments: Any) -> Any:
        """Ask for parts of an update's sums; returns what to wait for."""
        new = None if self._posted == number else parcel
        self._posted = number
        return self._actor.compute.remote(number, *arguments, new)

    def answer(self) -> Greeting | Answer | Failure:
        """Return what the call answered.

        Raises:
            LostError: If the node did not answer.
        """
        call, self.call = self.call, None
        try:
            answer: Greeting | Answer | Failure = ray.get(call)
        except RayTaskError as error:
            raise WorkerError(f"{self}: {error.cause}") from error.cause
        except RayError as error:
            lines = str(error).strip().splitlines()
            why = lines[-1] if "creation task" in lines[0] else lines[0]  # a module that the node lacks, for example
            raise LostError(f"was lost ({type(error).__name__}: {why})") from error
        return answer

    def note(self, answer: Answer) -> None:
        """Keep what an answer says of the node; as many tasks are handed out ahead as may end while messages travel."""
        assert self.greeting is not None
        self.restarts = answer.restarts
        took = time.monotonic() - self._sent
        ahead = round(2 * len(answer.scores) * (took - answer.waited) / took)
        self.num_lanes = self.greeting.num_lanes + min(ahead, self.greeting.num_lanes)

    def silence(self) -> float:
        """Return for how many seconds a call has not been answered."""
        return 0.0 if self.call is None else time.monotonic() - self._called

    def excuse(self, seconds: float) -> None:
        """Leave out seconds in which nobody listened."""
        self._called += seconds

    def stop(self) -> Any:
        """Ask the workers to end; returns what to wait for."""
        return self._actor.stop.remote()

    def kill(self) -> None:
        """End the actor at once, and its workers, which notice."""
        ray.kill(self._actor)


def living(cpus: int | None) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the nodes that are alive and offer CPUs, and how many workers to start there."""
    for info in ray.nodes():  # type: ignore[no-untyped-call]
        offered = int(info["Resources"].get("CPU", 0)) if info["Alive"] else 0
        if offered:
            yield info, min(cpus or offered, offered)
