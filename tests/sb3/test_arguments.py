"""What ES cannot follow is refused, with the way out."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from sb3_helpers import SMALL, Own, make
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from torch_es.sb3 import ES

BOX = Box(-1, 1, (3,))


class Doubting(ActorCriticPolicy):
    """Takes the action that its network does not choose."""

    def _predict(self, observation, deterministic=False):
        return 1 - super()._predict(observation, deterministic)


class Squashing(ActorCriticPolicy):
    """A new one answers near zero, where the difference is too small to see."""

    def _predict(self, observation, deterministic=False):
        return torch.tanh(super()._predict(observation, deterministic))


class Split(ActorCriticPolicy):
    def _build_mlp_extractor(self):
        super()._build_mlp_extractor()
        self.mlp_extractor.__class__ = type("Mine", (type(self.mlp_extractor),), {})


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("MlpPolicy", "Cartpoll-v1"), {}, ValueError, "Did you mean `CartPole-v1`"),
        (("LstmPolicy", "CartPole-v1"), {}, ValueError, "Policy LstmPolicy unknown"),
        (("MlpPolicy", "CartPole-v1"), {"n_steps": 2048}, ValueError, "`n_steps` is an argument of PPO that means"),
        (("MlpPolicy", "CartPole-v1"), {"optimizer": torch.optim.SGD}, ValueError, "`optimizer` is given as in Stable"),
        (("MlpPolicy", "CartPole-v1"), {"device": "meta"}, ValueError, "`device` must be cpu or auto, got meta"),
        ((nn.Linear(4, 2), "CartPole-v1"), {}, TypeError, "must be an ActorCriticPolicy .* got Linear"),
        ((Doubting, "CartPole-v1"), {}, ValueError, r"`policy` \(Doubting\) must act by its features extractor"),
        ((Squashing, "Pendulum-v1"), {}, ValueError, r"`policy` \(Squashing\) must act by its features extractor"),
        ((Split, "CartPole-v1"), {}, TypeError, "with SB3's own MlpExtractor"),
        (("MlpPolicy", partial(Own, BOX, Discrete(3, start=2))), {}, ValueError, "must have choices that start at 0"),
        (("MlpPolicy", partial(Own, BOX, MultiDiscrete([2, 2], start=[0, 1]))), {}, ValueError, "that start at 0, as"),
        (("MlpPolicy", partial(Own, BOX, Box(0, 9, (2,), int))), {}, ValueError, "of floating-point numbers for act"),
        (("MlpPolicy", "Pendulum-v1"), {"action_noise": NormalActionNoise(np.zeros(1), np.ones(1))}, TypeError,
         "`action_noise` must be one of torch_es, as 'gaussian:0.1', got a NormalActionNoise of SB3"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused(arguments, options, error, message):
    policy, env = arguments
    with pytest.raises(error, match=message):
        ES(policy, env() if callable(env) else env, **options)


def test_what_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="`policy_kwargs` is for a new policy; the given one stays"):
        ES(make().policy, "CartPole-v1", policy_kwargs={"net_arch": [4]})
    with pytest.raises(ValueError, match=r"`policy` must be on the CPU, got meta; load its model with"):
        ES(make().policy.to("meta"), "CartPole-v1")


@pytest.mark.parametrize(("low", "high", "name"), [(-2, 1, "Observation"), (-1, 5, "Action")])
def test_a_given_policy_is_for_the_spaces_that_it_was_made_for(low, high, name):
    policy = ES("MlpPolicy", Own(BOX, Box(-1, 1, (1,))), **SMALL).policy
    assert ES(policy, Own(BOX, Box(-1, 1, (1,))), **SMALL).policy is policy
    with pytest.raises(ValueError, match=f"{name} spaces do not match"):
        ES(policy, Own(Box(low, 1, (3,)), Box(-1, high, (1,))), **SMALL)


class Masked(gym.Wrapper):
    """As sb3_contrib's ActionMasker."""

    def action_masks(self):
        return np.array([True, False])


def test_masks_of_actions_are_named_wherever_they_come_from(caplog):
    model = ES("MlpPolicy", Masked(gym.make("CartPole-v1")), num_workers=0)
    assert "`env` has `action_masks`, but action masks are not used; put the mask into the obs" in caplog.text
    with pytest.raises(TypeError, match="`action_masks` cannot be given: action masks are not used"):
        model.predict(np.zeros(4), action_masks=np.ones(2))
    policy = make().policy
    policy.__module__ = "sb3_contrib.common.maskable.policies"
    with pytest.raises(TypeError, match="`policy` must act by its observation alone, got ActorCriticPolicy: action m"):
        ES(policy, "CartPole-v1")


def test_a_model_a_policy_with_a_memory_and_a_vector_env_are_refused():
    with pytest.raises(TypeError, match="`policy` must be a policy, got a model, ES; give its `policy`"):
        ES(make(), "CartPole-v1")
    policy = make().policy
    policy.lstm_actor = nn.LSTM(4, 4)
    with pytest.raises(TypeError, match="`policy` must have no memory, got ActorCriticPolicy"):
        ES(policy, "CartPole-v1")
    with pytest.raises(TypeError, match=r"`env` must make one gymnasium\.Env, got SyncVectorEnv"):
        ES("MlpPolicy", lambda: gym.make_vec("CartPole-v1", 2, vectorization_mode="sync"))
