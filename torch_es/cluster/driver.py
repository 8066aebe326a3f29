"""The training process's end of a cluster: who plays what, and what happens when a node joins or leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import ray
import torch
from torch import Tensor

from torch_es.cluster.messages import Answer, Greeting, posted
from torch_es.cluster.node import LostError, Node, living
from torch_es.errors import WorkerError
from torch_es.evaluators.ledger import Ledger
from torch_es.evaluators.pickling import dumps
from torch_es.evaluators.protocol import NextTasks
from torch_es.evaluators.tolerance import nothing
from torch_es.evaluators.wire import unpack_results
from torch_es.rollout import Objective, Snapshot
from torch_es.runs.machine import arithmetic, processor
from torch_es.search.perturbation import Noisy, add_chunks, chunks, columns, serial_sum, sum_parts
from torch_es.types import EpisodeResult, Float64Array

if TYPE_CHECKING:
    from torch_es.cluster.options import RayEvaluator

_log = logging.getLogger(__name__)

_CHANCES = 2  # nodes are lost for reasons of their own, so a task is suspected later than with workers
_LOOK = 1.0  # seconds between two looks at who is there


_joined = ""  # the address at which this program joined its cluster, if it did so here; Ray has one connection for all


def join(options: RayEvaluator) -> None:
    """Join the cluster at the address, or stay in the one that this program has joined.

    Raises:
        ValueError: If that is another one.
        ConnectionError: If there is no cluster at the address.
    """
    global _joined
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        _joined = options.address or os.environ.get("RAY_ADDRESS") or "local"
        stop = signal.getsignal(signal.SIGTERM)
        ray.init(address=_joined, runtime_env=options.runtime_env, logging_level=logging.WARNING)
        if threading.current_thread() is threading.main_thread():  # where Ray sets a handler of its own
            signal.signal(signal.SIGTERM, stop)
    elif options.address not in (None, "auto", _joined, there := ray.get_runtime_context().gcs_address):
        raise ValueError(
            f"`address` must be left out once the program has joined a cluster, at {there}, got {options.address}. "
            "To join that one instead, call `ray.shutdown()` first."
        )


class ClusterEvaluator:
    """Plays tasks on the nodes of a Ray cluster; made by `RayEvaluator`.

    Args:
        objective: What is evaluated.
        snapshot: One like those to come.
        options: How to reach the cluster, and what to expect of it.

    Raises:
        WorkerError: If no node comes up, the environment raises, or nodes keep dying.
    """

    def __init__(self, objective: Objective, snapshot: Snapshot, options: RayEvaluator) -> None:
        self.attend: Callable[[], None] = nothing
        self._options = options
        # any number of nodes may be lost, as long as no task is what takes them down
        retries = options.tolerance.max_retries + _CHANCES - 1
        tolerance = dataclasses.replace(options.tolerance, max_retries=retries, max_restarts=sys.maxsize)
        self._ledger: Ledger[Node] = Ledger(tolerance, objective.task_name, _CHANCES)
        self._payload = dumps(objective)
        self._nodes: list[Node] = []
        self._starting: list[Node] = []
        self._refused: set[str] = set()
        join(options)  # before the clock of `node_timeout` starts
        self._number, self._most = 0, 0
        self._looked, self._manned, self._away = 0.0, time.monotonic(), time.monotonic()
        self._restarts_gone = 0  # of nodes that left
        self._last = ""  # why a node is not there
        self._post(snapshot)
        try:
            self._look()
            while self._starting or not self._nodes:
                for _ in self._wait():
                    pass
        except BaseException:
            self.close()
            raise

    @property
    def restarts(self) -> int:
        """How many nodes, and workers of nodes, were replaced so far."""
        return self._ledger.restarts + self._restarts_gone + sum(node.restarts for node in self._nodes)

    @property
    def metrics(self) -> dict[str, float]:
        """See `Evaluator.metrics`."""
        workers = sum(node.greeting.num_workers for node in self._nodes if node.greeting)
        there = {"cluster/nodes": float(len(self._nodes)), "cluster/workers": float(workers)}
        played = {"cluster/tasks_in_flight": float(self._most)}
        return {**there, **played, **({"es/worker_restarts": float(self.restarts)} if self.restarts else {})}

    def evaluate(self, snapshot: Snapshot, next_tasks: NextTasks) -> Iterator[EpisodeResult]:
        """See `Evaluator.evaluate`."""
        self._post(snapshot)
        size = 2 * len(snapshot.statistics[0]) if snapshot.statistics else 0
        self._ledger.begin()
        self._most = 0
        while True:
            for node, tasks in self._ledger.assign(self._nodes, next_tasks):
                node.give(tasks)
            if self._ledger.over:
                return
            self._most = max(self._most, sum(len(self._ledger.held(node)) for node in self._nodes))
            for node in self._nodes:
                node.exchange(self._number, self._parcel, busy=bool(self._ledger.held(node)))
            for node, answer in self._wait():
                yield from self._results(node, answer, size)
            yield from self._ledger.given_up()
            self.attend()

    def noise_sum(self, noise: Noisy, linear: Float64Array, squared: Float64Array | None = None) -> Tensor:
        """See `Evaluator.noise_sum`; the nodes share its parts."""
        parts = sum_parts(noise.dim, len(linear))
        if len(parts) == 1 or not self._nodes:
            return serial_sum(noise, linear, squared)
        if noise is not self._snapshot.perturbation:
            self._post(self._snapshot._replace(perturbation=noise))
        shares = {node: parts[i :: len(self._nodes)] for i, node in enumerate(self._nodes)}
        calls = {
            node: node.compute(self._number, self._parcel, share, linear, squared)
            for node, share in shares.items() if share
        }  # fmt: skip
        sums = torch.empty(len(chunks(noise.dim, len(linear))), 1 if squared is None else 2, noise.dim)
        whole, deadline = True, time.monotonic() + self._options.silence
        for node, call in calls.items():
            try:
                computed = ray.get(call, timeout=max(deadline - time.monotonic(), 0.0))
            except ray.exceptions.RayTaskError:
                raise
            except ray.exceptions.RayError as error:
                self._lose(node, f"was lost in an update ({type(error).__name__})")
                computed = None
            whole = whole and computed is not None
            for (chunk, block), part in zip(shares[node], computed or (), strict=whole):
                np.copyto(columns(sums[chunk], block).numpy(), part)
        return add_chunks(sums) if whole else serial_sum(noise, linear, squared)

    def close(self) -> None:
        """End all workers of all nodes; the connection to the cluster stays, as Ray's own functions leave it."""
        nodes = [*self._nodes, *self._starting]
        self._nodes, self._starting = [], []
        if ray.is_initialized():
            with contextlib.suppress(Exception):  # as of a Ray that was shut down and begun again
                stopping = [node.stop() for node in nodes if node.greeting]
                ray.wait(stopping, num_returns=len(stopping), timeout=self._options.tolerance.stop_timeout)
            for node in nodes:
                with contextlib.suppress(Exception):
                    node.kill()

    def _post(self, snapshot: Snapshot) -> None:
        if not ray.is_initialized():  # `ray.put` would begin another one
            raise WorkerError("Ray was shut down while its nodes were in use; call `close()` before `ray.shutdown()`.")
        self._number += 1
        self._snapshot = snapshot
        parcel = posted(self._number, snapshot)
        self._checksum = parcel.checksum
        self._parcel = ray.put(parcel)

    def _wait(self) -> Iterator[tuple[Node, Answer]]:
        """Yield what nodes answered, and notice those that joined or were lost, for a second at most."""
        pause = time.monotonic() - self._away
        for node in (*self._nodes, *self._starting):
            node.excuse(pause)  # in which it could not be heard
        self._look()
        calls = {node.call: node for node in (*self._nodes, *self._starting) if node.call is not None}
        if calls:
            ready, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0)
            ready = ready or ray.wait(list(calls), num_returns=1, timeout=_LOOK)[0]
        else:
            ready = []
            time.sleep(_LOOK / 10)
        for node in [calls[call] for call in ready]:
            try:
                answer = node.answer()
            except LostError as error:
                self._lose(node, str(error))
                continue
            if isinstance(answer, Answer):
                yield node, answer
            elif isinstance(answer, Greeting):
                self._welcome(node, answer)
            elif node in self._starting and (self._nodes or len(self._starting) > 1):
                self._refuse(node, f"is not used, since its workers do not start: {answer.message}")
            else:
                raise answer.error(node)
        for node in [*self._nodes, *self._starting]:
            # workers that do not come up are named by their node, which counts from when it is up itself
            allowed = self._options.silence if node.greeting else 2 * self._options.tolerance.start_timeout
            if node.silence() > allowed:
                self._lose(node, f"did not answer for {allowed:g} s")
        self._away = time.monotonic()

    def _results(self, node: Node, answer: Answer, size: int) -> Iterator[EpisodeResult]:
        """Yield the results of an answer."""
        for warning in answer.warnings:
            _log.warning("%s: %s", node, warning)
        if answer.checksum != self._checksum:
            self._lose(node, "holds other parameters than were sent")
            return
        node.note(answer)
        for result, score in zip(unpack_results(answer.results, size), answer.scores, strict=True):
            if self._ledger.done(node, result.task):
                yield result if score is None else result._replace(score=torch.from_numpy(score.copy()))

    def _look(self) -> None:
        """Start workers on nodes that joined; stop if there has been no node for too long."""
        now = time.monotonic()
        allowed = self._options.node_timeout + (2 * self._options.tolerance.start_timeout if self._starting else 0.0)
        if self._nodes:
            self._manned = now
        elif now - self._manned > allowed:
            raise WorkerError(
                f"The cluster had no node with workers for {self._options.node_timeout:g} s (`node_timeout`); the last "
                f"whole generation is saved, and the run continues from it with `resume`. {self._last}".rstrip()
            )
        if now - self._looked < _LOOK:
            return
        self._looked = now
        known = {node.id for node in (*self._nodes, *self._starting)} | self._refused
        for info, num_workers in living(self._options.num_workers):
            if info["NodeID"] not in known:
                node = Node(info, num_workers, self._payload, self._parcel, self._options.tolerance, sys.path)
                self._starting.append(node)

    def _welcome(self, node: Node, greeting: Greeting) -> None:
        """Use a node from now on, if it computes as this machine does."""
        if greeting.arithmetic != arithmetic():
            differs = f"its {greeting.processor} rounds differently from this machine's {processor()}"
            if self._options.other_processors == "refuse":
                self._refuse(node, f"is not used: {differs}")
                return
            _log.warning("%s: %s, so the run's bits depend on who plays what.", node, differs)
        self._starting.remove(node)
        node.greeted(greeting)
        self._nodes.append(node)
        _log.info("%s joined with %d workers.", node, greeting.num_workers)

    def _refuse(self, node: Node, why: str) -> None:
        """Do without a node for the rest of the run."""
        _log.warning("%s %s", node, why)
        self._last = f"{node} {why}"
        self._starting.remove(node)
        self._refused.add(node.id)
        node.kill()

    def _lose(self, node: Node, reason: str) -> None:
        """Go on without a node; its tasks run elsewhere with the same seeds."""
        node.kill()
        self._last = f"{node} {reason}"
        if node in self._starting:
            self._starting.remove(node)
            _log.warning("%s %s while its workers started.", node, reason)
            return
        self._nodes.remove(node)
        self._restarts_gone += node.restarts
        named = self._ledger.lose(node, reason, "")
        _log.warning("%s %s; nodes that remain: %d. Its tasks run again: %s.", node, reason, len(self._nodes), named)
