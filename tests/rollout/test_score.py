"""Search by action noise alone: the score against analytic gradients, and learning with `sigma = 0`."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper
from torch import nn
from torch.distributions import Bernoulli, Categorical, Normal

from torch_es import ES
from torch_es.heads import make_action_noise, make_head
from torch_es.nn import ObservationNorm
from torch_es.policies import RecurrentNetwork
from torch_es.rollout.score import Scorer
from torch_es.spaces import Layout

BOX = gym.spaces.Box(-np.inf, np.inf, (3,))


def laws():
    """Space, head, noise, and torch's own log-probability of the action that the draws make."""
    two = gym.spaces.Box(-10, 10, (2,))
    yield two, "clip", "gaussian:0.5", lambda o, a: Normal(o, 0.5).log_prob(a).sum()
    yield two, "gaussian", "sample", lambda o, a: Normal(o[:, :2], o[:, 2:].exp()).log_prob(a).sum()
    yield gym.spaces.Discrete(4), "clip", "sample", lambda o, a: Categorical(logits=o).log_prob(a).sum()
    yield gym.spaces.MultiBinary(2), "clip", "sample", lambda o, a: Bernoulli(logits=o).log_prob(a.float()).sum()
    multi = gym.spaces.MultiDiscrete([2, 3])
    yield (
        multi,
        "clip",
        "sample",
        lambda o, a: (
            Categorical(logits=o[:, :2]).log_prob(a[:, 0]) + Categorical(logits=o[:, 2:]).log_prob(a[:, 1])
        ).sum(),
    )
    binned = gym.spaces.Box(-1, 1, (2,))
    yield (
        binned,
        "uniform:3",
        "sample",
        lambda o, a: Categorical(logits=o.reshape(-1, 2, 3)).log_prob((a + 1).round().long()).sum(),
    )
    both = gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Discrete(3)])
    yield (
        both,
        "clip",
        "sample",
        lambda o, a: (Categorical(logits=o[:, :2]).log_prob(a[0]) + Categorical(logits=o[:, 2:]).log_prob(a[1])).sum(),
    )
    yield (  # a part without noise has no say in the score
        gym.spaces.Tuple([gym.spaces.Discrete(2), BOX]),
        "clip",
        "sample",
        lambda o, a: Categorical(logits=o[:, :2]).log_prob(a[0]).sum(),
    )


LAWS = {f"{space} {box_head} {given}": (space, box_head, given, law) for space, box_head, given, law in laws()}


@pytest.mark.parametrize("name", LAWS)
def test_the_score_is_the_gradient_of_the_log_probability(name):
    space, box_head, given, law = LAWS[name]
    head = make_head(space, box_head)
    noise = make_action_noise(space, head, given)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, head.size))
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((6, 3), dtype=np.float32)
    draws = np.stack([noise.draw(generator) for _ in range(6)])
    scorer = Scorer(network, Layout(BOX), noise)
    scorer.begin(torch.cat([p.detach().reshape(-1) for p in network.parameters()]))
    output = network(torch.from_numpy(rows))
    actions = noise(output.detach().numpy(), draws)
    taken = tuple(torch.from_numpy(a) for a in actions) if isinstance(actions, tuple) else torch.from_numpy(actions)
    law(output, taken).backward()
    expected = torch.cat([p.grad.reshape(-1) for p in network.parameters()])
    torch.testing.assert_close(scorer.score(rows, draws), expected, rtol=1e-3, atol=1e-4)


class OneStep(Stepper):
    """One step; the reward is the squared distance of the action to 0.5."""

    action_space = gym.spaces.Box(-10, 10, (1,))

    def step(self, action):
        observation, _, _, _, info = super().step(action)
        return observation, -float((action[0] - 0.5) ** 2), True, False, info


def test_the_estimate_is_the_analytic_gradient_of_a_quadratic():
    """E[-(mean + std*eps - 0.5)^2] has the gradient -2 * (mean - 0.5) in the mean, here a bias."""
    network = nn.Linear(3, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.fill_(-0.25)
    network.weight.requires_grad_(False)
    seen = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(-float(network.bias.grad))

    options = {"sigma": 0, "action_noise": "gaussian:0.3", "num_workers": 0, "num_pairs": 4000, "num_lanes": 64}
    with ES(network, OneStep, optimizer=lambda p: Spy(p, lr=1.0), shaping="identity", eval_every=0, **options) as es:
        es.learn(1)
    # deviation of w*score at this point is about 2.9, of the mean of 8000 then 0.03
    assert seen[0] == pytest.approx(1.5, abs=0.15)


def test_actions_alone_learn_and_workers_do_not_matter(caplog):
    first, second = (learned(num_workers) for num_workers in (0, 2))
    assert torch.equal(first, second)
    assert "score function" in caplog.text


def learned(num_workers):
    torch.manual_seed(1)
    network = nn.Linear(3, 1)
    options = {"sigma": 0, "action_noise": "gaussian:0.3", "num_pairs": 16, "eval_every": 0, "seed": 4}
    optimizer = lambda p: torch.optim.Adam(p, lr=0.03)  # noqa: E731
    with ES(network, Stepper, optimizer=optimizer, num_workers=num_workers, **options) as es:
        before = np.mean([r.return_ for r in es.evaluate(20)])
        es.learn(16 * 2 * 5 * 40)
        after = np.mean([r.return_ for r in es.evaluate(20)])
        assert all(r.score is None for r in es.evaluate(2))
    assert after > before / 3  # returns are distances, negative
    return network.weight.detach()


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (lambda: nn.Linear(3, 1), {}, "`sigma` must be positive, got 0: without `action_noise`"),
        (lambda: RecurrentNetwork(3, 1), {"action_noise": "gaussian:1"}, "networks without a state"),
        (lambda: Signs(), {"action_noise": "gaussian:1"}, "autograd can go through"),
    ],
)
def test_what_cannot_be_searched_is_refused(network, options, message):
    with pytest.raises(ValueError, match=message), ES(network(), Stepper, sigma=0, num_workers=0, **options) as es:
        es.learn(1)


class Signs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x):
        return torch.sign(self.linear(x))


def test_epsilon_alone_cannot_be_searched_by():
    space = gym.spaces.Discrete(3)
    with pytest.raises(ValueError, match="epsilon:P alone cannot be searched by"):
        Scorer(nn.Linear(3, 3), Layout(BOX), make_action_noise(space, make_head(space), "epsilon:0.1"))


class Rule(nn.Module):
    """Which layer answers follows from the observation."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x):
        return self.first(x) if x[0, 1].item() < 2 else self.second(x)


def test_a_rule_is_asked_in_each_step():
    options = {"sigma": 0, "action_noise": "gaussian:0.3", "num_workers": 0, "num_pairs": 2}
    with ES(Rule(), Stepper, **options) as es:
        score = es.play(member=0).score
    assert (score.reshape(2, -1) != 0).any(1).all()


def test_a_score_is_of_the_observations_as_the_member_saw_them():
    space = gym.spaces.Box(-np.inf, np.inf, (1,))
    noise = make_action_noise(space, make_head(space), "gaussian:1")
    scorer = Scorer(nn.Sequential(ObservationNorm(1), nn.Linear(1, 1)), Layout(space), noise)
    scorer.begin(torch.zeros(2), (np.array([10.0]), np.array([2.0])))
    score = scorer.score(np.array([[14.0]], np.float32), np.array([[1.0]], np.float32))
    assert score.tolist() == [2.0, 1.0]  # (14 - 10) / 2
