"""Noise on actions follows its stated law, is seeded, and is off for the centre."""

import gymnasium as gym
import numpy as np
import pytest

from torch_es.heads import make_action_noise, make_head

BOX = gym.spaces.Box(-10, 10, (2,))
NUMBER = 20_000


def sampled(space, box_head, given, output, number=NUMBER):
    head = make_head(space, box_head)
    noise = make_action_noise(space, head, given)
    generator = np.random.default_rng(0)
    draws = np.stack([noise.draw(generator) for _ in range(number)])
    outputs = np.tile(np.asarray(output, np.float32), (number, 1))
    quiet = noise(outputs[:2], np.zeros_like(draws[:2]))  # zeros are no noise
    assert str(quiet) == str(head(outputs[:2]))
    return noise(outputs, draws)


def close_to(measured, expected, deviation):
    """Within 4.5 standard errors: 7 in a million to fail by chance, and the seed is fixed."""
    np.testing.assert_allclose(measured, expected, atol=4.5 * deviation / np.sqrt(NUMBER))


@pytest.mark.parametrize(("box_head", "given"), [("clip", "gaussian:0.5"), ("gaussian", "sample")])
def test_gaussian_noise_has_mean_variance_and_independent_components(box_head, given):
    output = [1.0, -2.0, *([np.log(0.5)] * 2 if box_head == "gaussian" else [])]
    actions = sampled(BOX, box_head, given, output)
    close_to(actions.mean(0), [1, -2], 0.5)
    close_to(actions.var(0), 0.25, 0.25 * np.sqrt(2))
    close_to(np.corrcoef(actions.T)[0, 1], 0, 1)
    close_to(np.corrcoef(actions[:-1, 0], actions[1:, 0])[0, 1], 0, 1)  # from step to step
    fourth = ((actions[:, 0] - 1) ** 4).mean() / 0.5**4
    close_to(fourth, 3, np.sqrt(96))  # a uniform of this variance has 1.8


def test_gaussian_noise_is_cut_to_the_bounds():
    actions = sampled(gym.spaces.Box(-1, 1, (2,)), "tanh", "gaussian:3", [0, 0])
    assert np.abs(actions).max() == 1


def test_sampling_follows_the_softmax_of_the_scores():
    scores = np.array([0.0, 1.0, -1.0])
    expected = np.exp(scores) / np.exp(scores).sum()
    chosen = sampled(gym.spaces.Discrete(3), "clip", "sample", scores)
    close_to(np.bincount(chosen, minlength=3) / NUMBER, expected, np.sqrt(expected * (1 - expected)).max())
    binned = sampled(gym.spaces.Box(-1, 1, (2,)), "uniform:3", "sample", [*scores, *scores])
    close_to(((binned[:, 0] + 1).round() == 1).mean(), expected[1], 0.5)
    close_to(np.corrcoef(binned.T)[0, 1], 0, 1)


def test_sampling_binaries_is_bernoulli_of_the_sigmoid():
    chosen = sampled(gym.spaces.MultiBinary(2), "clip", "sample", [0.0, 2.0])
    close_to(chosen.mean(0), [0.5, 1 / (1 + np.exp(-2))], 0.5)


def test_epsilon_is_for_bits_and_bins_too():
    """All of an action's components at once, uniformly."""
    space = gym.spaces.MultiBinary(2)
    chosen = sampled(space, "clip", "epsilon:0.4", [9.0, -9.0])
    close_to(chosen.mean(0), [0.8, 0.2], 0.5)
    chosen = sampled(gym.spaces.Box(-1, 1, (1,)), "uniform:4", "epsilon:0.4", [0.0, 0.0, 9.0, 0.0]).ravel()
    shares = [np.mean(np.abs(chosen - value) < 1e-6) for value in (-1, -1 / 3, 1 / 3, 1)]
    close_to(np.array(shares), [0.1, 0.1, 0.7, 0.1], 0.5)


@pytest.mark.parametrize("space", [gym.spaces.Discrete(4, start=3), gym.spaces.MultiDiscrete([4, 2])])
def test_epsilon_chooses_uniformly_with_its_probability(space):
    head = make_head(space)
    scores = np.arange(head.size)  # the last of each is the best
    chosen = sampled(space, "clip", "epsilon:0.4", scores).reshape(NUMBER, -1)[:, 0]
    chosen = chosen - chosen.min()
    close_to(np.bincount(chosen) / NUMBER, [0.1, 0.1, 0.1, 0.7], 0.5)


def test_a_dict_of_actions_takes_noise_where_it_applies():
    space = gym.spaces.Dict(arm=BOX, gear=gym.spaces.Discrete(3), lamp=gym.spaces.MultiBinary(2))
    actions = sampled(space, "clip", "gaussian:0.5", [0.0] * 7, number=500)
    assert actions["arm"].std() > 0.3
    assert (actions["gear"] == 0).all()
    actions = sampled(space, "clip", "sample", [0.0] * 7, number=500)
    assert (actions["arm"] == 0).all()
    assert set(actions["gear"]) == {0, 1, 2}


@pytest.mark.parametrize(
    "given", ["gauss:1", "gaussian", "gaussian:0", "gaussian:-1", "epsilon:0", "epsilon:2", "sampl"]
)
def test_wrong_noise_is_refused(given):
    with pytest.raises(ValueError, match="`action_noise` must be gaussian:STD"):
        make_action_noise(BOX, make_head(BOX), given)


@pytest.mark.parametrize(
    ("space", "given"), [(gym.spaces.Discrete(2), "gaussian:1"), (BOX, "epsilon:0.1"), (BOX, "sample")]
)
def test_noise_that_does_not_apply_is_refused(space, given):
    with pytest.raises(ValueError, match="does not apply"):
        make_action_noise(space, make_head(space), given)


def test_noise_of_ones_own_draws_as_many_numbers_as_it_says():
    class Alone:
        size = 2

        def draw(self, generator):
            return generator.normal()

        def __call__(self, output, noise):
            return output + noise

    with pytest.raises(ValueError, match=r"`action_noise` must draw 2 numbers, as its `size` says, got the shape \(\)"):
        make_action_noise(BOX, make_head(BOX), Alone())
