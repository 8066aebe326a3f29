"""`ES`: learn, predict, save, load; what a Stable-Baselines3 user swaps in for a trainer."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_es import checkpoint
from torch_es.checks import check_choice, check_count, check_positive
from torch_es.envs import Env, EnvFactory, env_factory, random_observations
from torch_es.episodes import EpisodeRules
from torch_es.evaluators import Board, Evaluator, ProcessEvaluator, SerialEvaluator
from torch_es.loggers import Logger
from torch_es.nn import virtual_batch_norms
from torch_es.parameters import FlatParameters
from torch_es.policies import Layout, Policy
from torch_es.progress import ProgressLogger
from torch_es.rollout import FunctionPlayer, Rollout
from torch_es.seeding import derive, derive_seed
from torch_es.strategy import STRATEGIES, Strategy
from torch_es.trainer import Quota, Trainer
from torch_es.types import EpisodeResult

REFERENCE_SIZE = 128  # frames, as in the re-implementation that published them (uber-research/deep-neuroevolution)

Callback = Callable[[dict[str, float]], bool | None]


class ES:
    """Evolves any module, in place.

    Args:
        policy: The network to evolve, called with a batch of observations; its weights are the start.
        env: A Gymnasium id, or a function that makes an environment. Give this or `fitness_fn`.
        fitness_fn: `fitness_fn(module) -> float`, higher is better.
        strategy: One of openai_es, pgpe, snes, ars.
        normalize_observations: Whether the policy normalises by running statistics.
        box_head: How outputs become actions of a Box: clip, tanh, gaussian, uniform:N or custom:V1,V2,...; see
            `torch_es.policies.make_head`.
        action_noise: Noise on the actions of training: gaussian:STD, epsilon:P or sample; see
            `torch_es.policies.make_action_noise`.
        num_workers: Processes; one for each core by default; 0 plays everything in this process.
        num_lanes: Perturbed policies side by side in a worker; as many as stay in cache by default.
        rules: How long episodes may be, in which world they are played, what they are worth; see `EpisodeRules`.
        min_episodes: A generation plays on until it has so many episodes,
        min_timesteps: and so many environment steps.
        eval_every: Evaluate the centre every so many generations; 0 is never.
        eval_episodes: Noise-free episodes of such an evaluation.
        seed: Everything random follows from it.
        strategy_options: For the strategy: optimizer, sigma, num_pairs, shaping, ...; see `torch_es.strategy`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of its range, or the policy does not fit the environment.

    Example:
        >>> policy = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
        >>> with ES(policy, "CartPole-v1", sigma=0.1, num_pairs=4, num_workers=0) as es:
        ...     action, _ = es.learn(total_timesteps=200).predict(np.zeros(4))
        >>> action.shape
        ()
    """

    def __init__(
        self,
        policy: nn.Module,
        env: str | EnvFactory | None = None,
        *,
        fitness_fn: Callable[[Any], float] | None = None,
        strategy: str = "openai_es",
        normalize_observations: bool = True,
        box_head: str = "clip",
        action_noise: str | None = None,
        num_workers: int | None = None,
        num_lanes: int | None = None,
        rules: EpisodeRules = EpisodeRules(),
        min_episodes: int = 0,
        min_timesteps: int = 0,
        eval_every: int = 10,
        eval_episodes: int = 4,
        seed: int = 0,
        **strategy_options: Any,
    ) -> None:
        if (env is None) == (fitness_fn is None):
            raise ValueError("Give `env` or `fitness_fn`: one of them, not both.")
        if not isinstance(policy, nn.Module):
            raise TypeError(f"`policy` must be a torch.nn.Module, got {type(policy).__name__}.")
        self.network = policy
        self.strategy: Strategy = _make_strategy(strategy, policy, {**strategy_options, "seed": seed})
        self.seed = self.strategy.centre.seed
        self.num_workers = num_workers if num_workers is None else check_count("num_workers", num_workers, minimum=0)
        acting = {"normalize_observations": normalize_observations, "box_head": box_head, "action_noise": action_noise}
        self.policy: Policy | None = None
        self.fitness_fn = fitness_fn
        if num_lanes is not None:
            check_count("num_lanes", num_lanes)
        if env is not None:
            self._factory = env_factory(env)
            self.policy = self._wrap(policy, acting)
        self._player_options = {"num_lanes": num_lanes, "rules": rules}
        quota = Quota(
            self.strategy.centre.num_pairs,
            check_count("min_episodes", min_episodes, minimum=0),
            check_count("min_timesteps", min_timesteps, minimum=0),
        )
        self._evaluator: Evaluator | None = None
        norm = self.policy.observation_norm if self.policy else None
        self.trainer = Trainer(self.strategy, norm, quota, eval_every, eval_episodes, rules)
        self._described = {
            "env": env if isinstance(env, str) else None,
            "strategy": strategy,
            **acting,
            "num_lanes": num_lanes,
            "rules": dataclasses.asdict(rules),
            "min_episodes": min_episodes,
            "min_timesteps": min_timesteps,
            "eval_every": eval_every,
            "eval_episodes": eval_episodes,
            "seed": seed,
            **_describe(strategy_options),
        }

    def _wrap(self, network: nn.Module, options: dict[str, Any]) -> Policy:
        self._generator = np.random.default_rng(list(derive("probe", self.seed)))  # of `predict` with action noise
        env = self._factory()
        try:
            reference = self._reference(env) if virtual_batch_norms(network) else None
            return Policy(network, env.observation_space, env.action_space, **options, reference=reference)
        finally:
            env.close()

    def _reference(self, env: Env) -> torch.Tensor:
        """Return virtual batch norm's reference batch, chosen once for the whole run."""
        observations = random_observations(env, REFERENCE_SIZE, derive_seed("reference", self.seed))
        layout = Layout(env.observation_space)
        return torch.from_numpy(np.stack([layout.row(observation) for observation in observations]))

    def learn(
        self,
        total_timesteps: int,
        callback: Callback | None = None,
        *,
        progress_bar: bool = False,
        loggers: Sequence[Logger] = (),
        checkpoints: str | Path | None = None,
        checkpoint_every: float = 30.0,
        max_seconds: float | None = None,
        reset_num_timesteps: bool = True,
    ) -> ES:
        """Train until at least `total_timesteps` environment steps are played; the last generation is finished.

        Args:
            total_timesteps: Counted anew, or with `reset_num_timesteps=False` from the very start.
            callback: Called with each generation's metrics; training stops when it returns False.
            progress_bar: Show progress: a bar on a terminal, else a line a generation.
            loggers: Get each generation's metrics.
            checkpoints: Folder to save to, every `checkpoint_every` seconds and at the end.
            checkpoint_every: Seconds between two checkpoints.
            max_seconds: Stop after so much wall-clock time, whatever the steps.
            reset_num_timesteps: See `total_timesteps`.
        """
        check_count("total_timesteps", total_timesteps)
        goal = total_timesteps + (self.trainer.total_timesteps if reset_num_timesteps else 0)
        limit = self.trainer.seconds + check_positive("max_seconds", max_seconds) if max_seconds else float("inf")
        sinks = [*loggers, *([ProgressLogger(goal)] if progress_bar else [])]
        saved = self.trainer.seconds
        while self.trainer.total_timesteps < goal and self.trainer.seconds < limit:
            metrics = self.trainer.run_generation(self.evaluator())
            for sink in sinks:
                sink.log(metrics)
            if checkpoints is not None and self.trainer.seconds - saved >= checkpoint_every:
                self._checkpoint(Path(checkpoints))
                saved = self.trainer.seconds
            if callback is not None and callback(metrics) is False:
                break
        if checkpoints is not None:
            self._checkpoint(Path(checkpoints))
        if progress_bar:
            sinks[-1].close()
        return self

    def evaluate(self, episodes: int = 10) -> list[EpisodeResult]:
        """Play noise-free episodes of the centre and return their results, in order."""
        return self.trainer.evaluate_centre(self.evaluator(), episodes)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Return the centre's action for an observation, or for each of a batch, and the next state.

        Args:
            observation: One, or for a Box also a batch.
            state: Of a recurrent policy: what the last call returned; None at the start of an episode.
            episode_start: Bool for each of the batch: where the state starts anew.
            deterministic: Without the action noise of training.

        Raises:
            ValueError: If there is no environment, or the observation has another shape.
        """
        if self.policy is None:
            raise ValueError("`predict` needs an environment; with `fitness_fn`, call the module itself.")
        noise = None if deterministic else self.policy.action_noise
        rows = len(self.policy.layout.rows(observation)[0]) if noise else 0
        draws = np.stack([noise.draw(self._generator) for _ in range(rows)]) if noise else None
        return self.policy.act(observation, state, episode_start, draws)

    def save(self, path: str | Path) -> None:
        """Write everything needed to act and to go on training to the folder `path`: safetensors and JSON."""
        state = {**self.trainer.state_dict(), "buffers": self._buffers(), "options": self._described}
        checkpoint.save(path, state)

    @classmethod
    def load(
        cls,
        path: str | Path,
        policy: nn.Module,
        env: str | EnvFactory | None = None,
        **options: Any,
    ) -> ES:
        """Rebuild what `save` wrote; the weights go into `policy`.

        Args:
            path: The folder.
            policy: A module of the same architecture.
            env: In place of the saved id; needed if it was a function.
            options: In place of saved arguments; needed for those that were functions.

        Raises:
            ValueError: If the folder is damaged or `policy` has another architecture.
        """
        state = checkpoint.load(path)
        saved = {**_undescribe(state["options"]), **options}
        if env is not None:
            saved["env"] = env
        elif ":" in str(saved["env"]):
            raise ValueError(f"`env` {saved['env']!r} of the checkpoint would import a module; pass `env` yourself.")
        es = cls(policy, **saved)
        es.restore(state)
        return es

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state."""
        self.close()  # workers hold a copy of the buffers
        buffers = self._buffers()
        for name, value in state["buffers"].items():
            buffers[name].copy_(value)
        self.trainer.load_state_dict(state)

    def _buffers(self) -> dict[str, torch.Tensor]:
        """Return what is to be saved besides weights and observation statistics: all that is needed to act."""
        module = self.policy or self.network
        saved = module.state_dict()
        return {n: b for n, b in module.named_buffers() if n in saved and not n.startswith("observation_norm.")}

    def close(self) -> None:
        """End the workers; they start again when needed."""
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None

    def __enter__(self) -> ES:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _checkpoint(self, folder: Path) -> None:
        self.save(folder / f"generation-{self.strategy.centre.generation:06d}")

    def evaluator(self) -> Evaluator:
        """Return the evaluator; workers start with the first need of them, so bad arguments never start any."""
        if self._evaluator is None:
            player = self._player()
            if self.num_workers == 0:
                self._evaluator = SerialEvaluator(player)
            else:
                parameters = FlatParameters(self.network)
                norm = self.trainer.observation_norm
                board = Board(parameters.dim, parameters.dtype, norm.mean.numel() if norm is not None else 0)
                self._evaluator = ProcessEvaluator(player, board, self.seed, self.num_workers)
        return self._evaluator

    def _player(self) -> Callable[[], Any]:
        if self.policy is None:
            assert self.fitness_fn is not None
            return partial(FunctionPlayer, self.network, self.fitness_fn, self.seed)
        return partial(Rollout, self.policy, self._factory, self.seed, **self._player_options)


def _make_strategy(name: str, policy: nn.Module, options: dict[str, Any]) -> Strategy:
    kind = STRATEGIES[check_choice("strategy", name, STRATEGIES)]
    known = inspect.signature(kind).parameters
    for option in options:
        if option not in known:
            check_choice(f"argument of ES with strategy={name}", option, set(known) - {"target"})
    made: Strategy = kind(policy, **options)
    return made


def _describe(options: dict[str, Any]) -> dict[str, Any]:
    """Plain values as they are, `torch.optim` factories by name; other functions must be given again to `load`."""
    described: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, (str, int, float, bool, type(None))):
            described[name] = value
        elif isinstance(value, partial) and getattr(torch.optim, value.func.__name__, None) is value.func:
            described[name] = {"torch.optim": value.func.__name__, "keywords": value.keywords}
    return described


def _undescribe(options: dict[str, Any]) -> dict[str, Any]:
    made = dict(options)
    made["rules"] = EpisodeRules(**made["rules"])
    for name, value in options.items():
        if isinstance(value, dict) and "torch.optim" in value:
            kind = getattr(torch.optim, value["torch.optim"])
            if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
                raise ValueError(f"`{name}` of the checkpoint is no optimiser of torch.optim: {value['torch.optim']}.")
            made[name] = partial(kind, **value["keywords"])
    return made
