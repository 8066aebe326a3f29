"""Agents built like CleanRL's are evolved as they are; agents that act in another way are refused."""

import copy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper
from torch import nn
from torch.distributions import Categorical, Normal

from torch_es import ES
from torch_es.adapters import from_cleanrl
from torch_es.lanes import make_lanes
from torch_es.lanes.matmul import MatmulLanes

SMALL = {"num_pairs": 2, "num_workers": 0, "sigma": 0.5}


class Showing(gym.Env):
    """Shows something of a space for three steps."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, space):
        self.observation_space = copy.deepcopy(space)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(1000)))
        self.left = 3
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        return self.observation_space.sample(), 1.0, self.left == 0, False, {}


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


class Roughly(Moving):
    """As in CleanRL's rpo_continuous_action.py: actions are judged around a mean that is shifted at random."""

    def get_action_and_value(self, x, action=None):
        if action is None:
            return super().get_action_and_value(x)
        mean = self.actor_mean(x)
        probs = Normal(mean + torch.empty_like(mean).uniform_(-0.5, 0.5), self.actor_logstd.expand_as(mean).exp())
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.critic(x)


class Block(nn.Module):
    """Insists on the size that it was made for, as the convolutions of ppo_procgen.py and ppg_procgen.py do."""

    def __init__(self, shape, out_channels):
        super().__init__()
        self.shape, self.conv = shape, nn.Conv2d(shape[0], out_channels, 3, padding=1)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.conv(x), 3, 2, 1)
        assert x.shape[2:] == ((self.shape[1] + 1) // 2, (self.shape[2] + 1) // 2)
        return x


class Exploring(Choosing):
    """As in CleanRL's ppo_procgen.py: pictures of 64x64 with channels last."""

    def __init__(self):
        super().__init__()
        layers = (Block((3, 64, 64), 4), nn.Flatten(), nn.ReLU(), nn.Linear(4 * 32 * 32, 4), nn.ReLU())
        self.network = nn.Sequential(*layers)

    def get_action_and_value(self, x, action=None):
        return super().get_action_and_value(self.network(x.permute((0, 3, 1, 2)) / 255.0), action)


class Auxiliary(Exploring):
    """As in CleanRL's ppg_procgen.py: with a second value, and a way to the first that no gradient takes."""

    def __init__(self):
        super().__init__()
        self.aux_critic = nn.Linear(4, 1)

    def get_action_and_value(self, x, action=None):
        action, likely, entropy, _ = super().get_action_and_value(x, action)
        return action, likely, entropy, self.critic(self.network(x.permute((0, 3, 1, 2)) / 255.0).detach())


class Remembering(Choosing):
    """As in CleanRL's ppo_atari_lstm.py: a state, and where an episode ended."""

    def __init__(self, network=None):
        super().__init__()
        if network is not None:
            self.network = network
        self.lstm = nn.LSTM(4, 4)

    def get_states(self, x, lstm_state, done):
        hidden = self.network(x / 255.0) if hasattr(self, "network") else x
        batch_size = lstm_state[0].shape[1]
        states = []
        for h, d in zip(hidden.reshape(-1, batch_size, 4), done.reshape(-1, batch_size), strict=True):
            kept = tuple((1.0 - d).view(1, -1, 1) * s for s in lstm_state)
            h, lstm_state = self.lstm(h.unsqueeze(0), kept)
            states.append(h)
        return torch.flatten(torch.cat(states), 0, 1), lstm_state

    def get_action_and_value(self, x, lstm_state, done, action=None):
        hidden, lstm_state = self.get_states(x, lstm_state, done)
        return *super().get_action_and_value(hidden, action), lstm_state


class Contrary(Choosing):
    def get_action_and_value(self, x, action=None):
        return super().get_action_and_value(-x, action)


class Leaning(Moving):
    def get_action_and_value(self, x, action=None):
        action, *rest = super().get_action_and_value(x, action)
        return action + 1, *rest


class Insisting(Choosing):
    def get_action_and_value(self, x, action=None):
        raise AssertionError


def altered(kind, change, spread):
    """An agent that changes its observations first, with a last layer as small as CleanRL begins with."""

    class Altered(kind):
        def get_action_and_value(self, x, action=None):
            return super().get_action_and_value(change(x), action)

    agent = Altered()
    last = (agent.actor_mean if kind is Moving else agent.actor)[-1]
    with torch.no_grad():
        last.weight.copy_(spread * nn.functional.normalize(last.weight))
        last.bias.zero_()
    return agent


@pytest.mark.parametrize(("kind", "env"), [(Choosing, "CartPole-v1"), (Moving, Stepper), (Roughly, Stepper)])
def test_an_agent_of_cleanrl_is_evolved_in_place_and_only_where_it_acts(kind, env):
    agent = kind()
    before = {name: p.clone() for name, p in agent.named_parameters()}
    es = ES(from_cleanrl(agent), env, **SMALL).learn(50)
    changed = {name.split(".")[0] for name, p in agent.named_parameters() if not torch.equal(before[name], p)}
    assert changed <= {"actor", "actor_mean"}
    assert changed
    layout = es.policy.layout
    assert isinstance(make_lanes(es.network, 2, layout), MatmulLanes)


PICTURES = {Watching: (4, 84, 84), Exploring: (64, 64, 3), Auxiliary: (64, 64, 3)}


@pytest.mark.parametrize("kind", PICTURES)
def test_an_agent_that_sees_pictures_acts_by_its_network_and_actor(kind):
    agent = kind()
    space = gym.spaces.Box(0, 255, PICTURES[kind], np.uint8)
    es = ES(from_cleanrl(agent), partial(Showing, space), **SMALL)
    pictures = np.stack([space.sample() for _ in range(5)])
    expected = [agent.get_action_and_value(torch.from_numpy(pictures).float(), torch.full((5,), a))[1] for a in (0, 1)]
    np.testing.assert_array_equal(es.predict(pictures)[0], torch.stack(expected, 1).argmax(1).numpy())
    assert {id(p) for p in es.network.parameters()} < {id(p) for p in agent.parameters()}
    es.learn(1)


def test_an_agent_with_a_memory_keeps_it_from_step_to_step():
    agent = Remembering()
    es = ES(from_cleanrl(agent), "CartPole-v1", **SMALL)
    ours, theirs = None, (torch.zeros(1, 1, 4), torch.zeros(1, 1, 4))
    for observation in np.random.default_rng(0).normal(size=(6, 1, 4)).astype(np.float32):
        x, going = torch.from_numpy(observation), torch.zeros(1)
        told = [agent.get_action_and_value(x, theirs, going, torch.tensor([a])) for a in (0, 1)]
        action, ours = es.predict(observation, ours)
        assert action[0] == int(told[1][1] > told[0][1])
        theirs = told[0][-1]
        torch.testing.assert_close(tuple(s.transpose(0, 1) for s in ours), theirs)
    before = [p.clone() for p in agent.lstm.parameters()]
    es.learn(50)
    assert not any(map(torch.equal, before, agent.lstm.parameters()))
    watching = Remembering(nn.Sequential(nn.Conv2d(1, 2, 8, stride=8), nn.ReLU(), nn.Flatten(), nn.Linear(200, 4)))
    assert sum(p.numel() for p in from_cleanrl(watching).parameters()) > 0


def test_trying_an_agent_draws_nothing_from_the_global_generator():
    agent, before = Roughly(), torch.random.get_rng_state()
    from_cleanrl(agent)
    assert torch.equal(before, torch.random.get_rng_state())


CHANGES = [torch.tanh, lambda x: x / 10, lambda x: x.clamp(-1, 1), lambda x: -x, lambda x: x + 0.05]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [Choosing, Moving])
def test_an_agent_that_changes_its_observations_first_is_refused(kind, change):
    for spread in (1.0, 0.01):
        assert from_cleanrl(altered(kind, lambda x: x, spread))
        with pytest.raises(ValueError, match="does not act by these layers alone"):
            from_cleanrl(altered(kind, change, spread))


class Bending(Moving):
    def __init__(self, bend):
        super().__init__()
        self.bend = bend

    def get_action_and_value(self, x, action=None):
        probs = Normal(self.bend(self.actor_mean(x)), self.actor_logstd.exp())
        action = probs.sample() if action is None else action
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.critic(x)


@pytest.mark.parametrize("bend", [torch.tanh, torch.sin, lambda mean: mean.clamp(-5, 5)])
def test_what_is_done_to_the_means_is_seen_although_a_new_agents_are_almost_zero(bend):
    agent = Bending(bend)
    nn.init.normal_(agent.actor_mean[2].weight, std=1e-5)
    nn.init.zeros_(agent.actor_mean[2].bias)
    with pytest.raises(ValueError, match="does not act by these layers alone"):
        from_cleanrl(agent)
    agent.bend = nn.Identity()
    assert from_cleanrl(agent) is agent.actor_mean


@pytest.mark.parametrize(
    ("agent", "error", "message"),
    [
        (nn.Linear(4, 2), TypeError, "`agent` must have `get_action_and_value`"),
        (Contrary(), ValueError, r"`agent` \(Contrary\) does not act by these layers alone"),
        (Leaning(), ValueError, r"`agent` \(Leaning\) does not act by these layers alone"),
        (Insisting(), ValueError, r"`agent` \(Insisting\) could not be tried: AssertionError\."),
    ],
)
def test_agents_that_act_otherwise_are_refused(agent, error, message):
    with pytest.raises(error, match=message):
        from_cleanrl(agent)
