"""What a user of Stable-Baselines3 does, with the real Stable-Baselines3."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from sb3_helpers import SMALL, Own, make, trained_ppo
from stable_baselines3 import A2C
from stable_baselines3.common.evaluation import evaluate_policy
from test_from_outside import RandomSearch
from torch import nn

from torch_es import EpisodeRules
from torch_es import es as evolution
from torch_es.lanes import make_lanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.sb3 import ES
from torch_es.search import STRATEGIES


def test_it_learns_and_sb3_evaluates_it():
    model = ES("MlpPolicy", "CartPole-v1", sigma=0.1, num_pairs=16, num_workers=0, seed=1, learning_rate=0.05)
    assert model.learn(60_000) is model
    mean, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=5)
    assert mean > 300
    assert model.num_timesteps == model.es.trainer.total_timesteps >= 60_000
    assert model.ep_info_buffer[-1]["l"] == model.es.trainer.played.lengths[-1, -1]


def test_the_same_seed_gives_the_same_model_and_touches_no_global_generator():
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - SB3's are the global ones
    one, other = make().learn(300), make().learn(300)
    assert torch.equal(one.es.strategy.theta, other.es.strategy.theta)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert ES("MlpPolicy", "CartPole-v1").seed != ES("MlpPolicy", "CartPole-v1").seed


def test_num_timesteps_starts_at_zero_or_continues():
    model = make().learn(100)
    first = model.num_timesteps
    assert model.learn(100, reset_num_timesteps=False).num_timesteps >= first + 100
    both = model.num_timesteps
    assert model.es.trainer.total_timesteps == both
    model.learn(100)
    assert model.num_timesteps == model.es.trainer.total_timesteps - both >= 100


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
    assert isinstance(model.es.strategy.optimizer, torch.optim.RMSprop)
    model.learn(20).save(tmp_path / "m")
    x = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    np.testing.assert_array_equal(ES.load(tmp_path / "m").predict(x)[0], a2c.predict(x, deterministic=True)[0])


def optimiser(model):
    return type(model.strategy.optimizer), model.strategy.optimizer.defaults


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_has_the_optimiser_that_it_has_in_torch_es(strategy, tmp_path):
    model = make(strategy=strategy)
    assert optimiser(model.es) == optimiser(evolution.ES(nn.Linear(4, 2), "CartPole-v1", strategy=strategy))
    model.save(tmp_path / "m")
    assert optimiser(ES.load(tmp_path / "m", num_workers=0).es) == optimiser(model.es)


def test_an_optimiser_and_a_rate_of_ones_own_take_precedence():
    adam = {"optimizer_class": torch.optim.Adam}
    rates = {}
    for name, given in (("rate", {"learning_rate": 0.3}), ("class", {"policy_kwargs": adam})):
        model = make(strategy="snes", **given)
        rates[name] = type(model.policy.optimizer), model.es.strategy.optimizer.defaults["lr"]
    assert rates == {"rate": (torch.optim.SGD, 0.3), "class": (torch.optim.Adam, 0.02)}
    ppo = trained_ppo("CartPole-v1")
    model = ES(ppo.policy, "CartPole-v1", strategy="snes", **SMALL)
    assert optimiser(model.es)[1]["lr"] == 0.02
    assert type(model.es.strategy.optimizer) is torch.optim.Adam


def test_a_plain_policy_is_batched_as_a_chain():
    model = make(policy_kwargs={"activation_fn": nn.ReLU})
    assert isinstance(make_lanes(model.es.network, 4, model.es.policy.layout), MatmulLanes)


def test_a_squashed_policy_is_unscaled_as_sb3_does_it():
    env = Own(Box(-1, 1, (3,)), Box(np.float32(-2), np.float32(6), (2,)))
    ppo = trained_ppo(env, use_sde=True, policy_kwargs={"squash_output": True})
    model = ES(ppo.policy, env, **SMALL)
    x = env.observation_space.sample()
    np.testing.assert_allclose(model.predict(x)[0], ppo.predict(x, deterministic=True)[0], rtol=1e-5)


def test_parameters_go_from_model_to_model(tmp_path):
    one, other = make().learn(100), ES("MlpPolicy", "CartPole-v1", **{**SMALL, "seed": 7})
    x = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    other.set_parameters(one.get_parameters())
    np.testing.assert_array_equal(other.predict(x)[0], one.predict(x)[0])
    assert torch.equal(other.es.strategy.theta, one.es.strategy.theta)
    one.learn(100).save(tmp_path / "one")
    other.set_parameters(tmp_path / "one")
    np.testing.assert_array_equal(other.predict(x)[0], one.predict(x)[0])
    ppo = trained_ppo("CartPole-v1")
    with pytest.raises(
        ValueError, match=r"(?s)Missing key.*features_extractor\.norm\.mean.* With `exact_match=False` wh"
    ):
        other.set_parameters({"policy": ppo.get_parameters()["policy"]})
    other.set_parameters({"policy": ppo.get_parameters()["policy"]}, exact_match=False)
    other.learn(50)


def test_a_strategy_of_ones_own_needs_no_optimiser():
    def search(policy, seed, optimizer):
        return RandomSearch(policy, seed=seed)

    model = ES("MlpPolicy", "CartPole-v1", lambda left: left, strategy=search, num_workers=0, seed=0).learn(200)
    theta = model.es.strategy.theta.clone()
    model.set_parameters(model.get_parameters())
    assert torch.equal(model.es.strategy.theta, theta)


def test_noise_on_actions_only_where_it_is_not_deterministic():
    model = make(action_noise="epsilon:1")
    x = np.zeros((50, 4), np.float32)
    assert len(set(model.predict(x, deterministic=True)[0].tolist())) == 1
    assert len(set(model.predict(x)[0].tolist())) == 2


def test_actions_have_the_types_and_shapes_that_sb3_gives_them():
    model, a2c = make(), A2C("MlpPolicy", "CartPole-v1", device="cpu")
    for observation in (model.observation_space.sample(), model.get_env().reset()):
        ours, theirs = model.predict(observation)[0], a2c.predict(observation)[0]
        assert (type(ours), ours.shape, ours.dtype) == (type(theirs), theirs.shape, theirs.dtype)
    with pytest.raises(ValueError, match="mixing Gym API"):
        model.predict(gym.make("CartPole-v1").reset())


def test_the_environment_is_seeded_where_sb3_seeds_it():
    ours, a2c = make().get_env(), A2C("MlpPolicy", "CartPole-v1", seed=0, device="cpu").get_env()
    np.testing.assert_array_equal(ours.reset(), a2c.reset())


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("torch_es.sb3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ImportError, match=r"extra `sb3`: pip install 'torch-evolution\[sb3\]'"):
        __import__("torch_es.sb3")
