"""Playing episodes: a batch of perturbed policies steps a batch of environments, and is refilled as episodes end."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from torch_es.envs import EnvFactory, bare, check_form, check_observation, check_step, environments
from torch_es.envs.rules import EpisodeRules
from torch_es.heads import unbatched
from torch_es.lanes import LaneChoice, lanes_for
from torch_es.nn.observation_norm import normalize
from torch_es.policies import Policy
from torch_es.policies.recurrent import dtype_of
from torch_es.rollout.action_draws import Draws
from torch_es.rollout.normalizer import Normalizer
from torch_es.rollout.player import ROUNDS, Behaviour, Snapshot, as_numbers
from torch_es.rollout.score import Scorer
from torch_es.search.parameters import FlatParameters
from torch_es.types import CENTRE, EpisodeResult, Float32Array, Task


class Rollout:
    """The lanes: all act in one batched forward, and a lane whose episode ends takes the next task at once.

    Each lane has an environment of its own. By default, there are as many as fit into the cache, and their kind is
    chosen by trial.
    """

    def __init__(
        self,
        policy: Policy,
        factory: EnvFactory,
        seed: int,
        num_lanes: int | None = None,
        rules: EpisodeRules = EpisodeRules(),
        behaviour: Behaviour | None = None,
        lanes: LaneChoice | None = None,
    ) -> None:
        self._weights = FlatParameters(policy.network).read_masters()  # room for a member's weights
        self._choice = lanes or lanes_for(policy, num_lanes)
        self.num_lanes = num_lanes or self._choice.num_lanes(len(self._weights))
        self.seed = seed
        self._policy = policy
        self._row = policy.layout.row
        self._head = getattr(policy.head, "forward", policy.head)  # without the hooks of a module
        self._lanes = self._choice.make(policy.network, self.num_lanes, policy.layout, self._reference())
        self._draws = Draws(policy.action_noise, self.num_lanes, seed) if policy.action_noise else None
        self._open = contextlib.ExitStack()  # closes the others after one that raises
        with contextlib.ExitStack() as made:
            envs = [made.enter_context(contextlib.closing(env)) for env in environments(factory, self.num_lanes)]
            self._envs, self._time_limits = zip(*map(bare, envs), strict=True)
            self._open = made.pop_all()
        self._rules, self._behaviour = rules, behaviour
        shape, norm = (self.num_lanes, policy.layout.size), policy.observation_norm
        self._normalizer = None if norm is None else Normalizer(*shape, norm.limits)
        wide = dtype_of(policy.network) is torch.float64
        self._inputs: Any = np.zeros(shape, np.float64 if wide else np.float32)
        self._observations: Any = self._inputs if norm is None else np.zeros(shape)
        self._tasks: list[Task | None] = [None] * self.num_lanes
        self._returns = [0.0] * self.num_lanes
        self._steps = [env.step for env in self._envs]
        self._clock = 0  # steps of all lanes together; an episode's length follows from when it started
        self._started, self._ends = [0] * self.num_lanes, [0] * self.num_lanes
        self._flat = isinstance(policy.layout.space, gym.spaces.Box) and len(policy.layout.space.shape) == 1
        self._waiting: deque[Task] = deque()
        self._active: list[int] = []
        self._snapshot: Snapshot | None = None

    @property
    def steps(self) -> int:
        """See `Player.steps`."""
        return self._clock

    @property
    def outstanding(self) -> int:
        """How many submitted tasks have no result yet."""
        return len(self._active) + len(self._waiting)

    def begin(self, snapshot: Snapshot) -> None:
        """Play what follows with this snapshot."""
        self._snapshot = snapshot.own()
        if self._normalizer is not None and snapshot.statistics is not None:
            self._normalizer.begin(snapshot.statistics)
        self._lanes.begin(self._reference(snapshot), snapshot.statistics)
        draws = self._draws
        if snapshot.searches_actions and draws is not None:
            if draws.scorer is None:
                draws.scorer = Scorer(
                    self._choice.network(self._policy.network), self._policy.layout, draws.noise,
                    together=self._choice.kind != "copied",
                )  # fmt: skip
            draws.scorer.begin(snapshot.theta, snapshot.statistics)

    def _reference(self, snapshot: Snapshot | None = None) -> Float32Array | None:
        """Return the reference batch as the lanes take it under the snapshot's statistics."""
        if self._policy.reference is None:
            return None
        rows = self._policy.reference.numpy()
        norm, scale = self._policy.observation_norm, None if snapshot is None else snapshot.statistics
        if scale is not None and norm is not None and self._choice.normalized:
            rows = normalize(rows, scale, norm.limits)
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
        if self._snapshot is None:
            raise RuntimeError("begin() must be called before submit().")
        shares = self._choice.parts is not None
        snapshot = self._snapshot
        own = snapshot.factors(task.member) if shares else snapshot.weights(task.member, self._weights)
        self._lanes.write(lane, own)
        answer: Any = self._envs[lane].reset(seed=self._rules.environment_seed(self.seed, task))
        check_form(self._envs[lane], "reset", answer)
        observation = answer[0]
        check_observation(self._envs[lane], self._policy.layout.space, observation)
        self._observations[lane] = self._row(observation)
        if self._normalizer is not None:
            self._normalizer.sums[lane] = 0.0
        if self._draws is not None:
            self._draws.start(lane, task)
        self._tasks[lane] = task
        limits = (
            self._time_limits[lane],
            self._rules.fixed_cap,
            None if task.member == CENTRE else self._snapshot.max_steps,
        )
        self._returns[lane], self._started[lane] = 0.0, self._clock  # F45
        self._ends[lane] = self._clock + min((limit for limit in limits if limit is not None), default=2**62)
        self._active = sorted([*self._active, lane])

    @torch.inference_mode()
    def advance(self, interrupt: Callable[[], bool] = lambda: False) -> list[EpisodeResult]:
        """See `Player.advance`."""
        observations, returns, ends, steps = self._observations, self._returns, self._ends, self._steps
        space = self._policy.layout.space
        shape, dtype = space.shape, space.dtype  # None of a Dict or Tuple, which is compared part by part
        results: list[EpisodeResult] = []
        for _ in range(ROUNDS if self._active else 0):
            actions = self._act()
            self._clock = clock = self._clock + 1
            for lane in self._active:
                answer = steps[lane](actions[lane])
                try:
                    observation, reward, terminated, truncated, info = answer
                    if getattr(observation, "dtype", 0) is not dtype or observation.shape != shape:
                        check_observation(self._envs[lane], space, observation, "step")
                    observations[lane] = observation if self._flat else self._row(observation)
                    returns[lane] += float(reward)
                    over = terminated or truncated or ends[lane] <= clock  # F46
                except Exception:
                    check_step(self._envs[lane], answer)  # it says what is wrong with it
                    raise
                if over:
                    results.append(self._finish(lane, bool(terminated), observation, info))
            if results or (len(self._active) < self.num_lanes and interrupt()):
                break
        if results:
            self._active = [lane for lane in self._active if self._tasks[lane] is not None]
            self._fill()
        return results

    def _act(self) -> Any:
        """Normalise, count what is seen, and let every lane act."""
        if self._normalizer is not None:
            normalized = self._normalizer(self._observations)
            given = normalized if self._choice.normalized else self._observations
            np.copyto(self._inputs, given, casting="same_kind")
        outputs = self._lanes.forward(self._inputs, self._active)
        if self._draws is None:
            return unbatched(self._head(outputs), self.num_lanes)
        return unbatched(self._draws.act(self._inputs, outputs, self._active), self.num_lanes)

    def _finish(self, lane: int, terminated: bool, observation: Any, info: dict[str, Any]) -> EpisodeResult:
        task = self._tasks[lane]
        assert task is not None
        self._tasks[lane] = None
        member = task.member != CENTRE
        seen = self._normalizer.sums[lane].copy() if self._normalizer is not None and member else None
        score = None if self._draws is None else self._draws.score(lane)
        how = None if self._behaviour is None else as_numbers(self._behaviour(observation, info))
        length = self._clock - self._started[lane]
        return EpisodeResult(task, float(self._returns[lane]), length, not terminated, seen, score, how)

    def close(self) -> None:
        """Close the environments."""
        self._open.close()
