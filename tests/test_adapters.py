"""Agents of CleanRL's kind and real actors of TorchRL, taken as they are and evolved."""

import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper
from tensordict import TensorDict
from tensordict.nn import InteractionType, NormalParamExtractor, TensorDictModule, set_interaction_type
from torch import nn
from torch.distributions import Categorical, Normal
from torchrl.modules import OneHotCategorical, ProbabilisticActor, QValueActor, TanhNormal

from torch_es import ES
from torch_es.adapters import from_cleanrl, from_tensordict
from torch_es.lanes import make_lanes
from torch_es.lanes.matmul import MatmulLanes
from torch_es.lanes.modules import TracedLanes
from torch_es.spaces import Layout

SMALL = {"num_pairs": 2, "num_workers": 0, "sigma": 0.5}


class Choosing(nn.Module):
    """As in CleanRL's ppo.py."""

    def __init__(self):
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.critic = nn.Linear(4, 1)

    def get_action_and_value(self, x, action=None):
        probs = Categorical(logits=self.actor(x))
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


class Moving(nn.Module):
    """As in CleanRL's ppo_continuous_action.py."""

    def __init__(self):
        super().__init__()
        self.actor_mean = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        self.actor_logstd = nn.Parameter(torch.zeros(1, 1))
        self.critic = nn.Linear(3, 1)

    def get_action_and_value(self, x, action=None):
        mean = self.actor_mean(x)
        probs = Normal(mean, self.actor_logstd.expand_as(mean).exp())
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.critic(x)


class Watching(Choosing):
    """As in CleanRL's ppo_atari.py."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(4, 2, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(200, 4))

    def get_action_and_value(self, x, action=None):
        return super().get_action_and_value(self.network(x / 255.0), action)


class Contrary(Choosing):
    def get_action_and_value(self, x, action=None):
        return super().get_action_and_value(-x, action)


class Leaning(Moving):
    def get_action_and_value(self, x, action=None):
        return super().get_action_and_value(x, None if action is None else action + 1)


class Recurrent(Choosing):
    def get_action_and_value(self, x, state, done, action=None):
        raise AssertionError


@pytest.mark.parametrize(("kind", "env"), [(Choosing, "CartPole-v1"), (Moving, Stepper)])
def test_an_agent_of_cleanrl_is_evolved_in_place_and_only_where_it_acts(kind, env):
    agent = kind()
    before = {name: p.clone() for name, p in agent.named_parameters()}
    es = ES(from_cleanrl(agent), env, **SMALL).learn(50)
    changed = {name.split(".")[0] for name, p in agent.named_parameters() if not torch.equal(before[name], p)}
    assert changed <= {"actor", "actor_mean"}
    assert changed
    layout = es.policy.layout
    assert isinstance(make_lanes(es.network, 2, layout), MatmulLanes)


def test_an_agent_that_sees_pictures_acts_by_its_network_and_actor():
    agent = Watching()
    pictures = 255 * torch.rand(5, 4, 84, 84)
    way = from_cleanrl(agent)
    torch.testing.assert_close(way(pictures), agent.actor(agent.network(pictures / 255.0)))
    assert {id(p) for p in way.parameters()} < {id(p) for p in agent.parameters()}


@pytest.mark.parametrize(
    ("agent", "error", "message"),
    [
        (nn.Linear(4, 2), TypeError, "`agent` must have `get_action_and_value`"),
        (Contrary(), ValueError, r"`agent` \(Contrary\) does not act by these layers alone"),
        (Leaning(), ValueError, r"`agent` \(Leaning\) does not act by these layers alone"),
        (Recurrent(), ValueError, r"`agent` \(Recurrent\) could not be tried"),
    ],
)
def test_agents_that_act_otherwise_are_refused(agent, error, message):
    with pytest.raises(error, match=message):
        from_cleanrl(agent)


def gaussian_actor():
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2), NormalParamExtractor())
    module = TensorDictModule(network, in_keys=["observation"], out_keys=["loc", "scale"])
    options = {"distribution_class": TanhNormal, "distribution_kwargs": {"low": -2.0, "high": 2.0}}
    return ProbabilisticActor(module, in_keys=["loc", "scale"], return_log_prob=True, **options)


def choosing_actor():
    module = TensorDictModule(nn.Linear(4, 2), in_keys=["observation"], out_keys=["logits"])
    return ProbabilisticActor(module, in_keys=["logits"], distribution_class=OneHotCategorical)


def value_actor():
    return QValueActor(nn.Linear(4, 2), in_keys=["observation"], action_space="one-hot")


@pytest.mark.parametrize(
    ("make", "env_id"), [(gaussian_actor, "Pendulum-v1"), (choosing_actor, "CartPole-v1"), (value_actor, "CartPole-v1")]
)
def test_an_actor_of_torchrl_acts_as_it_does_and_is_evolved_in_place(make, env_id):
    actor = make()
    es = ES(from_tensordict(actor), env_id, **SMALL)
    x = torch.randn(16, es.policy.layout.size)
    with torch.no_grad(), set_interaction_type(InteractionType.DETERMINISTIC):
        action = actor(TensorDict(observation=x, batch_size=[16]))["action"]
    expected = action if env_id == "Pendulum-v1" else action.long().argmax(1)
    np.testing.assert_allclose(es.predict(x.numpy())[0], expected.numpy(), rtol=1e-5)
    before = [p.clone() for p in actor.parameters()]
    es.learn(50)
    assert not all(map(torch.equal, before, actor.parameters()))


def test_an_actor_of_torchrl_is_batched_over_lanes():
    lanes = make_lanes(from_tensordict(gaussian_actor()), 2, Layout(gym.spaces.Box(-1, 1, (3,))))
    assert isinstance(lanes, TracedLanes)


class Joint(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, arm, gear):
        return self.linear(torch.cat([arm, gear], 1))


def test_an_actor_of_several_keys_reads_the_leaves_of_a_dict():
    actor = TensorDictModule(Joint(), in_keys=["arm", "gear"], out_keys=["logits"])
    output = from_tensordict(actor)({"arm": torch.ones(5, 1), "gear": torch.zeros(5, 2)})
    torch.testing.assert_close(output, actor(torch.ones(5, 1), torch.zeros(5, 2)))


def test_modules_without_an_action_are_refused(monkeypatch):
    with pytest.raises(TypeError, match="`actor` must be a TensorDictModule, got Linear"):
        from_tensordict(nn.Linear(1, 1))
    with pytest.raises(TypeError, match="`actor` must write `logits` or `action`, but writes value"):
        from_tensordict(TensorDictModule(nn.Linear(3, 1), in_keys=["observation"], out_keys=["value"]))
    monkeypatch.setitem(sys.modules, "tensordict.nn", None)
    with pytest.raises(ImportError, match=r"extra `torchrl`: pip install 'torch-evolution\[torchrl\]'"):
        from_tensordict(nn.Linear(1, 1))
