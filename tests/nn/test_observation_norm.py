import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from helpers import Stepper
from torch import nn

from torch_es import ES
from torch_es.envs.rules import EpisodeRules
from torch_es.nn import ObservationNorm
from torch_es.nn.moments import Moments
from torch_es.nn.observation_norm import normalize
from torch_es.policies import Concatenate, Policy, mlp
from torch_es.spaces import Layout


def test_observations_are_normalised_cut_and_floored():
    norm = ObservationNorm(3)
    norm.update(Moments.of(np.array([[0.0, 5.0, 0.0], [2.0, 5.0, 0.02]])))
    out = norm(torch.tensor([1.0, 5.4, 100.0]))
    np.testing.assert_allclose(out, [0.0, 4.0, 5.0], rtol=1e-6)  # floor 0.1 for the constant one, limit 5


def test_a_dict_a_picture_and_a_row_are_normalised_element_by_element():
    space = Dict(b=Box(-1, 1, (2, 2)), a=Discrete(3))
    norm = ObservationNorm(space)
    norm.update(Moments.of(np.random.default_rng(0).normal(3, 2, (50, 7))))
    rows = torch.randn(4, 7)
    layout = Layout(space)
    out = norm(dict(reversed(layout.inputs(rows).items())))  # the order of the keys is the space's
    expected = normalize(rows[:, :4].double().numpy(), (norm.scale[0][:4], norm.scale[1][:4]), norm.limits[:4])
    np.testing.assert_allclose(out["b"].flatten(1), expected, rtol=1e-6)
    torch.testing.assert_close(out["a"], rows[:, 4:])
    flat = ObservationNorm(4)
    torch.testing.assert_close(flat(rows[:, :4].reshape(4, 2, 2)).flatten(1), flat(rows[:, :4]))
    with pytest.raises(TypeError, match=r"ObservationNorm\(env.observation_space\)`, to take a dict"):
        flat({"b": rows})


def test_statistics_keep_their_digits_in_a_network_of_low_precision():
    norm = ObservationNorm(1)
    norm.update(Moments.of(np.array([[1e6], [1e6 + 2]])))
    network = nn.Sequential(norm, nn.Linear(1, 1)).to(torch.bfloat16)
    assert norm(torch.tensor([[1e6 + 2]], dtype=torch.float64)).item() == 1.0
    assert network(torch.tensor([[1e6]], dtype=torch.float64)).dtype == torch.bfloat16
    assert network.double()(torch.ones(1, 1)).dtype == torch.float64
    assert {b.device.type for b in norm.to("meta").buffers()} == {"meta"}


def test_what_is_measured_follows_from_the_environment_and_is_saved():
    class Masked(Stepper):
        observation_space = Dict(arm=Box(-1, 1, (2,)), mask=Box(0, 1, (1,), np.int8))

        def reset(self, **options):
            return self.seen(super().reset(**options)[0]), {}

        def step(self, action):
            observation, *rest = super().step(action)
            return self.seen(observation), *rest

        def seen(self, row):
            return {"arm": np.clip(row[:2], -1, 1).astype(np.float32), "mask": np.array([1], np.int8)}

    network = nn.Sequential(Concatenate(), mlp(3, 1, (4,)))
    with ES(network, Masked, num_pairs=2, num_workers=0) as es:
        es.learn(20)
    again = nn.Sequential(Concatenate(), mlp(3, 1, (4,)))
    again.load_state_dict(network.state_dict())
    assert again[1][0].measured.tolist() == [True, True, False]
    assert again[1][0](torch.ones(1, 3))[0, 2] == 1  # a mask stays what it is
    chosen = ObservationNorm(3, measured=[False, False, True])
    Policy(nn.Sequential(Concatenate(), chosen, nn.Linear(3, 1)), Masked.observation_space, Stepper.action_space)
    assert chosen.measured.tolist() == [False, False, True]
    with pytest.raises(ValueError, match=r"`measured` must have shape \(3,\), got \(2,\)"):
        ObservationNorm(3, measured=[True, False])


class Beside(nn.Module):
    """Uses the observation beside its norm, too."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = ObservationNorm(3), nn.Linear(6, 1)

    def forward(self, x):
        return self.linear(torch.cat([x, self.norm(x)], 1))


class Misplaced(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 3), ObservationNorm(3)

    def forward(self, x):
        return self.norm(self.linear(x))[:, :1]


@pytest.mark.parametrize("make", [lambda: mlp(3, 1, (4,)), Beside, lambda: nn.Sequential(ObservationNorm(3), Beside())])
def test_what_you_keep_acts_as_it_was_evaluated(make):
    """The network by itself on raw observations, whether its norm runs ahead of all lanes or inside each."""
    network = make()
    if len([m for m in network.modules() if isinstance(m, ObservationNorm)]) > 1:
        with pytest.raises(ValueError, match=r"must hold one ObservationNorm at most, got several, at 0, 1\.norm"):
            ES(network, Stepper, num_pairs=4, num_workers=0)
        return
    with ES(network, Stepper, num_pairs=8, sigma=0.3, num_workers=0, eval_every=0) as es:
        es.learn(200)
        played = es.evaluate(3)
        assert es.lanes.normalized == (not isinstance(network, Beside))
        statistics = {n: b.clone() for n, b in es.policy.observation_norm.named_buffers()}
    assert statistics["count"] > 0
    for task, return_, *_ in played:
        env = Stepper()
        observation, _ = env.reset(seed=EpisodeRules().environment_seed(0, task))
        total, done = 0.0, False
        while not done:
            action = network(torch.tensor(observation, dtype=torch.float32)[None]).detach().clip(-1, 1)[0]
            observation, reward, done, *_ = env.step(action.numpy())
            total += reward
        assert total == pytest.approx(return_, abs=1e-5)
    assert all(torch.equal(b, statistics[n]) for n, b in es.policy.observation_norm.named_buffers())


def test_a_norm_inside_the_lanes_gives_the_same_bits_for_any_number_of_workers():
    thetas = []
    for workers in (0, 2):
        torch.manual_seed(0)
        with ES(Beside(), Stepper, num_pairs=4, sigma=0.3, num_workers=workers, num_lanes=3) as es:
            es.learn(100)
        assert es.policy.observation_norm.count == 120
        thetas.append(es.strategy.theta)
    assert torch.equal(*thetas)


def test_a_norm_that_does_not_get_the_observation_is_refused():
    for network, message in (
        (Misplaced(), "`policy` must call its ObservationNorm with the observation as it comes"),
        (mlp(4, 1), "holds an ObservationNorm of 4 elements, and an observation has 3"),
    ):
        with pytest.raises(ValueError, match=message):
            Policy(network, Stepper.observation_space, Stepper.action_space)


def test_nothing_is_added_to_a_network_without_one():
    with ES(nn.Linear(3, 1), Stepper, num_pairs=2, num_workers=0) as es:
        es.learn(20)
        assert es.policy.observation_norm is None
        x = np.array([9.0, -7.0, 3.0])
        expected = es.network(torch.tensor(x, dtype=torch.float32)).detach().clip(-1, 1)
        np.testing.assert_allclose(es.predict(x)[0], expected, rtol=1e-6)


def test_what_is_not_measured_has_no_mean():
    norm = ObservationNorm(2, measured=[True, False])
    norm.update(Moments.of(np.array([[1.0, 5.0], [3.0, 7.0]])))
    assert norm.mean.tolist() == [2.0, 0.0]
