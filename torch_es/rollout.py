"""Playing tasks: a batch of perturbed policies stepping a batch of environments, refilled as episodes end."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from torch_es.envs import BareEnv, EnvFactory, bare
from torch_es.episodes import EpisodeRules
from torch_es.nn import normalize
from torch_es.noise import Noise
from torch_es.parameters import FlatParameters
from torch_es.policies import ActionNoise, Policy, default_num_lanes, make_lanes, unbatched
from torch_es.policies.score import Scorer
from torch_es.seeding import derive
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
        self._theta = torch.empty(0)

    def begin(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._drawn = None
        if self._theta.dtype != snapshot.theta.dtype or not len(self._theta):
            self._theta = torch.empty_like(snapshot.theta)

    def theta(self, task: Task) -> torch.Tensor:
        """Return the member's weights, in a buffer that the next call writes over."""
        snapshot = self._snapshot
        if task.sign == 0:
            return snapshot.theta
        if self._drawn != task[:2]:  # the other half of the pair most often comes next
            self.noise.fill(self._eps, task.generation, task.pair)
            self._drawn = task[:2]
        return perturbed(snapshot.theta, snapshot.sigma, task.sign, torch.from_numpy(self._eps), out=self._theta)


class _Normalizer:
    """`normalize` for the lanes, in place, and the sums of what each lane has seen.

    Arrays of a few hundred numbers cost their allocations and Python calls, so there are as few as can be.
    """

    def __init__(self, num_lanes: int, size: int, limit: Float64Array) -> None:
        self._limit, self._lowest = limit, -limit
        self.sums = np.zeros((num_lanes, 2 * size))
        self._first, self._second = self.sums[:, :size], self.sums[:, size:]
        self._x, self._square = np.empty((num_lanes, size)), np.empty((num_lanes, size))
        self._frozen: tuple[Float64Array, Float64Array] | None = None

    def begin(self, snapshot: Snapshot) -> None:
        assert snapshot.mean is not None
        assert snapshot.std is not None
        self._frozen = snapshot.mean, snapshot.std

    def __call__(self, observations: Float64Array) -> Float64Array:
        assert self._frozen is not None
        mean, std = self._frozen
        x = np.subtract(observations, mean, out=self._x)
        self._first += x
        self._second += np.multiply(x, x, out=self._square)
        np.divide(x, std, out=x)
        np.minimum(x, self._limit, out=x)
        return np.maximum(x, self._lowest, out=x)


class _Draws:
    """The random numbers of each lane's action noise; zeros, which are no noise, for the centre."""

    def __init__(self, noise: ActionNoise, num_lanes: int, seed: int) -> None:
        self._noise, self._seed = noise, seed
        self._generators: list[np.random.Generator | None] = [None] * num_lanes
        self.rows = np.zeros((num_lanes, noise.size), np.float32)

    def start(self, lane: int, task: Task) -> None:
        """Begin the stream of the task's episode, its own also within a pair."""
        self.rows[lane] = 0.0
        words = derive("action", self._seed, *task, size=16)
        stream = np.random.Generator(np.random.SFC64(int.from_bytes(words, "little")))
        self._generators[lane] = stream if task.sign else None

    def act(self, outputs: Float32Array, active: Sequence[int]) -> Any:
        """Return the next actions."""
        for lane in active:
            if (generator := self._generators[lane]) is not None:
                self.rows[lane] = self._noise.draw(generator)
        return self._noise(outputs, self.rows)


class _Trail:
    """What each lane's network saw and which draws its actions took, from which the score of its episode follows."""

    def __init__(self, policy: Policy, num_lanes: int) -> None:
        assert policy.action_noise is not None
        self.scorer = Scorer(policy.network, policy.layout, policy.action_noise)
        self._steps: list[list[tuple[Float32Array, Float32Array]]] = [[] for _ in range(num_lanes)]

    def start(self, lane: int) -> None:
        """Begin an episode."""
        self._steps[lane] = []

    def keep(self, active: Sequence[int], inputs: Float32Array, draws: Float32Array) -> None:
        """Take a step of the active lanes."""
        for lane in active:
            self._steps[lane].append((inputs[lane].copy(), draws[lane].copy()))

    def score(self, lane: int) -> torch.Tensor:
        """Return the score of the lane's episode."""
        inputs, draws = (np.stack(column) for column in zip(*self._steps[lane], strict=True))
        return self.scorer.score(inputs, draws)


class Rollout:
    """The lanes: all act in one batched forward, and a lane whose episode ends takes the next task at once.

    Args:
        policy: Gives network, head and whether observations are normalised.
        factory: Makes an environment; one for each lane.
        seed: The run's seed.
        num_lanes: By default as many as stay in cache.
        rules: Of the episodes.
    """

    def __init__(
        self,
        policy: Policy,
        factory: EnvFactory,
        seed: int,
        num_lanes: int | None = None,
        rules: EpisodeRules = EpisodeRules(),
    ) -> None:
        dim = FlatParameters(policy.network).dim
        self.num_lanes = num_lanes or default_num_lanes(dim)
        self.seed = seed
        self._members = _Members(seed, dim)
        self.noise = self._members.noise
        self._policy = policy
        self._row = policy.layout.row
        self._lanes = make_lanes(policy.network, self.num_lanes, policy.layout, self._reference())
        self._draws = _Draws(policy.action_noise, self.num_lanes, seed) if policy.action_noise else None
        self._trail: _Trail | None = None
        self._envs: list[BareEnv] = [bare(factory()) for _ in range(self.num_lanes)]
        self._rules = rules
        self._cap: int | None = None  # of the members' episodes
        shape, norm = (self.num_lanes, policy.layout.size), policy.observation_norm
        self._normalizer = None if norm is None else _Normalizer(*shape, norm.limit)
        self._inputs = np.zeros(shape, np.float32)
        self._observations: Any = self._inputs if norm is None else np.zeros(shape)
        self._tasks: list[Task | None] = [None] * self.num_lanes
        self._returns = [0.0] * self.num_lanes
        self._steps = [env.env.step for env in self._envs]
        self._clock = 0  # steps of the lanes together: a lane's length follows from when it started
        self._started, self._ends = [0] * self.num_lanes, [0] * self.num_lanes
        self._flat = isinstance(policy.layout.space, gym.spaces.Box) and len(policy.layout.space.shape) == 1
        self._waiting: deque[Task] = deque()
        self._active: list[int] = []
        self._begun = False

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        return len(self._active) + len(self._waiting)

    def begin(self, snapshot: Snapshot) -> None:
        """Play what follows with this snapshot."""
        self._begun = True
        self._members.begin(snapshot)
        self._cap = snapshot.max_steps
        if self._normalizer is not None:
            self._normalizer.begin(snapshot)
            reference = self._reference(snapshot)
            if reference is not None:
                self._lanes.refer(reference)
        if isinstance(snapshot.sigma, float) and snapshot.sigma == 0.0 and self._trail is None:
            self._trail = _Trail(self._policy, self.num_lanes)
        if self._trail is not None:
            self._trail.scorer.begin(snapshot.theta)

    def _reference(self, snapshot: Snapshot | None = None) -> Float32Array | None:
        """Return virtual batch norm's reference batch as the networks see it under the snapshot's statistics."""
        if self._policy.reference is None:
            return None
        rows = self._policy.reference.numpy()
        if snapshot is not None and self._policy.observation_norm is not None:
            assert snapshot.mean is not None
            assert snapshot.std is not None
            rows = normalize(rows, snapshot.mean, snapshot.std, self._policy.observation_norm.limit)
        return rows.astype(np.float32)

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
        if not self._begun:
            raise RuntimeError("begin() must be called before submit().")
        self._lanes.write(lane, self._members.theta(task))
        observation, _ = self._envs[lane].env.reset(seed=self._rules.environment_seed(self.seed, task))
        self._observations[lane] = self._row(observation)
        if self._normalizer is not None:
            self._normalizer.sums[lane] = 0.0
        if self._draws is not None:
            self._draws.start(lane, task)
        if self._trail is not None:
            self._trail.start(lane)
        self._tasks[lane] = task
        limits = (self._envs[lane].max_steps, self._rules.fixed_cap, self._cap if task.sign else None)
        self._returns[lane], self._started[lane] = 0.0, self._clock
        self._ends[lane] = self._clock + min((limit for limit in limits if limit is not None), default=2**62)
        self._active = sorted([*self._active, lane])

    @torch.inference_mode()
    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """See `Player.advance`."""
        observations, returns, ends, steps = self._observations, self._returns, self._ends, self._steps
        results: list[EpisodeResult] = []
        while self._active and not results:
            actions = self._act()
            self._clock = clock = self._clock + 1
            for lane in self._active:
                observation, reward, terminated, truncated, _ = steps[lane](actions[lane])
                observations[lane] = observation if self._flat else self._row(observation)
                returns[lane] += float(reward)
                if terminated or truncated or ends[lane] <= clock:
                    results.append(self._finish(lane, bool(terminated)))
            if len(self._active) < self.num_lanes and interrupt():
                break
        if results:
            self._active = [lane for lane in self._active if self._tasks[lane] is not None]
            self._fill()
        return results

    def _act(self) -> Any:
        """Normalise, count what is seen, and let every lane act."""
        if self._normalizer is not None:
            np.copyto(self._inputs, self._normalizer(self._observations), casting="same_kind")
        outputs = self._lanes.forward(self._inputs, self._active)
        if self._draws is None:
            return unbatched(self._policy.head(outputs), self.num_lanes)
        actions = self._draws.act(outputs, self._active)
        if self._trail is not None:
            self._trail.keep(self._active, self._inputs, self._draws.rows)
        return unbatched(actions, self.num_lanes)

    def _finish(self, lane: int, terminated: bool) -> EpisodeResult:
        task = self._tasks[lane]
        assert task is not None
        self._tasks[lane] = None
        seen = self._normalizer.sums[lane].copy() if self._normalizer is not None and task.sign else None
        score = self._trail.score(lane) if self._trail is not None and task.sign else None
        length = self._clock - self._started[lane]
        return EpisodeResult(task, float(self._returns[lane]), length, not terminated, seen, score)

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
        self._begun = False

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        return len(self._waiting)

    def begin(self, snapshot: Snapshot) -> None:
        """Evaluate what follows with this snapshot."""
        self._begun = True
        self._members.begin(snapshot)

    def submit(self, task: Task) -> None:
        """Take a task."""
        self._waiting.append(task)

    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """Evaluate one member."""
        if not self._begun:
            raise RuntimeError("begin() must be called before advance().")
        task = self._waiting.popleft()
        self._parameters.write(self._members.theta(task))
        for name, buffer in self._module.named_buffers():
            buffer.copy_(self._buffers[name])
        with torch.no_grad():
            return [EpisodeResult(task, float(self._fitness_fn(self._module)), 1, False, None)]

    def close(self) -> None:
        """Nothing to let go of."""
