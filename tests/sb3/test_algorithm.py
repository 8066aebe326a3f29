"""What a user of Stable-Baselines3 does, with the real Stable-Baselines3."""

import csv
import re
import sys
import threading
import zipfile
from functools import partial

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from helpers import Stepper
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize
from torch import nn

from torch_es import EpisodeRules
from torch_es.lanes import make_lanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.sb3 import ES

SMALL = {"num_pairs": 4, "num_workers": 0, "seed": 0, "sigma": 0.1}
make = partial(ES, "MlpPolicy", "CartPole-v1", **SMALL)


class Own(gym.Env):
    """An environment of any spaces, without a spec; pays one a step."""

    def __init__(self, observation_space, action_space=None):
        self.observation_space, self.action_space = observation_space, action_space or Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(1000)))
        self.left = 4
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action if isinstance(self.action_space, Box) else int(action))
        self.left -= 1
        return self.observation_space.sample(), 1.0, self.left == 0, False, {}


class Locked(Stepper):
    """Cannot be copied."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lock = threading.Lock()


gym.register("Locked-v0", Locked)


class Counting(BaseCallback):
    """Writes down what is called, and stops at the `last` step."""

    def __init__(self, last=10**9):
        super().__init__()
        self.last, self.calls, self.steps = last, [], []

    def _on_training_start(self):
        self.calls.append("start")

    def _on_rollout_start(self):
        self.calls.append("[")

    def _on_step(self):
        self.calls.append(".")
        self.steps.append(self.num_timesteps)
        assert len(self.locals["infos"]) == self.locals["dones"].sum() == 8
        return self.n_calls < self.last

    def _on_rollout_end(self):
        self.calls.append("]")

    def _on_training_end(self):
        self.calls.append("end")


def trained_ppo(env, **options):
    return PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0, device="cpu", **options).learn(64)


def test_it_learns_and_sb3_evaluates_it():
    model = ES("MlpPolicy", "CartPole-v1", sigma=0.1, num_pairs=16, num_workers=0, seed=1, learning_rate=0.05)
    assert model.learn(60_000) is model
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=5)
    assert mean > 300
    assert model.num_timesteps == model.es.trainer.total_timesteps >= 60_000
    assert model.ep_info_buffer[-1]["l"] == model.es.trainer.played.episodes[-1].length


def test_the_same_seed_gives_the_same_model_and_touches_no_global_generator():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - SB3's are the global ones
    one, other = make().learn(300), make().learn(300)
    assert torch.equal(one.es.strategy.centre.theta, other.es.strategy.centre.theta)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert ES("MlpPolicy", "CartPole-v1").seed != ES("MlpPolicy", "CartPole-v1").seed


def test_callbacks_are_called_once_a_generation_in_sb3s_order():
    counting = Counting()
    model = make().learn(300, counting)
    generations = model.es.strategy.centre.generation
    assert "".join(counting.calls) == "start" + "[.]" * generations + "end"
    assert counting.steps == sorted(counting.steps)
    assert counting.steps[-1] == model.num_timesteps


def test_training_stops_where_a_callback_returns_false():
    model = make().learn(10**9, [Counting(last=3), Counting()])
    assert model.es.strategy.centre.generation == 3
    model.learn(10**9, lambda locals_, globals_: locals_["metrics"]["time/iterations"] < 5)
    assert model.es.strategy.centre.generation == 5


def test_timesteps_count_anew_or_on():
    model = make().learn(100)
    first = model.num_timesteps
    assert model.learn(100, reset_num_timesteps=False).num_timesteps >= first + 100
    both = model.num_timesteps
    assert model.es.trainer.total_timesteps == both
    model.learn(100)
    assert model.num_timesteps == model.es.trainer.total_timesteps - both >= 100


def test_eval_callback_stops_at_a_threshold_and_keeps_the_best(tmp_path):
    stop = StopTrainingOnRewardThreshold(60)
    evaluation = EvalCallback(
        Monitor(gym.make("CartPole-v1")), stop, eval_freq=2, best_model_save_path=tmp_path, log_path=tmp_path, verbose=0
    )
    model = ES("MlpPolicy", "CartPole-v1", learning_rate=0.05, **{**SMALL, "num_pairs": 16}).learn(10**6, evaluation)
    assert evaluation.best_mean_reward >= 60
    assert model.es.strategy.centre.generation == 2 * evaluation.n_calls // 2
    with np.load(tmp_path / "evaluations.npz") as written:
        assert written["timesteps"][-1] == model.num_timesteps
    best = ES.load(tmp_path / "best_model", num_workers=0)
    assert torch.equal(best.es.strategy.centre.theta, model.es.strategy.centre.theta)


def test_the_other_callbacks_of_sb3_work(tmp_path):
    model = make().learn(10**6, StopTrainingOnMaxEpisodes(24))
    assert model.es.trainer.total_episodes == 24
    patience = StopTrainingOnNoModelImprovement(max_no_improvement_evals=1)
    stuck = EvalCallback(Monitor(gym.make("CartPole-v1")), callback_after_eval=patience, eval_freq=1, verbose=0)
    make(learning_rate=1e-30).learn(10**6, stuck)
    assert stuck.n_calls < 40
    model.set_logger(configure(str(tmp_path), ["csv"]))
    counting = Counting()
    model.learn(600, CallbackList([EveryNTimesteps(300, counting), LogEveryNTimesteps(200)]), log_interval=None)
    model.logger.close()
    assert len(counting.steps) <= 3
    assert (tmp_path / "progress.csv").read_text().count("\n") > 1


def test_checkpoints_go_on_bit_for_bit(tmp_path):
    straight = make().learn(10**9, Counting(last=6))
    make().learn(10**9, [CheckpointCallback(2, tmp_path, verbose=0), Counting(last=4)])
    files = sorted(tmp_path.iterdir(), key=lambda path: int(path.name.split("_")[2]))
    assert [path.name[:9] for path in files] == ["rl_model_", "rl_model_"]
    with zipfile.ZipFile(files[-1]) as archive:
        assert sorted(archive.namelist()) == ["MANIFEST.json", "state.json", "tensors.safetensors"]
    loaded = ES.load(files[-1], num_workers=0)
    assert loaded.num_timesteps == int(files[-1].name.split("_")[2])
    loaded.learn(10**9, Counting(last=2))
    assert torch.equal(loaded.es.strategy.centre.theta, straight.es.strategy.centre.theta)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(x)[0], straight.predict(x)[0])


def test_loggers_of_sb3_get_every_generation(tmp_path):
    model = make(tensorboard_log=str(tmp_path / "board"))
    model.learn(200, tb_log_name="try")
    model.logger.close()
    assert list((tmp_path / "board" / "try_1").glob("events.out.tfevents.*"))
    model.set_logger(configure(str(tmp_path), ["csv", "json"]))
    model.learn(400, reset_num_timesteps=False)
    model.logger.close()
    rows = list(csv.DictReader((tmp_path / "progress.csv").read_text().splitlines()))
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps", "train/learning_rate"} <= set(rows[0])
    assert int(rows[-1]["time/total_timesteps"]) == model.num_timesteps


def test_monitors_hold_what_workers_played(tmp_path):
    env = Monitor(gym.make("CartPole-v1"), str(tmp_path / "run"))
    model = ES("MlpPolicy", env, **{**SMALL, "num_workers": 1}).learn(200)
    model.es.close()
    env.close()
    played = model.es.trainer
    assert len(env.get_episode_rewards()) == played.total_episodes
    assert env.get_total_steps() == played.total_timesteps
    lines = (tmp_path / "run.monitor.csv").read_text().splitlines()
    assert lines[1] == "r,l,t"
    assert len(lines) == 2 + played.total_episodes


def test_a_schedule_is_followed_to_its_end():
    seen = []
    model = make(learning_rate=lambda left: 0.1 * left)
    model.learn(2000, lambda locals_, _: seen.append(locals_["metrics"]["train/learning_rate"]) or True)
    assert seen[0] == 0.1
    assert seen == sorted(seen, reverse=True)
    assert 0 < seen[-1] < 0.1


def test_a_trained_ppo_policy_is_taken_as_it_is_and_evolved(tmp_path):
    ppo = trained_ppo("CartPole-v1", policy_kwargs={"net_arch": [8], "activation_fn": nn.ReLU})
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    model = ES(ppo.policy, "CartPole-v1", **SMALL)
    assert model.policy is ppo.policy
    np.testing.assert_array_equal(model.predict(x)[0], ppo.predict(x, deterministic=True)[0])
    before = {name: p.clone() for name, p in ppo.policy.named_parameters()}
    model.learn(300)
    changed = {name.split(".")[0] + "." + name.split(".")[1] for name, p in ppo.policy.named_parameters()
               if not torch.equal(before[name], p)}  # fmt: skip
    assert changed == {"mlp_extractor.policy_net", "action_net.weight", "action_net.bias"}
    np.testing.assert_array_equal(model.predict(x)[0], ppo.predict(x, deterministic=True)[0])
    model.save(tmp_path / "evolved")
    again = ES.load(tmp_path / "evolved")
    assert again.policy_kwargs["activation_fn"] is nn.ReLU
    np.testing.assert_array_equal(again.predict(x)[0], model.predict(x)[0])
    ppo.learn(32)  # and back again: the policy is still PPO's


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "FrozenLake-v1"])
def test_policies_for_other_spaces_act_as_sb3_has_them_act(env_id):
    ppo = trained_ppo(env_id)
    model = ES(ppo.policy, env_id, num_workers=0, num_pairs=2, rules=EpisodeRules(max_steps=20))
    space = ppo.observation_space
    batch = np.stack([space.sample() for _ in range(16)])
    expected = ppo.predict(batch, deterministic=True)[0]
    np.testing.assert_allclose(model.predict(batch)[0], expected, rtol=1e-5, atol=1e-6)
    assert model.predict(space.sample())[0].shape == expected.shape[1:]
    model.learn(40)
    evaluate_policy(model, model.get_env(), 1)


def test_a_policy_of_a2c_and_its_optimiser_are_taken(tmp_path):
    a2c = A2C("MlpPolicy", "Pendulum-v1", seed=0, device="cpu").learn(10)
    model = ES(a2c.policy, "Pendulum-v1", num_workers=0, num_pairs=2, rules=EpisodeRules(max_steps=5))
    assert isinstance(model.es.strategy.centre.optimizer, torch.optim.RMSprop)
    model.learn(20).save(tmp_path / "m")
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_array_equal(ES.load(tmp_path / "m").predict(x)[0], a2c.predict(x, deterministic=True)[0])


def test_a_plain_policy_is_batched_as_a_chain():
    model = make(policy_kwargs={"activation_fn": nn.ReLU})
    assert isinstance(make_lanes(model.es.network, 4, model.es.policy.layout), MatmulLanes)


def test_a_squashed_policy_is_unscaled_as_sb3_does_it():
    env = Own(Box(-1, 1, (3,)), Box(np.float32(-2), np.float32(6), (2,)))
    ppo = trained_ppo(env, use_sde=True, policy_kwargs={"squash_output": True})
    model = ES(ppo.policy, env, **SMALL)
    x = env.observation_space.sample()
    np.testing.assert_allclose(model.predict(x)[0], ppo.predict(x, deterministic=True)[0], rtol=1e-5)


def test_dicts_and_pictures_with_channels_last():
    space = Dict(eye=Box(0, 255, (3, 36, 36), np.uint8), arm=Box(-1, 1, (2,)), gear=Discrete(3))
    ppo = PPO("MultiInputPolicy", Own(space), n_steps=8, batch_size=8, device="cpu")
    model = ES(ppo.policy, ppo.get_env(), **SMALL).learn(1)
    assert evaluate_policy(model, model.get_env(), 2)[0] == 4
    picture = Own(Box(0, 255, (36, 40, 3), np.uint8))
    model = ES("CnnPolicy", picture, **SMALL).learn(1)
    assert model.observation_space.shape == (3, 36, 40)
    last, first = picture.observation_space.sample(), model.get_env().reset()
    assert model.predict(last)[0] == model.policy.predict(last, deterministic=True)[0]
    assert model.predict(first)[0].shape == (1,)


def normalized(venv, **options):
    return VecNormalize(venv, norm_reward=False, **options)


def test_vec_normalize_is_taken_over_and_kept_up_to_date(tmp_path):
    vec = normalized(make_vec_env("CartPole-v1", 2, seed=0), clip_obs=3.0)
    ppo = trained_ppo(vec)
    model = ES(ppo.policy, vec, **SMALL)
    raw = np.random.default_rng(0).normal(size=(64, 4)) * [1, 2, 0.01, 2]
    expected = ppo.predict(vec.normalize_obs(raw), deterministic=True)[0]
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(raw))[0], expected)
    np.testing.assert_array_equal(model.es.predict(raw)[0], expected)
    np.testing.assert_allclose(
        model.es.policy.observation_norm(torch.from_numpy(raw)).numpy(), vec.normalize_obs(raw), rtol=1e-3, atol=1e-5
    )
    evaluation = EvalCallback(normalized(make_vec_env("CartPole-v1"), training=False), eval_freq=1, verbose=0)
    count = vec.obs_rms.count
    model.learn(300, evaluation)
    assert vec.obs_rms.count == pytest.approx(count + model.num_timesteps)
    np.testing.assert_array_equal(evaluation.eval_env.obs_rms.mean, vec.obs_rms.mean)
    np.testing.assert_array_equal(model.predict(vec.normalize_obs(raw))[0], model.es.predict(raw)[0])
    model.save(tmp_path / "m")
    plain = ES.load(tmp_path / "m")
    far = torch.from_numpy(9 * raw)  # beyond where observations are cut
    assert torch.equal(plain.es.policy.observation_norm(far), model.es.policy.observation_norm(far))
    np.testing.assert_array_equal(plain.predict(raw)[0], model.es.predict(raw)[0])
    other = normalized(make_vec_env("CartPole-v1"))
    np.testing.assert_array_equal(
        ES.load(tmp_path / "m", other).predict(other.normalize_obs(raw))[0], model.es.predict(raw)[0]
    )


@pytest.mark.parametrize(
    ("made", "env_id"),
    [
        (lambda: gym.make("CartPole-v1", render_mode="rgb_array"), "CartPole-v1"),
        (lambda: gym.make("CartPole-v1", max_episode_steps=7), None),
        (lambda: gym.wrappers.TimeLimit(Stepper(), 3), None),
        (lambda: gym.make("Locked-v0", length=4, disable_env_checker=True), None),
        (lambda: DummyVecEnv([lambda: Monitor(Stepper())]), None),
        (lambda: SubprocVecEnv([partial(gym.make, "CartPole-v1")]), "CartPole-v1"),
        (lambda: lambda: Stepper(3), None),
    ],
    ids=["id", "kwargs", "no spec", "cannot be copied", "dummy", "subprocess", "function"],
)
def test_every_kind_of_environment_can_be_made_by_workers(made, env_id):
    env = made()
    model = ES("MlpPolicy", env, **SMALL).learn(10)
    assert model._env_id == env_id
    limits = [int(n) for n in re.findall(r"max_episode_steps=(\d)\b", str(getattr(env, "spec", "")))]
    assert [max(e.length for e in model.es.trainer.played.episodes)] * len(limits) == limits
    cloudpickle.loads(cloudpickle.dumps(model.es._factory))().reset(seed=0)  # as a worker makes it
    model.get_env().close()


def test_set_env_changes_what_is_played_and_nothing_else():
    model = make().learn(50)
    theta = model.es.strategy.centre.theta
    model.set_env(gym.make("CartPole-v1", max_episode_steps=6))
    assert torch.equal(model.es.strategy.centre.theta, theta)
    model.learn(20)
    assert max(e.length for e in model.es.trainer.played.episodes) <= 6
    model.set_env(make_vec_env("CartPole-v1", 3))
    assert model.n_envs == 3
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        model.set_env("Acrobot-v1")


def test_parameters_go_from_model_to_model(tmp_path):
    one, other = make().learn(100), ES("MlpPolicy", "CartPole-v1", **{**SMALL, "seed": 7})
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    other.set_parameters(one.get_parameters())
    np.testing.assert_array_equal(other.predict(x)[0], one.predict(x)[0])
    assert torch.equal(other.es.strategy.centre.theta, one.es.strategy.centre.theta)
    one.learn(100).save(tmp_path / "one")
    other.set_parameters(tmp_path / "one")
    np.testing.assert_array_equal(other.predict(x)[0], one.predict(x)[0])
    ppo = trained_ppo("CartPole-v1")
    with pytest.raises(ValueError, match="Names of parameters do not match"):
        other.set_parameters({"policy": ppo.get_parameters()["policy"]})
    other.set_parameters({"policy": ppo.get_parameters()["policy"]}, exact_match=False)
    other.learn(50)


def test_noise_on_actions_only_where_it_is_not_deterministic():
    model = make(action_noise="epsilon:1")
    x = np.zeros((50, 4), np.float32)
    assert len(set(model.predict(x, deterministic=True)[0].tolist())) == 1
    assert len(set(model.predict(x)[0].tolist())) == 2


class OwnExtractor(FlattenExtractor):
    pass


def own_shaping(returns):
    return returns - returns.mean()


def test_what_a_file_cannot_hold_must_be_given_again(tmp_path, caplog):
    model = ES(
        "MlpPolicy",
        Stepper,
        lambda left: 0.02 * left,
        policy_kwargs={"features_extractor_class": OwnExtractor},
        shaping=own_shaping,
        **SMALL,
    )
    model.save(tmp_path / "m.zip")
    with pytest.raises(ValueError, match=r"`shaping` \(it was `own_shaping`\) must be given again"):
        ES.load(tmp_path / "m", Stepper)
    with pytest.raises(ValueError, match="`env` must be given"):
        ES.load(tmp_path / "m", shaping=own_shaping)
    with pytest.raises(ValueError, match="must be given with features_extractor_class"):
        ES.load(tmp_path / "m", Stepper, shaping=own_shaping)
    own = {"policy_kwargs": {"features_extractor_class": OwnExtractor}, "shaping": own_shaping}
    loaded = ES.load(tmp_path / "m", Stepper, custom_objects=own, num_workers=0, sigma=0.3)
    assert loaded.es.strategy.sigma == 0.3
    assert loaded.es.strategy.shaping is own_shaping
    assert "`learning_rate` was a function" in caplog.text
    x = np.zeros(3, np.float32)
    np.testing.assert_array_equal(loaded.predict(x)[0], model.predict(x)[0])


def test_a_pickled_model_of_sb3_is_not_opened(tmp_path):
    trained_ppo("CartPole-v1").save(tmp_path / "ppo")
    with pytest.raises(ValueError, match=r"was not saved by torch_es: it holds data.*give `ES` its `policy`"):
        ES.load(tmp_path / "ppo")


class Doubting(ActorCriticPolicy):
    """Acts by its network, and then otherwise."""

    def _predict(self, observation, deterministic=False):
        return 1 - super()._predict(observation, deterministic)


class Split(ActorCriticPolicy):
    def _build_mlp_extractor(self):
        super()._build_mlp_extractor()
        self.mlp_extractor.__class__ = type("Mine", (type(self.mlp_extractor),), {})


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("MlpPolicy", "Cartpoll-v1"), {}, ValueError, "Did you mean `CartPole-v1`"),
        (("LstmPolicy", "CartPole-v1"), {}, ValueError, "Policy LstmPolicy unknown"),
        (("MlpPolicy", "CartPole-v1"), {"n_steps": 2048}, ValueError, "`argument of ES with strategy=openai_es`"),
        (("MlpPolicy", "CartPole-v1"), {"optimizer": torch.optim.SGD}, ValueError, "`optimizer` is given as in Stable"),
        (("MlpPolicy", "CartPole-v1"), {"device": "cuda"}, ValueError, "`device` must be cpu or auto, got cuda"),
        ((nn.Linear(4, 2), "CartPole-v1"), {}, TypeError, "must be an ActorCriticPolicy .* got Linear"),
        ((Doubting, "CartPole-v1"), {}, ValueError, r"`policy` \(Doubting\) must act by its features extractor"),
        ((Split, "CartPole-v1"), {}, TypeError, "with SB3's own MlpExtractor"),
        (
            ("MlpPolicy", lambda: VecFrameStack(DummyVecEnv([Stepper]), 2)),
            {}, ValueError, "wrapped in VecFrameStack, which works on a VecEnv as a whole",
        ),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, options, error, message):
    policy, env = arguments
    with pytest.raises(error, match=message):
        ES(policy, env() if callable(env) else env, **options)


def test_what_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="`policy_kwargs` is for a policy that is made"):
        ES(make().policy, "CartPole-v1", policy_kwargs={"net_arch": [4]})
    with pytest.raises(ValueError, match=r"`policy` must be on the CPU, got meta; load its model with"):
        ES(make().policy.to("meta"), "CartPole-v1")
    with pytest.raises(ValueError, match="`exclude` and `include` name attributes"):
        make().save("nowhere", exclude=["env"])


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("torch_es.sb3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ImportError, match=r"extra `sb3`: pip install 'torch-evolution\[sb3\]'"):
        __import__("torch_es.sb3")
