"""Objectives: what is evaluated, an environment's episodes or a function of the module."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import gymnasium as gym
from torch import nn

from torch_es.checks import check_count, check_kind, differences
from torch_es.envs import EnvFactory, EpisodeRules, frames_per_step, probed, repeats
from torch_es.lanes import LaneChoice, lanes_for
from torch_es.nn import ObservationNorm, batch_norms, find_norm, prepare
from torch_es.nn.buffers import digest
from torch_es.nn.placed import MakeModule
from torch_es.nn.prepare import prepared_parts
from torch_es.policies import Policy, reference_batch
from torch_es.rollout.batch_fitness import BatchFitness, within_prompts
from torch_es.rollout.episodes import Rollout
from torch_es.rollout.function_player import Fitness, FunctionPlayer, members_per_call
from torch_es.rollout.player import Behaviour, Player
from torch_es.rollout.score import Scorer
from torch_es.search.low_rank import LowRank, Part
from torch_es.search.perturbation import Perturbation, Unperturbed
from torch_es.seeding import derive_seed
from torch_es.types import CENTRE, Float64Array, Task

_log = logging.getLogger(__name__)


class Objective(Protocol):
    """What is evaluated. Picklable; `player` is called where the tasks are played.

    Attributes:
        module: What acts or answers, and is saved: the policy around the network, or the network itself.
        statistics: Observation statistics that each generation updates, or None.
        rules: Of the episodes.
        env_id: Id of the environment, or "" if there is none.
        frames_per_step: Steps of the simulator for which an action is repeated.
        members_per_call: How many members are evaluated together; their tasks should arrive together.
    """

    module: Any
    statistics: ObservationNorm | None
    rules: EpisodeRules
    env_id: str
    frames_per_step: int
    members_per_call: int

    @property
    def lanes(self) -> LaneChoice | None:
        """How the network is run, or None if a function runs it."""
        ...

    def player(self) -> Player:
        """Return a new player of this objective's tasks."""
        ...

    def fitness(self, returns: Float64Array, lengths: Any, behaviours: Float64Array | None) -> Float64Array:
        """Return what members are worth to the strategy, `(members,)`.

        Args:
            returns: `(members, episodes)`.
            lengths: In steps, `(members, episodes)`.
            behaviours: `(members, k)`, or None.
        """
        ...

    def task_name(self, task: Task) -> str:
        """Return a name for a task that helps to find it again."""
        ...

    def refresh(self) -> None:
        """Update what the module derives from its weights, after these have changed."""
        ...

    def act(self, *arguments: Any) -> tuple[Any, Any]:
        """Return the action for an observation and the next state; see `Policy.act`."""
        ...


class EnvObjective:
    """Episodes of an environment, played by a policy; `factory` is called once for each lane of each worker.

    `parts` say how noise of low rank perturbs the parameters, if that is what the members differ by.
    """

    members_per_call = 1

    def __init__(
        self,
        policy: Policy,
        factory: EnvFactory,
        seed: int,
        rules: EpisodeRules = EpisodeRules(),
        num_lanes: int | None = None,
        behaviour: Behaviour | None = None,
        parts: tuple[Part, ...] | None = None,
    ) -> None:
        check_kind("rules", rules, EpisodeRules)
        check_kind("behaviour", behaviour, Callable)
        self.module = policy
        self.statistics = policy.observation_norm
        self.factory = factory
        self.rules = rules
        self._num_lanes = None if num_lanes is None else check_count("num_lanes", num_lanes)
        self._seed, self._behaviour, self._parts = seed, behaviour, parts
        self.env_id, self.frames_per_step, self._repeats = "", 1, 1

    def enter(self, env: gym.Env[Any, Any], factory: EnvFactory) -> None:
        """Play in the environments of a factory, of which `env` is one."""
        self.factory = factory
        self.env_id, self.frames_per_step = env.spec.id if env.spec else "", frames_per_step(env)
        self._repeats = repeats(env)

    @cached_property
    def lanes(self) -> LaneChoice:
        """How the network is run; chosen in this process, for all others too."""
        return lanes_for(self.module, self._num_lanes, self._parts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "lanes": self.lanes}  # the choice travels

    def player(self) -> Player:
        """See `Objective.player`."""
        return Rollout(self.module, self.factory, self._seed, self._num_lanes, self.rules, self._behaviour, self.lanes)

    def fitness(self, returns: Float64Array, lengths: Any, behaviours: Float64Array | None) -> Float64Array:
        """See `Objective.fitness`."""
        return self.rules.fitness(returns, self._repeats * lengths)

    def task_name(self, task: Task) -> str:
        """Say which episode it is, and in which environment."""
        return self.rules.task_name(self._seed, task)

    def refresh(self) -> None:
        """Update what the network derives from its weights, as virtual batch norm does."""
        self.module.prepare()

    def act(self, *arguments: Any) -> tuple[Any, Any]:
        """See `Policy.act`."""
        return self.module.act(*arguments)


class FunctionObjective:
    """A function of the module in place of episodes: `fitness_fn(module) -> float`, higher is better.

    Args:
        network: The module.
        fitness_fn: The function, or a `BatchFitness`.
        perturbation: One like those to come.
        make: Makes the module where it is evaluated, in place of its travelling there.

    Raises:
        TypeError: If `fitness_fn` is no function.
        ValueError: If several members are to answer in one call without noise of low rank.
    """

    statistics: ObservationNorm | None = None
    rules = EpisodeRules()
    env_id, frames_per_step, lanes = "", 1, None

    def __init__(
        self, network: nn.Module, fitness_fn: Fitness, perturbation: Perturbation, make: MakeModule | None = None
    ) -> None:
        check_kind("fitness_fn", fitness_fn, Callable if not isinstance(fitness_fn, BatchFitness) else BatchFitness)
        if names := ", ".join(batch_norms(network)):
            _log.warning(
                "BatchNorm at %s: in eval mode all members share its statistics; see convert_batch_norm.", names
            )
        if (norm := find_norm(network)) is not None and not norm.count:
            _log.warning(
                "ObservationNorm has measured nothing, and with `fitness_fn` it never does: it only clips what it is "
                "given. Leave it out (`mlp(..., normalize_observations=False)`), or fill it with `update` beforehand."
            )
        self.module: Any = network
        self.fitness_fn, self._make = fitness_fn, make
        self._like: dict[str, str] = {}  # of the module where this comes from
        self._parts = perturbation.parts if isinstance(perturbation, LowRank) else None
        self.members_per_call = members_per_call(fitness_fn)
        if self.members_per_call > 1 and self._parts is None:
            raise ValueError(
                f"`members_per_call` must be 1 without noise of low rank, got {self.members_per_call}; give "
                "`rank=1`, by which members share the weights."
            )

    def __getstate__(self) -> dict[str, Any]:
        if self._make is None or self.module is None:
            return self.__dict__
        return {**self.__dict__, "module": None, "_like": _like(self.module)}

    def player(self) -> Player:
        """See `Objective.player`."""
        if self.module is None and self._make is not None:  # here, where the settings of the parent count
            self.module = self._make()
            if found := differences(self._like, _like(self.module)):
                raise ValueError(
                    f"`policy` must make the module that the trainer has, but in a worker it differs: {found}. Let it "
                    "make the same one each time, or give the module itself, which is then sent."
                )
        return FunctionPlayer(self.module, self.fitness_fn, self._parts)

    def fitness(self, returns: Float64Array, lengths: Any, behaviours: Float64Array | None) -> Float64Array:
        """See `Objective.fitness`."""
        compared = isinstance(self.fitness_fn, BatchFitness) and self.fitness_fn.within_prompts
        return within_prompts(behaviours) if compared and behaviours is not None else returns.mean(axis=1)

    def task_name(self, task: Task) -> str:
        """Say which member it is."""
        return f"generation {task.generation} {'centre' if task.member == CENTRE else f'member {task.member}'}"

    def refresh(self) -> None:
        """Update what the module derives from its weights; a virtual batch norm waits for the function's batch."""
        prepare(self.module)

    def act(self, *arguments: Any) -> tuple[Any, Any]:
        """Refuse: there are no actions.

        Raises:
            ValueError: Always.
        """
        raise ValueError("`predict` needs an environment; with `fitness_fn`, call the module itself.")


def check_no_episodes(given: dict[str, Any]) -> None:
    """Refuse arguments of `ES` that are about episodes, where `fitness_fn` takes their place.

    Raises:
        ValueError: If one is given.
    """
    unused = {"rules": EpisodeRules(), "box_head": "clip"}
    for name, value in given.items():
        if value != unused.get(name):
            raise ValueError(f"`{name}` must be left out with `fitness_fn`, which plays no episodes, got {value!r}.")


def _like(module: nn.Module) -> dict[str, str]:
    """Return what must be equal of two modules that are given the same trainable parameters."""
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    layers = {f"{name or 'policy'} (layer)": type(layer).__name__ for name, layer in module.named_modules()}
    return layers | {
        name: f"{list(x.shape)} of {x.dtype}" + ("" if x.requires_grad else f", digest {digest({name: x})}")
        for name, x in tensors.items()
    }


def in_environment(
    network: nn.Module,
    factory: EnvFactory,
    seed: int,
    acting: dict[str, Any],
    perturbation: Perturbation,
    rules: EpisodeRules,
    num_lanes: int | None,
    behaviour: Behaviour | None,
) -> EnvObjective:
    """Return the objective of playing an environment, with the network wrapped for its spaces.

    `acting` are arguments of `Policy`, the last three of `EnvObjective`; `perturbation` is like those to come. If the
    search is by actions alone, the network must be differentiable.
    """
    env = probed(factory)
    try:
        reference = reference_batch(env, derive_seed("reference", seed)) if prepared_parts(network) else None
        policy = Policy(network, env.observation_space, env.action_space, **acting, reference=reference)
        parts = perturbation.parts if isinstance(perturbation, LowRank) else None
        objective = EnvObjective(policy, factory, seed, rules, num_lanes, behaviour, parts)
        objective.enter(env, factory)
    finally:
        env.close()
    if isinstance(perturbation, Unperturbed) and policy.action_noise is not None:
        Scorer(network, policy.layout, policy.action_noise)  # says now what it could not score later
    return objective
