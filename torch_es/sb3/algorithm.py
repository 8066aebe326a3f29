"""`ES` as a Stable-Baselines3 algorithm: its constructor, `learn`, callbacks, loggers, `save` and `load`."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import (
    ActorCriticCnnPolicy,
    ActorCriticPolicy,
    BasePolicy,
    MultiInputActorCriticPolicy,
)
from stable_baselines3.common.type_aliases import MaybeCallback, Schedule
from stable_baselines3.common.utils import check_for_correct_spaces, get_system_info
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import nn

from torch_es import es as evolution
from torch_es.checks import check_count
from torch_es.envs import MASKS, Env, EnvFactory
from torch_es.nn import ObservationNorm
from torch_es.policies import Policy
from torch_es.sb3 import archive, episodes, statistics
from torch_es.sb3.actor import actor, check_acts_alike
from torch_es.sb3.arguments import check_action_space, check_arguments, with_defaults
from torch_es.sb3.callbacks import expect
from torch_es.sb3.environments import playable
from torch_es.sb3.features import normalize
from torch_es.seeding import check_seed
from torch_es.spaces.plain import space_of

AnyEnv = str | Env | VecEnv | EnvFactory
_OFF_TENSORBOARD = ("time/iterations", "time/time_elapsed", "time/total_timesteps")  # as SB3's algorithms do


class ES(BaseAlgorithm):
    """Evolution strategies in the place of PPO.

    Two things differ from PPO. Workers take the steps, so a callback's `_on_step` is called once a generation. Its
    `n_calls` then grows by the steps of the generation, as with PPO, so `eval_freq` and `save_freq` count steps. Its
    `locals` hold `metrics`, and `dones` and `infos` with one entry for each episode. And members play whole episodes,
    so a run exceeds `total_timesteps` by up to a generation.

    Args:
        policy: MlpPolicy, CnnPolicy, MultiInputPolicy, a class of that kind, or a policy of PPO or A2C, trained or
            not. A given policy is evolved in place: the layers that lead to its deterministic action change, its value
            network and deviations do not.
        env: An id, an environment, a `VecEnv`, or a function that makes an environment. A `VecNormalize` works as with
            PPO: training begins with its statistics and updates them unless its `training` is False, and the model
            acts on observations that it has normalised. Rewards are not normalised: only their order counts.
        learning_rate: A number, or a function of the progress remaining, from 1 to 0. By default that of the
            strategy: 0.02 for openai_es.
        normalize_observations: Whether an `ObservationNorm` in the policy's features extractor normalises observations.
            By default a new policy has one, unless `env` is a `VecNormalize`; a given policy stays as it is.
        policy_kwargs: As in SB3: `net_arch`, `activation_fn`, `optimizer_class`, ... The optimiser of a new policy is
            by default the strategy's: Adam for openai_es.
        stats_window_size: Episodes in `ep_info_buffer`.
        tensorboard_log: As in SB3.
        verbose: As in SB3.
        seed: Everything random follows from it, and `get_env()` is seeded with it. By default it is drawn; the
            attribute `seed` holds it. Global generators are neither read nor seeded.
        device: "auto" or "cpu": workers play on the CPU. "cuda" is taken on a machine that has none.
        options: Arguments of `torch_es.ES`: `sigma`, `num_pairs`, `strategy`, `num_workers`, ...; `eval_every` is 0 by
            default.

    Attributes:
        es: The `torch_es.ES` that does the work.

    Raises:
        TypeError: If the policy is of another kind.
        ValueError: If an argument is out of its range, the environment has other spaces than a given policy, or workers
            cannot make it.

    Example:
        >>> model = ES("MlpPolicy", "CartPole-v1", sigma=0.1, num_pairs=4, num_workers=0, seed=1).learn(500)
        >>> action, _ = model.predict(np.zeros(4, np.float32), deterministic=True)
        >>> model.num_timesteps >= 500
        True
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
    }
    policy: ActorCriticPolicy

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy] | ActorCriticPolicy,
        env: AnyEnv,
        learning_rate: float | Schedule | None = None,
        normalize_observations: bool | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        **options: Any,
    ) -> None:
        given = policy if isinstance(policy, nn.Module) else None
        check_arguments(policy, policy_kwargs, device, options)
        strategy = options.get("strategy", "openai_es")
        policy_kwargs, learning_rate = with_defaults(policy, policy_kwargs, learning_rate, strategy)
        drawn = secrets.randbits(31) if seed is None else check_seed(seed)
        source, made = playable(env)
        super().__init__(
            policy if not isinstance(policy, nn.Module) else type(policy),
            made,
            learning_rate,
            policy_kwargs,
            stats_window_size,
            tensorboard_log,
            verbose,
            device="cpu",
            support_multi_env=True,
            seed=drawn,
        )
        assert self.env is not None
        check_action_space(self.action_space)
        if isinstance(given, ActorCriticPolicy):
            check_for_correct_spaces(self.env, given.observation_space, given.action_space)
        if seed is not None:
            self.env.seed(seed)
        if self.env.get_attr("metadata", 0)[0].get("spaces_only"):  # it is given later, by `set_env`
            self.env = None
        self.action_space.seed(drawn)
        vec = self._vec_normalize()
        if normalize_observations is None:
            normalize_observations = given is None and vec is None
        self._setup_model(given, drawn, normalize_observations)
        self._metrics: dict[str, float] = {}
        self._generator = np.random.default_rng(drawn)  # of `predict` with action noise
        self.es = self._made_es(source, drawn, options)
        self._env_id = source if isinstance(source, str) and vec is None else None

    def _made_es(self, source: str | EnvFactory, seed: int, options: dict[str, Any]) -> evolution.ES:
        network = actor(self.policy)
        self.policy.set_training_mode(False)  # as `predict` has it: statistics of a batch norm are constants
        head: dict[str, Any] = {
            "box_head": "tanh" if self.policy.squash_output else "clip",
            "action_noise": options.get("action_noise"),
        }
        self._acting = Policy(network, self.observation_space, self.action_space, **head)
        check_acts_alike(self.policy, self._acting)
        kind: Any = self.policy.optimizer_class
        optimizer = partial(kind, lr=self.lr_schedule(1.0), **self.policy.optimizer_kwargs)
        if (vec := self._vec_normalize()) is not None:
            network = nn.Sequential(statistics.norm_of(vec, self.observation_space), *network)
        keys = episodes.ending_keys(self.env)
        self._keys = () if "behaviour" in options else keys  # of what `behaviour` says
        defaults = {"eval_every": 0, "behaviour": partial(episodes.ending, keys=keys)}
        return evolution.ES(network, source, optimizer=optimizer, seed=seed, **{**defaults, **head, **options})

    def _setup_model(self, given: ActorCriticPolicy | None = None, seed: int = 0, normalized: bool = False) -> None:
        self._setup_lr_schedule()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            kind: Any = self.policy_class
            spaces = self.observation_space, self.action_space
            self.policy = given or kind(*spaces, self.lr_schedule, **self.policy_kwargs)
            if normalized:
                normalize(self.policy)

    def _vec_normalize(self) -> VecNormalize | None:
        return statistics.of_observations(self._vec_normalize_env)

    @property
    def observation_norm(self) -> ObservationNorm | None:
        """The layer that normalises observations: one of the policy, or one that follows a `VecNormalize`."""
        return self.es.objective.statistics

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "ES",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> ES:
        """Train for at least `total_timesteps` environment steps; the last generation is finished.

        Args:
            total_timesteps: Steps of all members together.
            callback: A callback of SB3, a list of them, or a function of `locals` and `globals`. It is called once a
                generation, and training stops when it returns False.
            log_interval: Generations from one dump of the logger to the next; None for no dumps.
            tb_log_name: The run's name in TensorBoard.
            reset_num_timesteps: Whether `num_timesteps` counts from zero again.
            progress_bar: Show a bar on a terminal, otherwise a line for each generation.

        Raises:
            ValueError: If the model was loaded without an environment.
        """
        total_timesteps = check_count("total_timesteps", total_timesteps)
        if self.env is None:
            raise ValueError("`learn` needs an environment: use `set_env(env)`, or `load(path, env)`.")
        self._adopt_statistics()
        total_timesteps, callback = self._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name)
        self._follow_schedule(total_timesteps)
        callback.on_training_start(locals(), globals())
        begun = self.es.trainer.total_timesteps - self.num_timesteps
        callback.on_rollout_start()

        def generation(metrics: dict[str, float]) -> bool:
            before, self.num_timesteps = self.num_timesteps, self.es.trainer.total_timesteps - begun
            expect(callback, self.num_timesteps // self.n_envs - before // self.n_envs)
            going = self._end_generation(metrics, callback, log_interval)
            self._follow_schedule(total_timesteps)
            if going and self.num_timesteps < total_timesteps:
                callback.on_rollout_start()
            return going

        self.es.learn(total_timesteps - self.num_timesteps, generation, progress_bar=progress_bar)
        callback.on_training_end()
        return self

    def _end_generation(self, metrics: dict[str, float], callback: BaseCallback, log_interval: int | None) -> bool:
        """Report a generation to SB3's buffers, monitors, callbacks and logger; return whether to go on."""
        assert self.es.trainer.played is not None
        self._n_updates += 1
        self._metrics = metrics
        infos = episodes.infos(self.es.trainer.played, self._keys, round(metrics["time/time_elapsed"], 6))
        self._episode_num += len(infos)
        dones = np.ones(len(infos), bool)
        self._update_info_buffer(infos, dones)
        episodes.write_monitors(self.env, [info["episode"] for info in infos])
        if (vec := self._vec_normalize()) is None or not vec.training:
            self._adopt_statistics()
        elif self.observation_norm is not None:
            statistics.publish(self.observation_norm, vec)
        callback.update_locals({"dones": dones, "infos": infos, "metrics": metrics})
        if not callback.on_step():
            return False
        callback.on_rollout_end()
        if log_interval is not None and self._n_updates % log_interval == 0:
            self.dump_logs()
        return True

    def _adopt_statistics(self) -> None:
        """Normalise by the statistics of the `VecNormalize`, if there is one."""
        if (vec := self._vec_normalize()) is not None and self.observation_norm is not None:
            statistics.adopt(self.observation_norm, vec)

    def _follow_schedule(self, total_timesteps: int) -> None:
        """Set the learning rate of the next step, if it follows a schedule and the strategy has an optimiser."""
        self._update_current_progress_remaining(min(self.num_timesteps, total_timesteps), total_timesteps)
        optimizer = getattr(self.es.strategy, "optimizer", None)
        if callable(self.learning_rate) and optimizer is not None:
            self._update_learning_rate(optimizer)

    def dump_logs(self) -> None:
        """Write the last generation's metrics to the logger."""
        metrics = {**self._metrics, "time/total_timesteps": self.num_timesteps}
        metrics.pop("global_step", None)  # the logger's own x-axis
        if self.ep_success_buffer:
            metrics["rollout/success_rate"] = float(np.mean(self.ep_success_buffer))
        for key, value in metrics.items():
            whole = int(value) if key.startswith("time/") else value
            self.logger.record(key, whole, exclude="tensorboard" if key in _OFF_TENSORBOARD else None)
        self.logger.dump(self.num_timesteps)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        action_masks: Any = None,
    ) -> tuple[Any, Any]:
        """Return the policy's action for an observation, or for each of a batch, and the state as it was given.

        Args:
            observation: Normalised if `env` is a `VecNormalize`, otherwise raw.
            state: Not used, since these policies have no state.
            episode_start: Not used either.
            deterministic: Whether to leave out the model's `action_noise`, if it has any.
            action_masks: MaskablePPO's; they are refused.

        Raises:
            TypeError: If `action_masks` is given.
        """
        if action_masks is not None:
            raise TypeError(f"`action_masks` cannot be given: {MASKS}")
        if deterministic or self._acting.action_noise is None:
            return self.policy.predict(observation, state, episode_start, deterministic=True)
        tensors, batched = self.policy.obs_to_tensor(observation)
        rows = {k: t.numpy() for k, t in tensors.items()} if isinstance(tensors, dict) else tensors.numpy()
        actions = self._acting.act(rows, None, None, self._generator)[0]
        return actions if batched else actions.squeeze(0), state

    def set_env(self, env: AnyEnv, force_reset: bool = True) -> None:
        """Train in another environment from now on; a `VecEnv` may hold more or fewer environments than before.

        Raises:
            ValueError: If its spaces differ, or only one of the two environments is a `VecNormalize`.
        """
        source, made = playable(env)
        wrapped = self._wrap_env(made, self.verbose)
        check_for_correct_spaces(wrapped, self.observation_space, self.action_space)
        normalized = self._vec_normalize() is not None
        statistics.check_alike(normalized, statistics.of_observations(unwrap_vec_normalize(wrapped)))
        self.n_envs = wrapped.num_envs
        super().set_env(wrapped, force_reset)
        self.es.set_env(source)
        self._env_id = source if isinstance(source, str) and self._vec_normalize() is None else None
        self._adopt_statistics()

    def set_parameters(
        self, load_path_or_dict: Any, exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Take over the parameters that `get_parameters` returned, or those of a file that `save` wrote.

        Raises:
            ValueError: If `exact_match` and something is missing or unknown, or a shape differs. PPO's parameters hold
                its optimiser; give `{"policy": ppo.get_parameters()["policy"]}`, and `exact_match=False` if this policy
                normalises, which then keeps its statistics.
        """
        parameters = load_path_or_dict
        if not isinstance(parameters, dict):
            parameters = archive.read(parameters)["parameters"]
        self.es.close()  # workers hold a copy of the buffers
        try:
            super().set_parameters(parameters, exact_match)
        except RuntimeError as error:
            kept = " With `exact_match=False` what is missing stays as it is." * exact_match
            raise ValueError(f"`load_path_or_dict` is of another policy: {error}.{kept}") from error
        strategy = self.es.strategy
        strategy.move(strategy.parameters.read_masters())

    def save(self, path: archive.PathOrFile, exclude: Any = None, include: Any = None) -> None:
        """Write everything needed to act and to go on training to one zip file of safetensors and JSON, no pickle.

        Args:
            path: The file; `.zip` is added to a path without an ending.
            exclude: Names of attributes to leave out. The file holds only these of SB3's attributes:
                `tensorboard_log`, `verbose`, `seed` and `stats_window_size`.
            include: Names that take precedence over `exclude`.
        """
        archive.write(path, archive.state_of(self, left_out=set(exclude or ()) - set(include or ())))

    @classmethod
    def load(
        cls,
        path: archive.PathOrFile,
        env: AnyEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,  # noqa: ARG003 - SB3's signature
        **kwargs: Any,
    ) -> ES:
        """Make the model that `save` wrote again; nothing in the file is ever executed.

        Args:
            path: The file, with or without `.zip`, or the open file.
            env: What to train in. By default the environment that was saved, if its id alone describes it; otherwise
                the model acts, and trains after `set_env`.
            device: As for the constructor.
            custom_objects: Replacements for what was saved. Give `policy_class` and `policy_kwargs` again if they were
                classes or functions of your own, and `learning_rate` if it was such a function.
            print_system_info: Whether to print a description of this machine.
            force_reset: Not used: every episode of `ES` begins with a reset.
            kwargs: Replacements for saved arguments.

        Raises:
            ValueError: If the file is of another kind or damaged, something that it cannot hold is not given, `env` has
                other spaces, or `policy_kwargs` differ from those saved.
        """
        if print_system_info:
            get_system_info()
        state = archive.read(path)
        own = {**archive.known(state, custom_objects or {}), **kwargs, "device": device}
        model = cls(**archive.arguments(state, own if env is None else {**own, "env": env}))
        if env is not None:
            assert model.env is not None
            check_for_correct_spaces(model.env, *map(space_of, state["sb3"]["spaces"]))
        model._restore(state)
        return model

    def _restore(self, state: dict[str, Any]) -> None:
        saved, vec = state["sb3"], self._vec_normalize()
        statistics.check_alike(saved["vec_normalize"] is not None, vec)
        self.policy.load_state_dict(state["parameters"]["policy"])
        self.es.restore(state["es"])
        for name, value in saved["counters"].items():
            setattr(self, name, value)
        if vec is not None and self.observation_norm is not None:
            statistics.settle(self.observation_norm, vec)
