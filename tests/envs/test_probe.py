"""What environments and factories get wrong is said at the start: who, what came, what was expected."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper
from walk import Walk

from torch_es import ES, mlp
from torch_es.envs import env_factory, probed, random_observations
from torch_es.nn import convert_batch_norm
from torch_es.policies import Concatenate

BOX = gym.spaces.Box(-1, 1, (3,), np.float32)


class Odd(gym.Env):
    """Right in everything but one thing."""

    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, space=BOX, **odd):
        self.observation_space, self.odd = space, odd

    def _say(self, name, usual):
        return self.odd.get(name, usual)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        observation = self._say("first", np.zeros(3, np.float32))
        return self._say("reset", (observation, {}))

    def step(self, action):
        observation = self._say("next", self._say("first", np.zeros(3, np.float32)))
        usual = observation, self._say("reward", 1.0), self._say("terminated", False), True, {}
        return self._say("step", usual)


DICT = gym.spaces.Dict(arm=BOX, gear=gym.spaces.Discrete(3))
TWO = gym.spaces.Tuple([BOX, gym.spaces.MultiBinary(2)])


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        (
            {"first": 0.7},
            r"Odd.reset must return an observation of Box\(-1.0, 1.0, \(3,\), float32\), got 0.7 of type f",
        ),
        ({"first": np.array([0.7])}, r"Odd.reset .* \(3,\), float32\), got \[0.7\] of shape \(1,\), float64"),
        ({"first": np.zeros(5)}, r"Odd.reset .*got an array of shape \(5,\), float64"),
        ({"first": [0.1, [0.2], 0.3]}, r"Odd.reset .*got a list of 3 \(float, list, float\)"),
        ({"first": np.array([0.1, None, 0.2], object)}, r"got \[0.1, None, 0.2\] of shape \(3,\), object"),
        ({"next": np.zeros((1, 3))}, r"Odd.step must return an observation of .*got .*shape \(1, 3\)"),
        ({"reset": np.zeros(3)}, r"Odd.reset must return \(observation, info\), got \[0.0, 0.0, 0.0\] of shape \(3,\)"),
        (
            {"step": (BOX.sample(), 1.0, True, {})},
            r"Odd.step must return .*got a tuple of 4 \(ndarray, float, bool, dict",
        ),
        ({"reward": None}, "Odd.step must return a number as reward, got None"),
        ({"reward": np.array([1.0])}, r"Odd.step must return a number as reward, got \[1.0\] of shape \(1,\)"),
        ({"terminated": None}, "Odd.step must return a bool as terminated, got None"),
        ({"space": DICT, "first": {"arm": BOX.sample()}}, r"Odd.reset .*of Dict\(.*got a dict with the keys arm"),
        ({"space": DICT, "first": {"arm": 0.5, "gear": 1}}, r"observation\['arm'\] of Box.*got 0.5 of type float"),
        (
            {"space": DICT, "first": {"arm": BOX.sample(), "gear": 3}},
            r"observation\['gear'\] of Discrete\(3\), got 3 of",
        ),
        ({"space": TWO, "first": (BOX.sample(),)}, r"of Tuple\(.*got a tuple of 1 \(ndarray\)"),
        (
            {"space": TWO, "first": (BOX.sample(), np.array([0, 2]))},
            r"observation\[1\] of MultiBinary\(2\), got \[0, 2\]",
        ),
        ({"space": gym.spaces.Discrete(3), "first": 1.0}, r"observation of Discrete\(3\), got 1.0 of type float"),
    ],
)
def test_what_an_environment_returns_is_compared_with_its_spaces(odd, message):
    with pytest.raises(ValueError, match=message):
        probed(lambda: Odd(**odd))


def test_numbers_of_every_kind_are_taken(caplog):
    for odd in ({"reward": np.float32(1)}, {"reward": torch.tensor(1.0)}, {"reward": 1}, {"terminated": np.True_}):
        probed(lambda odd=odd: Odd(**odd)).close()
    for first in (torch.zeros(3), np.zeros(3), [0, 0, 0]):
        probed(lambda first=first: Odd(first=first)).close()
    probed(lambda: Odd(DICT, first={"arm": BOX.sample(), "gear": np.int64(2), "more": 1})).close()
    assert not caplog.records


class Masking(Stepper):
    def action_masks(self):
        return np.ones(1, bool)


def test_masks_that_are_not_used_are_told(caplog):
    ES(mlp(3, 1), lambda: gym.wrappers.TimeLimit(Masking(), 3))
    assert caplog.text.count("`env` has `action_masks`, but action masks are not used; put the mask into") == 1


def test_an_observation_outside_its_space_is_told(caplog):
    probed(lambda: Odd(next=np.array([0, 0, 3], np.float32))).close()
    (record,) = caplog.records
    assert record.message.startswith("Odd.step must return an observation of Box(-1.0, 1.0")
    assert record.message.endswith("It lies outside.")


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: None, "`env` must make a gymnasium.Env, got None: does the function return what it makes"),
        (
            lambda: gym.make_vec("CartPole-v1", num_envs=2),
            "got .*CartPoleVectorEnv; give a function that makes one of them",
        ),
        (lambda: torch.nn.Linear(4, 2), r"got torch.nn.modules.linear.Linear; wrap it in one"),
    ],
)
def test_what_is_no_environment_is_named(factory, message):
    with pytest.raises(TypeError, match=message):
        ES(torch.nn.Linear(4, 2), factory)


@pytest.mark.parametrize("wrapped", [False, True])
def test_one_environment_for_all_lanes_is_refused(wrapped):
    env = Stepper()
    factory = (lambda: gym.wrappers.TimeLimit(env, 3)) if wrapped else (lambda: env)
    with pytest.raises(ValueError, match=r"`env` returned the same Stepper twice.*`lambda: gym.make\(...\)`"):
        ES(mlp(3, 1), factory)
    es = ES(mlp(3, 1), Stepper)
    with pytest.raises(ValueError, match="`env` returned the same Stepper twice"):
        es.set_env(factory)


@pytest.mark.parametrize("made", [Stepper, lambda: gym.make_vec("CartPole-v1", num_envs=2)])
def test_an_environment_in_place_of_a_factory_is_refused(made):
    with pytest.raises(TypeError, match=r"got an environment, .*its id, its class, or `lambda: gym.make\(...\)`"):
        env_factory(made())


class Growing(Stepper):
    """Right in the first episode alone."""

    episodes = 0

    def __init__(self, later):
        super().__init__()
        self.later = later

    def reset(self, *, seed=None, options=None):
        answer = super().reset(seed=seed)
        self.episodes += 1
        return self.later if self.episodes > 1 else answer


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ((np.zeros(1), {}), r"an observation of Box.*of shape \(1,\), float64"),
        (np.zeros(3), r"\(observation, info\), got \[0.0, 0.0, 0.0\] of shape \(3,\)"),
        (np.zeros(2), r"\(observation, info\), got \[0.0, 0.0\] of shape \(2,\)"),
    ],
)
def test_the_form_is_compared_at_each_reset(later, message):
    with (
        ES(mlp(3, 1), partial(Growing, later), num_workers=0, num_lanes=1) as es,
        pytest.raises(ValueError, match=f"Growing.reset must return {message}"),
    ):
        es.evaluate(3)


class Later(Odd):
    """Right until the third step of an episode."""

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return super().reset(seed=seed)

    def _say(self, name, usual):
        return super()._say(name, usual) if self.at > 2 or name == "first" else usual

    def step(self, action):
        self.at += 1
        whole = super().step(action)
        return whole if self.at > 2 else (*whole[:3], False, {})


@pytest.mark.parametrize("num_lanes", [1, 2])
@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"next": None}, r"Later.step must return an observation of Box\(.*got None"),
        ({"next": 0.7}, r"Later.step .*got 0.7 of type float"),
        ({"next": np.array([0.7])}, r"Later.step .*got \[0.7\] of shape \(1,\), float64"),
        ({"next": np.zeros((1, 3))}, r"Later.step .*of shape \(1, 3\)"),
        ({"next": np.array([0.1, None, 0.2], object)}, r"Later.step .*of shape \(3,\), object"),
        ({"reward": None}, "Later.step must return a number as reward, got None"),
        ({"reward": np.array([1.0])}, r"a number as reward, got \[1.0\] of shape \(1,\)"),
        ({"terminated": np.array([True, False])}, "a bool as terminated, got"),
        ({"step": (BOX.sample(), 1.0, True, {})}, r"Later.step must return \(observation, .*got a tuple of 4 \(nd"),
        ({"space": DICT, "next": {"arm": [0.5], "gear": 1}}, r"observation\['arm'\] of Box.*got a list of 1"),
    ],
)
def test_the_form_is_compared_at_each_step(odd, message, num_lanes):
    odd = {"first": {"arm": np.zeros(3), "gear": 0}, **odd} if "space" in odd else odd
    size = 6 if "space" in odd else 3
    network = torch.nn.Sequential(Concatenate(), torch.nn.Linear(size, 1))
    with (
        ES(network, partial(Later, **odd), num_workers=0, num_lanes=num_lanes) as es,
        pytest.raises(ValueError, match=message),
    ):
        es.evaluate(2)


class Reused(Stepper):
    """Writes every observation into one array."""

    kept = 3

    def __init__(self):
        super().__init__()
        self.array = np.zeros(3)

    def reset(self, *, seed=None, options=None):
        observation, info = super().reset(seed=seed)
        self.array[: self.kept] = observation[: self.kept]
        return self.array, info

    def step(self, action):
        observation, *rest = super().step(action)
        self.array[: self.kept] = observation[: self.kept]
        return self.array, *rest


class Constant(Reused):
    kept = 0


def normalised():
    return convert_batch_norm(
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    )


def test_a_reused_array_gives_the_reference_of_a_copied_one():
    references = [ES(normalised(), env).policy.reference for env in (Stepper, Reused)]
    assert torch.equal(*references)
    assert len(references[1].unique(dim=0)) > 100
    observations = random_observations(Reused(), 3, seed=0)
    assert len({tuple(each) for each in observations}) == 3


def test_a_reference_without_variance_is_refused():
    with pytest.raises(ValueError, match="`env` gave 128 equal observations at random play"):
        ES(normalised(), Constant)


@pytest.mark.parametrize("space", [gym.spaces.Text(5), gym.spaces.Sequence(gym.spaces.Discrete(2))])
def test_a_space_that_is_not_taken_is_named_whatever_reset_returns(space):
    class Telling(Stepper):
        observation_space = space

        def reset(self, *, seed=None, options=None):
            return space.sample(), {}

    with pytest.raises(
        ValueError, match=r"`observation_space` must be a Box, Discrete, .* wrap the environment to offer"
    ):
        ES(mlp(3, 1), Telling, num_workers=0)


def test_reference_observations_are_eight_steps_apart():
    assert [float(o[0]) for o in random_observations(Walk(), 4, seed=0)] == [0, 8, 16, 24]
