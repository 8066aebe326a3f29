import sys

import gymnasium as gym
import pytest
from helpers import Stepper

from torch_es import ES, mlp
from torch_es.envs import bare, env_factory
from torch_es.errors import MissingExtraError


def test_an_unknown_id_names_the_nearest():
    with pytest.raises(ValueError, match=r"`env` 'HalfCheeta-v5' is not registered. Did you mean `HalfCheetah-v5`"):
        env_factory("HalfCheeta-v5")()


@pytest.mark.parametrize("bad", [3, None])
def test_another_type_is_refused(bad):
    with pytest.raises(TypeError, match="`env` must be an environment id or a function"):
        env_factory(bad)


def test_an_environment_itself_is_refused():
    with pytest.raises(TypeError, match="each worker needs its own"):
        env_factory(gym.make("CartPole-v1"))


def test_keyword_arguments_arrive():
    assert env_factory("CartPole-v1", sutton_barto_reward=True)().unwrapped._sutton_barto_reward


def test_only_counting_and_checking_wrappers_come_off():
    class Doubled(gym.RewardWrapper):
        def reward(self, reward):
            return 2 * reward

    assert type(bare(gym.make("CartPole-v1"))[0]) is type(gym.make("CartPole-v1").unwrapped)
    kept, limit = bare(gym.wrappers.TimeLimit(Doubled(gym.make("CartPole-v1")), 7))
    assert isinstance(kept, Doubled)
    assert limit == 7


class Penalised(gym.wrappers.TimeLimit):
    """Running out of time costs 100."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward - 100 * truncated, terminated, truncated, info


def test_a_subclass_of_a_counting_wrapper_stays():
    with ES(mlp(3, 1), lambda: Penalised(Stepper(9), 4), num_workers=0, num_pairs=2) as es:
        assert es.evaluate(1)[0].return_ < -100


def test_a_spec_is_taken_and_a_version_may_be_left_out():
    for env in (gym.spec("CartPole-v0"), "CartPole"):
        assert env_factory(env)().spec.id == ("CartPole-v1" if env == "CartPole" else "CartPole-v0")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    for name in [n for n in sys.modules if n.startswith(("Box2D", "gymnasium.envs.box2d"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(MissingExtraError, match="`box2d` is not installed; it comes with the extra `box2d`"):
        env_factory("LunarLander-v3")()


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="'nowhere:Reach-v0' names a module that cannot be imported"):
        env_factory("nowhere:Reach-v0")()


def test_arguments_go_to_a_function_too():
    assert env_factory(Stepper, length=9)().length == 9


class Needy(gym.Env):
    def __init__(self, error):
        raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (gym.error.DependencyNotInstalled("geometry is needed"), "`env` 'Needy-v0' cannot be made: geometry is needed"),
        (ModuleNotFoundError("No module named 'jax'"), "`env` 'Needy-v0' cannot be made: No module named 'jax'"),
        (gym.error.Error("no `render`"), "`env` 'Needy-v0' cannot be made: no `render`"),
    ],
)
def test_what_an_environment_lacks_is_told_in_its_own_words(error, message):
    with pytest.raises(ValueError, match=message):
        env_factory(gym.envs.registration.EnvSpec("Needy-v0", entry_point=Needy), error=error)()


def test_a_relative_module_is_refused():
    with pytest.raises(ValueError, match=r"'\.near:Reach-v0' names a module that cannot be imported"):
        env_factory(".near:Reach-v0")
