"""Recurrent policies: the state belongs to the lane and starts anew with each episode."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper, boxed, played_alike
from sample_spaces import BOX1, BOX3
from torch import nn

from torch_es import ES, Policy
from torch_es.envs.rules import EpisodeRules
from torch_es.lanes.choice import make_lanes
from torch_es.lanes.modules import CopiedLanes, TracedLanes
from torch_es.nn import HebbianLinear, QuantizedWeights, binarize, convert_batch_norm
from torch_es.policies import RecurrentNetwork
from torch_es.search.parameters import FlatParameters


class Layered(nn.Module):
    """torch's own recurrent layers, one step at a time."""

    def __init__(self, kind):
        super().__init__()
        self.layer = getattr(nn, kind)(4, 5, num_layers=2, batch_first=True)
        self.output = nn.Linear(5, 2)

    def initial_state(self, batch_size):
        zeros = torch.zeros(batch_size, 2, 5)
        return {"h": zeros, "c": zeros} if isinstance(self.layer, nn.LSTM) else {"h": zeros}

    def forward(self, observation, state):
        state = [s.transpose(0, 1).contiguous() for s in state.values()]  # torch's layers have the batch second
        out, state = self.layer(observation[:, None], tuple(state) if len(state) > 1 else state[0])
        state = [s.transpose(0, 1) for s in (state if isinstance(state, tuple) else [state])]
        return self.output(out[:, 0]), dict(zip("hc", state, strict=False))


class Counter(nn.Module):
    """Answers how often it was called, scaled; its start is a parameter."""

    def __init__(self):
        super().__init__()
        self.start, self.scale = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.ones(1))

    def initial_state(self, batch_size):
        return self.start.expand(batch_size, 1)

    def forward(self, observation, state):
        state = state + 1
        return state * self.scale + 0 * observation[:, :1], state


class Branching(RecurrentNetwork):
    def forward(self, observation, state):
        return super().forward(observation if observation.sum() > 0 else -observation, state)


NETWORKS = {
    **{kind: (lambda kind=kind: RecurrentNetwork(4, 2, kind, 5, output_scale=1.0)) for kind in ("rnn", "gru", "lstm")},
    **{f"torch {kind}": (lambda kind=kind: Layered(kind)) for kind in ("RNN", "GRU", "LSTM")},
    "hebbian": lambda: HebbianLinear(4, 2),
    "binary": lambda: QuantizedWeights(RecurrentNetwork(4, 2, "gru", 5, output_scale=1.0), binarize),
}


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_batched_lanes_answer_as_single_networks_over_an_episode(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    lanes = make_lanes(network, 3, boxed(4))
    assert isinstance(lanes, TracedLanes)
    rng = np.random.default_rng(0)
    singles = [copy.deepcopy(network) for _ in range(3)]
    states = [network.initial_state(1) for _ in range(3)]
    for lane, single in enumerate(singles):
        parameters = FlatParameters(single)
        theta = parameters.read_masters() + torch.from_numpy(rng.standard_normal(parameters.dim, dtype=np.float32))
        parameters.write_module(theta)
        lanes.write(lane, theta)
    for step in range(6):
        rows = rng.standard_normal((3, 4), dtype=np.float32)
        if step == 3:  # the middle lane begins another episode
            lanes.write(1, FlatParameters(singles[1]).read_masters())
            states[1] = network.initial_state(1)
        answers = lanes.forward(rows, range(3))
        for lane, single in enumerate(singles):
            expected, states[lane] = single(torch.from_numpy(rows[lane : lane + 1]), states[lane])
            np.testing.assert_allclose(answers[lane], expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "kind"), [(Counter, TracedLanes), (lambda: Branching(4, 1), CopiedLanes)])
def test_the_state_starts_anew_for_the_written_lane_alone(make, kind):
    torch.manual_seed(0)
    network = make()
    lanes = make_lanes(network, 2, boxed(4))
    assert type(lanes) is kind
    theta = FlatParameters(network).read_masters()
    rows = np.ones((2, 4), np.float32)
    lanes.write(0, theta), lanes.write(1, theta)
    with torch.no_grad():
        first = lanes.forward(rows, [0, 1]).copy()
        second = lanes.forward(rows, [0, 1]).copy()
        lanes.write(0, theta)
        third = lanes.forward(rows, [0, 1])
    np.testing.assert_array_equal(third[0], first[0])
    assert third[1] != second[1]


def test_an_initial_state_may_be_learned():
    lanes = make_lanes(Counter(), 2, boxed(4))
    lanes.write(0, torch.tensor([3.0, 1.0])), lanes.write(1, torch.tensor([7.0, 1.0]))
    assert lanes.forward(np.zeros((2, 4), np.float32), [0, 1])[:, 0].tolist() == [4.0, 8.0]


def test_processes_and_other_lanes_give_the_same_bits():
    policy = RecurrentNetwork(3, 1, "lstm", 6, output_scale=1.0)
    played_alike(Policy(policy, Stepper.observation_space, Stepper.action_space), Stepper)


def test_predict_carries_the_state_and_starts_it_anew_where_told():
    with ES(Counter(), lambda: CountedTo(), num_pairs=2, num_workers=0) as es:
        x = np.zeros(3)
        action, state = es.predict(x)
        again, state = es.predict(x, state)
        assert (float(action[0]), float(again[0])) == (4.0, 5.0)
        batch, state = es.predict(np.zeros((2, 3)), torch.tensor([[5.0], [9.0]]), np.array([True, False]))
        assert batch[:, 0].tolist() == [4.0, 10.0]


class CountedTo(Stepper):
    action_space = gym.spaces.Box(-100, 100, (1,))


def test_evaluation_plays_what_predict_says():
    """The same path: an episode by hand, with the state handed on, has the return that `evaluate` gives."""
    with ES(RecurrentNetwork(3, 1, "gru", 6, output_scale=1.0), Stepper, num_pairs=4, num_workers=0, seed=3) as es:
        es.learn(100)
        (result,) = es.evaluate(1)
        env = Stepper()
        observation, _ = env.reset(seed=EpisodeRules().environment_seed(3, result.task))
        state, total, over = None, 0.0, False
        while not over:
            action, state = es.predict(observation, state)
            observation, reward, over, _, _ = env.step(action)
            total += reward
        assert total == pytest.approx(result.return_, rel=1e-5)


def test_virtual_batch_norm_in_a_recurrent_network():
    class Normed(RecurrentNetwork):
        def __init__(self):
            super().__init__(3, 1, "gru", 6, output_scale=1.0, normalize_observations=False)
            self.norm = nn.BatchNorm1d(3)

        def forward(self, observation, state):
            return super().forward(self.norm(observation), state)

    with ES(convert_batch_norm(Normed()), Stepper, num_pairs=2, num_workers=0) as es:
        es.learn(50)
        assert es.predict(np.zeros(3))[0].shape == (1,)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`kind` must be one of gru, lstm, rnn; got 'gruu'"):
        RecurrentNetwork(3, 2, "gruu")


def test_seeded_and_the_global_state_is_left():
    state = torch.get_rng_state()
    a, b, c = (RecurrentNetwork(3, 2, seed=s).cell.weight_ih for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_an_initial_state_that_is_no_tensor_is_named():
    network = RecurrentNetwork(3, 1)
    network.initial_state = lambda batch_size: None  # as torch's own cells take it
    with pytest.raises(TypeError, match=r"`policy\.initial_state` must return tensors, in any tree, got None"):
        Policy(network, BOX3, BOX1)


def test_a_state_without_the_batch_first_is_named():
    network = RecurrentNetwork(3, 1)
    network.initial_state = lambda batch_size: torch.zeros(1, batch_size, 8)  # as torch's own layers take it
    with pytest.raises(
        ValueError, match=r"initial_state\(5\)` must return tensors \(5, \.\.\.\), batch first, .* \(1, 5, 8\)"
    ):
        Policy(network, BOX3, BOX1)
