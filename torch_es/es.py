"""`ES`: make, learn, predict, save and load, in the style of Stable-Baselines3."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from torch_es.checks import check_count, check_kind, check_positive, differences
from torch_es.envs import EnvFactory, EpisodeRules, env_factory, probed
from torch_es.evaluators import TOLERANCE, Evaluator, EvaluatorFactory, FaultTolerance, make_evaluator
from torch_es.evaluators.choice import check_evaluator, plays_in_place
from torch_es.heads import BoxHead, GivenNoise
from torch_es.lanes import LaneChoice
from torch_es.loggers import Logger
from torch_es.loggers.progress import ProgressLogger
from torch_es.loggers.protocol import opened
from torch_es.nn.buffers import same_tensors, shapes, unsearched
from torch_es.nn.placed import MakeModule, placed
from torch_es.rollout import Behaviour, EnvObjective, Fitness, FunctionObjective, Objective
from torch_es.rollout.objective import check_no_episodes, in_environment
from torch_es.runs import checkpoint
from torch_es.runs.folder import RunFolder, entered
from torch_es.runs.machine import describe, difference
from torch_es.runs.options import check_replaced, saved_options
from torch_es.runs.options import describe as describe_options
from torch_es.runs.recording import Recording
from torch_es.runs.replay_log import Record, fingerprint
from torch_es.search import Strategy, Unperturbed, check_searches_actions, made_with, make_strategy
from torch_es.search import strategy_options as options_of
from torch_es.search.arguments import check_arguments
from torch_es.seeding import derive
from torch_es.training.loop import Callback, check_learning, loop
from torch_es.training.replay import rebuild
from torch_es.training.signals import StopSignals
from torch_es.training.trainer import Trainer
from torch_es.types import CENTRE, EpisodeResult

_log = logging.getLogger(__name__)


class ES:
    """Trains a module by evolution strategies, in place.

    Args:
        policy: The network to evolve. It is called with a batch of observations; its weights are the start. If it holds
            an `ObservationNorm`, as `mlp` does, observations are normalised. A function that makes it is called here
            and, with `fitness_fn`, by each worker that starts, so that no module travels there.
        env: A Gymnasium id, or a function that makes an environment. Give this or `fitness_fn`.
        fitness_fn: `fitness_fn(module) -> float`, to be maximised in place of an environment's return; or a
            `BatchFitness`. Workers have copies of it and of what it refers to, from when they start; see `close`.
        device: With `fitness_fn`, where the module answers: it is moved there. By default it stays where it is.
        strategy: One of openai_es, pgpe, snes, ars; or a `torch_es.search.Strategy` of your own that searches `policy`,
            or a function that makes one: `strategy(policy, seed=seed, **strategy_options)`.
        box_head: How outputs become actions of a Box: clip, tanh, gaussian, uniform:N, custom:V1,V2,..., or a head of
            your own; see `torch_es.heads.make_head`.
        action_noise: Noise on actions in training: gaussian:STD, epsilon:P, sample, or one of your own; see
            `torch_es.heads.make_action_noise`.
        behaviour: `behaviour(observation, info)` describes the end of an episode in numbers; the strategy gets them as
            `Outcome.behaviours`.
        num_workers: Worker processes. With 0, this process plays everything. By default one for each core, but 0 for a
            module on another device than the CPU.
        num_lanes: Perturbed policies that a worker runs side by side; by default as many as fit into the cache.
        rules: How long episodes may be, which members share a world, what an episode is worth; see `EpisodeRules`.
        min_episodes: Add members until a generation has at least this many episodes.
        min_timesteps: Add members until a generation has at least this many environment steps.
        eval_every: Evaluate the centre once in this many generations; 0 never does.
        eval_episodes: Noise-free episodes in each of these evaluations.
        seed: All randomness follows from it.
        tolerance: Timeouts and retries for workers that crash or hang; see `FaultTolerance`.
        evaluator: Makes the evaluator, in place of `num_workers` and `tolerance`: `evaluator(objective, snapshot)`
            returns a `torch_es.evaluators.Evaluator`.
        strategy_options: Arguments of the strategy. Those of openai_es are sigma=0.04, num_pairs=16,
            optimizer=partial(torch.optim.Adam, lr=0.02), shaping=centered_ranks, scheduler, population_size,
            non_finite, rank, that of the noise on matrices, and noise, its generator; see `torch_es.OpenAIES`.

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

    objective: Objective
    budget: int | None = None  # environment steps that were tuned for the task; see `torch_es.from_task`
    _moved = ""  # how the machine of the restored checkpoint differs from this one; told when training goes on

    def __init__(
        self,
        policy: nn.Module | MakeModule,
        env: str | EnvFactory | None = None,
        *,
        fitness_fn: Fitness | None = None,
        device: torch.device | str | None = None,
        strategy: str | Strategy | Callable[..., Strategy] = "openai_es",
        box_head: BoxHead = "clip",
        action_noise: GivenNoise | None = None,
        behaviour: Behaviour | None = None,
        num_workers: int | None = None,
        num_lanes: int | None = None,
        rules: EpisodeRules = EpisodeRules(),
        min_episodes: int = 0,
        min_timesteps: int = 0,
        eval_every: int = 10,
        eval_episodes: int = 4,
        seed: int = 0,
        tolerance: FaultTolerance = TOLERANCE,
        evaluator: EvaluatorFactory | None = None,
        **strategy_options: Any,
    ) -> None:
        if (env is None) == (fitness_fn is None):
            raise ValueError("Give one of `env` and `fitness_fn`.")
        make = None if isinstance(policy, nn.Module) else partial(placed, policy, device)
        self.network = policy = placed(policy, device, acts=env is not None)
        if isinstance(strategy, str):  # one of the user's own checks its options itself
            check_arguments(ES, strategy, options_of(strategy), strategy_options)
        self.strategy: Strategy = make_strategy(strategy, policy, seed=seed, **strategy_options)
        self.seed = self.strategy.seed
        check_count("num_workers", 0 if num_workers is None else num_workers, minimum=0)
        perturbation = self.strategy.ask().perturbation
        if isinstance(perturbation, Unperturbed):
            check_searches_actions(action_noise, min_episodes or min_timesteps or rules.per_member > 1)
        acting = {"box_head": box_head, "action_noise": action_noise}
        if env is None:
            assert fitness_fn is not None
            check_no_episodes({**acting, "rules": rules, "num_lanes": num_lanes, "behaviour": behaviour})
            self.objective = FunctionObjective(policy, fitness_fn, perturbation, make)
        else:
            self.objective = in_environment(
                policy, env_factory(env), self.seed, acting, perturbation, rules, num_lanes, behaviour
            )
        self.policy: Any = self.objective.module
        self.trainer = Trainer(self.strategy, self.objective, min_episodes, min_timesteps, eval_every, eval_episodes)
        check_kind("evaluator", evaluator, Callable)
        if evaluator is not None and (num_workers is not None or tolerance != TOLERANCE):
            raise ValueError(f"`evaluator` must be None beside `num_workers` or `tolerance`, got {evaluator!r}.")
        self._make_evaluator = evaluator or partial(make_evaluator, num_workers=num_workers, tolerance=tolerance)
        self._evaluator: Evaluator | None = None
        self._sent: dict[str, torch.Tensor] | None = {}  # buffers and frozen parameters, of which players have copies
        self._generator = np.random.default_rng(list(derive("probe", self.seed)))  # of `predict` with action noise
        self.described = {
            "env": env if isinstance(env, str) else None, **describe_options({"strategy": strategy, **acting}),
            "num_lanes": num_lanes, "rules": describe_options(vars(rules)), "min_episodes": min_episodes,
            "min_timesteps": min_timesteps, "eval_every": eval_every, "eval_episodes": eval_episodes,
            **describe_options(made_with(self.strategy, strategy, strategy_options)), "seed": self.seed,
            **describe_options({"behaviour": behaviour} if behaviour else {}),
        }  # fmt: skip

    @torch.inference_mode(False)  # what is made in inference mode cannot be changed afterwards
    def learn(
        self,
        total_timesteps: float | None = None,
        callback: Callback | None = None,
        *,
        progress_bar: bool = False,
        loggers: Sequence[Logger] = (),
        folder: str | Path | RunFolder | None = None,
        resume: bool = False,
        checkpoint_every: float = 30.0,
        max_seconds: float | None = None,
        reset_num_timesteps: bool = True,
    ) -> ES:
        """Train until at least `total_timesteps` environment steps are played; the last generation is finished.

        With a `folder`, nothing is lost however training ends. Ctrl-C, SIGTERM and any exception save the last whole
        generation. If the process is killed, `resume=True` continues from the newest checkpoint, with the same bits as
        a run that was never stopped.

        Args:
            total_timesteps: Environment steps from now on, by default those tuned by `torch_es.from_task`; with
                `reset_num_timesteps=False`, or when a run is resumed, from the start of the run.
            callback: Called with each generation's metrics; training stops when it returns False.
            progress_bar: Show progress: a bar on a terminal, otherwise a line for each generation.
            loggers: Started, given each generation's metrics, and closed; they write into `folder`, or into the current
                folder without one. One that fails is named in a warning and left out.
            folder: Where `metrics.jsonl`, `replay.log` and `checkpoints/` are written.
            resume: Continue the run in `folder`, if there is one; this trainer must be made as that one was.
            checkpoint_every: Seconds between two checkpoints; the last generation is always saved.
            max_seconds: Stop after this much wall-clock time; a generation that is not whole by then is left out.
            reset_num_timesteps: See `total_timesteps`.

        Raises:
            RunFolderError: If `folder` holds a run and `resume` is not set, or another process is writing it.
            ValueError: If the run in `folder` differs from this one; every difference is named.
        """
        total_timesteps = self.budget if total_timesteps is None else total_timesteps
        total_timesteps = check_learning(total_timesteps, callback, loggers, folder, resume, checkpoint_every)
        seconds = float("inf") if max_seconds is None else check_positive("max_seconds", max_seconds)
        trainer, strategy, recording = self.trainer, self.strategy, None
        with contextlib.ExitStack() as stack:
            if folder is not None:
                run = stack.enter_context(entered(folder))
                if (state := run.continued(resume, self.described, strategy.generation)) is not None:
                    self.restore(state)
                names = {"seed": self.seed, "env": self.objective.env_id, "initial": fingerprint(self.network)}
                run.open({**names, "options": self.described}, strategy.generation, strategy.theta.nbytes)
                recording = Recording(run, self.state_dict, checkpoint_every, trainer.seconds)
                reset_num_timesteps = reset_num_timesteps and state is None
            goal = total_timesteps + (trainer.total_timesteps if reset_num_timesteps else 0)
            shown = [*loggers, *([ProgressLogger(goal)] if progress_bar else [])]
            log = stack.enter_context(opened(shown, self.described, recording.path if recording else Path()))
            stack.callback(self.objective.refresh)
            loop(trainer, self._generation, goal, seconds, recording, log, callback)
        return self

    def _generation(self, signals: StopSignals) -> dict[str, float]:
        if self._moved:
            _log.warning("From here on the bits may differ from those on the earlier machine: %s.", self._moved)
            self._moved = ""
        with self._whole():
            with signals.interruptible():
                evaluator = self.evaluator()
            return self.trainer.run_generation(signals.watch(evaluator))

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """After any exception, end the workers: they may still hold tasks of what was interrupted."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # of environments that do not close; the first one is the reason
                self.close()
            raise

    def evaluate(self, episodes: int = 10) -> list[EpisodeResult]:
        """Play noise-free episodes of the centre and return their results, in order."""
        with self._whole():
            return self.trainer.evaluate_centre(self.evaluator(), episodes)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Any, Any]:
        """Return the centre's action for an observation, or for each of a batch, and the next state.

        Args:
            observation: One observation, or a batch.
            state: For a recurrent policy, what the last call returned; None at the start of an episode.
            episode_start: Bool for each observation of a batch: whether an episode starts, so that its state is reset.
            deterministic: Whether to leave out the action noise of training.

        Raises:
            ValueError: If there is no environment, or the observation has another shape.
        """
        return self.objective.act(observation, state, episode_start, None if deterministic else self._generator)

    def play(self, member: int = CENTRE, episode: int = 0) -> EpisodeResult:
        """Play one episode of the next generation: a member's, or by default the centre's.

        Example:
            >>> es = ES(nn.Linear(4, 2), "CartPole-v1", num_workers=0)
            >>> es.play(member=7).length > 0
            True
        """
        with self._whole():
            task = self.trainer.task(check_count("member", member, CENTRE), check_count("episode", episode, 0))
            return self.trainer.play(self.evaluator(), [task])[0]

    def replay(self, path: str | Path, generation: int) -> Record | None:
        """Rebuild a generation of a run from its `replay.log` alone; see `torch_es.training.replay.rebuild`."""
        self.close()
        return rebuild(self.trainer, self.network, path, generation, self.evaluator)

    def save(self, path: str | Path) -> None:
        """Write everything needed to act and to continue training to the folder `path`, as safetensors and JSON.

        Raises:
            NonFiniteError: If a weight or a statistic is NaN or infinite.
            ValueError: If `path` holds anything but a checkpoint, which would be lost.
        """
        checkpoint.save(path, self.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Return what `save` writes."""
        state = self.trainer.state_dict()
        checkpoint.check_finite(state)  # F42b
        return {
            **state, "shapes": shapes(self.strategy.parameters.named), "buffers": self._buffers(),
            "options": self.described, "machine": describe(),
        }  # fmt: skip

    @classmethod
    @torch.inference_mode(False)
    def load(
        cls, path: str | Path, policy: nn.Module | MakeModule, env: str | EnvFactory | None = None, **options: Any
    ) -> ES:
        """Restore what `save` wrote; the weights go into `policy`. `torch_es.from_run` reads a run folder.

        Args:
            path: The folder.
            policy: A module of the same architecture.
            env: Replaces the saved id; needed if it was a function.
            options: Replace saved arguments, except strategy and optimiser; needed for those that were functions.

        Raises:
            ValueError: If the folder is damaged, `policy` has another architecture, or a function is not given again.
        """
        state = checkpoint.load(path)
        given = options if env is None else {**options, "env": env}
        check_replaced(state, given)
        es = cls(policy, **{**saved_options(state, given), **given})
        es.restore(state)
        return es

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state.

        Raises:
            ValueError: If it belongs to another module; every differing name is listed with both shapes.
        """
        buffers, norm = self._buffers(), self.objective.statistics
        then = shapes(state["buffers"]) | shapes(state["observation_norm"], "ObservationNorm.") | state["shapes"]
        own = shapes(norm.state_dict() if norm else None, "ObservationNorm.")
        now = shapes(buffers) | own | shapes(self.strategy.parameters.named)
        if found := differences(then, now):  # F34b
            raise ValueError(f"The checkpoint is of another module: {found}.")
        self.close()  # workers hold a copy of the buffers
        self.trainer.load_state_dict(state)
        if state["options"]["rules"]["max_steps"] != self.described["rules"]["max_steps"]:
            self.trainer.max_steps = self.trainer.rules.first_cap  # by the rules that were given instead
        if state["options"]["env"] != self.described["env"]:
            self.trainer.best = None  # it was the best in the other environment
        for name, value in state["buffers"].items():
            buffers[name].copy_(value)
        self.objective.refresh()
        self._moved = difference(state["machine"])

    def set_env(self, env: str | EnvFactory) -> None:
        """Play in another environment from now on.

        Raises:
            ValueError: If its spaces differ, or this trainer has no environment.
        """
        factory = env_factory(env)
        if not isinstance(self.objective, EnvObjective):
            raise ValueError("`set_env` needs a trainer that was made with an environment, not with `fitness_fn`.")
        made = probed(factory)
        made.close()
        own = {"observation_space": self.policy.layout.space, "action_space": self.policy.action_space}
        if found := differences(own, {name: getattr(made, name) for name in own}):
            raise ValueError(f"`env` must have the spaces that the policy was made for: {found}.")
        self.close()
        self.objective.enter(made, factory)
        self.trainer.best = None  # it was the best in the other environment
        self.described["env"] = env if isinstance(env, str) else None

    def _buffers(self) -> dict[str, torch.Tensor]:
        statistics = self.objective.statistics
        return unsearched(self.objective.module, list(statistics.buffers()) if statistics else [])

    @property
    def lanes(self) -> LaneChoice | None:
        """How workers run the network, chosen once and here for all of them; None with `fitness_fn`."""
        return self.objective.lanes

    def close(self) -> None:
        """End the workers; they start again when needed."""
        evaluator, self._evaluator = self._evaluator, None
        if evaluator is not None:
            evaluator.close()

    def __enter__(self) -> ES:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @torch.inference_mode(False)
    def evaluator(self) -> Evaluator:
        """Return the evaluator, for the module as it is now: what was written into it since the last call is evolved.

        Workers start when they are first needed, so bad arguments never start any.

        Raises:
            ValueError: If other parameters are trainable than at the start, or a weight is not finite.
        """
        if self.strategy.parameters.changed(self.strategy.theta):
            self.strategy.move(self.strategy.parameters.read_module())
        if self._sent is not None and not same_tensors(self._sent, self._buffers()):
            self.close()
        if self._evaluator is None:
            self._evaluator = check_evaluator(self._make_evaluator(self.objective, self.trainer.snapshot()))
            own = plays_in_place(self._evaluator, self.objective)
            self._sent = None if own else {name: buffer.clone() for name, buffer in self._buffers().items()}
        return self._evaluator
