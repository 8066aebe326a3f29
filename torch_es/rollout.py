"""Playing tasks: a batch of perturbed policies stepping a batch of environments, refilled as episodes end."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from torch_es.envs import BareEnv, EnvFactory, bare
from torch_es.nn import normalize
from torch_es.noise import Noise
from torch_es.parameters import FlatParameters
from torch_es.policies import Policy, default_num_lanes, make_lanes
from torch_es.seeding import Purpose, derive_seed
from torch_es.strategy import perturbed
from torch_es.types import EpisodeResult, Float32Array, Float64Array, Snapshot, Task


class Player(Protocol):
    """Plays tasks one after another or many at once, in the process it stands in."""

    noise: Noise
    num_lanes: int

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        ...

    def begin(self, snapshot: Snapshot) -> None:
        """Play what follows with this snapshot."""
        ...

    def submit(self, task: Task) -> None:
        """Take a task; it starts when a lane is free."""
        ...

    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """Play until at least one task is done, or `interrupt()` while a lane is free; return what is done."""
        ...

    def close(self) -> None:
        """Let go of the environments."""
        ...


class _Members:
    """Weights of the members of the current snapshot."""

    def __init__(self, seed: int, dim: int) -> None:
        self.noise = Noise(seed, dim)
        self._eps = np.empty(dim, np.float32)
        self._drawn: tuple[int, int] | None = None

    def theta(self, snapshot: Snapshot, task: Task) -> torch.Tensor:
        if task.sign == 0:
            return snapshot.theta
        if self._drawn != task[:2]:  # the other half of the pair most often comes next
            self.noise.fill(self._eps, task.generation, task.pair)
            self._drawn = task[:2]
        return perturbed(snapshot.theta, snapshot.sigma, task.sign, torch.from_numpy(self._eps))


def environment_seed(seed: int, task: Task) -> int:
    """Return the seed of the task's environment: shared by a pair, so that its two returns differ by the sign alone.

    Example:
        >>> environment_seed(0, Task(3, 1, +1)) == environment_seed(0, Task(3, 1, -1))
        True
    """
    purpose: Purpose = "evaluation" if task.sign == 0 else "environment"
    return derive_seed(purpose, seed, task.generation, task.pair, task.episode)


class Rollout:
    """The lanes: all act in one batched forward, and a lane whose episode ends takes the next task at once.

    Args:
        policy: Gives network, head and whether observations are normalised.
        factory: Makes an environment; one for each lane.
        seed: The run's seed.
        num_lanes: By default as many as stay in cache.
        max_steps: Cap of an episode's length, besides the environment's own.
    """

    def __init__(
        self, policy: Policy, factory: EnvFactory, seed: int, num_lanes: int | None = None, max_steps: int | None = None
    ) -> None:
        dim = FlatParameters(policy.network).dim
        self.num_lanes = num_lanes or default_num_lanes(dim)
        self.seed = seed
        self._members = _Members(seed, dim)
        self.noise = self._members.noise
        self._shape = policy.observation_shape
        self._lanes = make_lanes(policy.network, self.num_lanes, self._shape)
        self._head = policy.head
        self._limit = policy.observation_norm.limit if policy.observation_norm is not None else None
        self._envs: list[BareEnv] = [bare(factory()) for _ in range(self.num_lanes)]
        limits = [limit for limit in (self._envs[0].max_steps, max_steps) if limit is not None]
        self._max_steps = min(limits, default=2**62)
        size = int(np.prod(self._shape))
        self._observations = np.zeros((self.num_lanes, size))
        self._sums = np.zeros((self.num_lanes, 2 * size))
        self._tasks: list[Task | None] = [None] * self.num_lanes
        self._returns = [0.0] * self.num_lanes
        self._lengths = [0] * self.num_lanes
        self._waiting: deque[Task] = deque()
        self._active: list[int] = []
        self._snapshot: Snapshot | None = None

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        return len(self._active) + len(self._waiting)

    def begin(self, snapshot: Snapshot) -> None:
        """Play what follows with this snapshot."""
        self._snapshot = snapshot
        self._members._drawn = None

    def submit(self, task: Task) -> None:
        """Take a task; it starts when a lane is free."""
        self._waiting.append(task)
        self._fill()

    def _fill(self) -> None:
        for lane in range(self.num_lanes):
            if not self._waiting:
                return
            if self._tasks[lane] is None:
                self._start(lane, self._waiting.popleft())

    def _start(self, lane: int, task: Task) -> None:
        if self._snapshot is None:
            raise RuntimeError("begin() must be called before submit().")
        self._lanes.write(lane, self._members.theta(self._snapshot, task))
        observation, _ = self._envs[lane].env.reset(seed=environment_seed(self.seed, task))
        self._observations[lane] = np.ravel(observation)
        self._sums[lane] = 0.0
        self._tasks[lane] = task
        self._returns[lane], self._lengths[lane] = 0.0, 0
        self._active = sorted([*self._active, lane])

    @torch.inference_mode()
    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """See `Player.advance`."""
        steps = [env.env.step for env in self._envs]
        observations, returns, lengths = self._observations, self._returns, self._lengths
        max_steps, act = self._max_steps, self._act
        results: list[EpisodeResult] = []
        while self._active and not results:
            actions = act()
            for lane in self._active:
                observation, reward, terminated, truncated, _ = steps[lane](actions[lane])
                observations[lane] = observation if observation.ndim == 1 else observation.ravel()
                returns[lane] += float(reward)
                lengths[lane] += 1
                if terminated or truncated or lengths[lane] >= max_steps:
                    results.append(self._finish(lane, bool(terminated)))
            if len(self._active) < self.num_lanes and interrupt():
                break
        if results:
            self._active = [lane for lane in self._active if self._tasks[lane] is not None]
            self._fill()
        return results

    def _act(self) -> Any:
        """Normalise, count what is seen, and let every lane act."""
        x, snapshot = self._observations, self._snapshot
        if self._limit is not None and snapshot is not None and snapshot.mean is not None and snapshot.std is not None:
            size = x.shape[1]
            centred = x - snapshot.mean
            self._sums[:, :size] += centred
            self._sums[:, size:] += centred * centred
            x = normalize(x, snapshot.mean, snapshot.std, self._limit)
        inputs: Float32Array = x.astype(np.float32).reshape(self.num_lanes, *self._shape)
        return self._head(self._lanes.forward(inputs, self._active))

    def _finish(self, lane: int, terminated: bool) -> EpisodeResult:
        task = self._tasks[lane]
        assert task is not None
        self._tasks[lane] = None
        seen: Float64Array | None = self._sums[lane].copy() if self._limit is not None and task.sign else None
        return EpisodeResult(task, float(self._returns[lane]), self._lengths[lane], not terminated, seen)

    def close(self) -> None:
        """Close the environments."""
        for env in self._envs:
            env.env.close()


class FunctionPlayer:
    """Evaluates `fitness_fn(module) -> float` in place of episodes, one member at a time.

    Args:
        module: A copy is perturbed and handed to the function, in eval mode.
        fitness_fn: Higher is better.
        seed: The run's seed.
    """

    num_lanes = 1

    def __init__(self, module: nn.Module, fitness_fn: Callable[[Any], float], seed: int) -> None:
        self._module = copy.deepcopy(module).eval()
        self._buffers = {n: b.detach().clone() for n, b in module.named_buffers()}
        self._parameters = FlatParameters(self._module)
        self._members = _Members(seed, self._parameters.dim)
        self.noise = self._members.noise
        self._fitness_fn = fitness_fn
        self._waiting: deque[Task] = deque()
        self._snapshot: Snapshot | None = None

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        return len(self._waiting)

    def begin(self, snapshot: Snapshot) -> None:
        """Evaluate what follows with this snapshot."""
        self._snapshot = snapshot
        self._members._drawn = None

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._waiting.append(task)

    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """Evaluate one member."""
        if self._snapshot is None:
            raise RuntimeError("begin() must be called before advance().")
        task = self._waiting.popleft()
        self._parameters.write(self._members.theta(self._snapshot, task))
        for name, buffer in self._module.named_buffers():
            buffer.copy_(self._buffers[name])
        with torch.no_grad():
            return [EpisodeResult(task, float(self._fitness_fn(self._module)), 1, False, None)]

    def close(self) -> None:
        """Nothing to let go of."""
