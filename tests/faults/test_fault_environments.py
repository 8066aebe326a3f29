"""Fault F48: environments whose episodes do not follow from their seeds."""

import logging
import os

import gymnasium as gym
import numpy as np
import pytest
from harness import bits, golden, torch_es, train
from helpers import Stepper

from torch_es.cli.check_env import check_env

LEAKS = "in this process, one environment for all episodes"
AGAIN = "the same again"
SIDE = "in this process, four environments side by side"
ELSEWHERE = "in two other processes, each episode in a new environment"


class Leaky(Stepper):
    """Its observations follow from more than the seed: what was before, its neighbours, the process."""

    resets = 0  # of all environments of this process

    def __init__(self, by):
        super().__init__()
        self.by, self.before = by, 0.0

    def step(self, action):
        observation, *rest = super().step(action)
        self.before += 0.001
        drawn = {
            "reset": self.before,
            "global": np.random.random(),  # noqa: NPY002
            "process": os.getpid() % 1000,
            "shared": Leaky.resets - self.own,
        }
        observation[2] = drawn[self.by] if self.at == 3 else 1.0
        return observation, *rest

    def reset(self, *, seed=None, options=None):
        Leaky.resets += 1
        self.own = Leaky.resets
        return super().reset(seed=seed)


for by in ("reset", "global", "process", "shared"):
    gym.register(f"Leaky{by.title()}-v0", Leaky, kwargs={"by": by})


@pytest.mark.parametrize(
    ("env", "differing"),
    [
        ("LeakyReset-v0", {LEAKS}),
        pytest.param("LeakyGlobal-v0", {AGAIN, LEAKS, SIDE, ELSEWHERE}, marks=pytest.mark.slow),
        ("LeakyProcess-v0", {ELSEWHERE}),
        ("LeakyShared-v0", {SIDE}),
        pytest.param("CartPole-v1", set(), marks=pytest.mark.slow),
    ],
)
def test_F48_check_env_says_what_differs(env, differing, capsys, tried):
    tried()
    code = 0
    try:
        check_env([f"{__name__}:{env}" if "Leaky" in env else env, "--episodes", "3"])
    except SystemExit as end:
        code = end.code
    lines = capsys.readouterr().out.splitlines()
    assert {line[9:] for line in lines if line.startswith("differs")} == differing
    assert {line[9:] for line in lines if line.startswith("same")} == {AGAIN, LEAKS, SIDE, ELSEWHERE} - differing
    assert ("num_lanes=1" in "".join(lines)) == (SIDE in differing)
    assert code == (1 if differing else 0)
    where = [line for line in lines if "episodes; with seed" in line]
    assert all("step 3: observation[2] is " in line for line in where)
    assert len(where) == len(differing)


@pytest.mark.slow
def test_F48_check_env_finds_a_leak_of_gymnasium(tmp_path):
    code, out, error = torch_es("check-env", "BipedalWalker-v3", "--episodes", "4", cwd=tmp_path)
    assert code == 1, error
    assert f"differs  {LEAKS}" in out
    assert f"same     {AGAIN}" in out
    assert "`reset` leaves something of the episode before" in out


@pytest.mark.slow
def test_F48_the_leak_that_was_known_is_mended_in_gymnasium(tmp_path):
    """LunarLander (issue 728) makes itself a new world at each reset, in gymnasium 1.4."""
    code, out, error = torch_es("check-env", "LunarLander-v3", cwd=tmp_path)
    assert code == 0, out + error


def warnings_of(caplog):
    return [r.message for r in caplog.records if "when it was played again" in r.message]


@pytest.mark.parametrize(("by", "num_workers"), [("reset", 0), ("reset", 2), ("global", 0)])
def test_F48_training_warns_once(by, num_workers, caplog):
    with caplog.at_level(logging.WARNING):
        train(lambda: Leaky(by), num_workers, generations=3)
    (message,) = warnings_of(caplog)
    assert message.startswith("generation 0 member 0 (environment seed ")
    assert "`torch-es check-env` says where" in message


def test_F48_and_says_nothing_where_there_is_nothing(caplog):
    assert bits(train(num_workers=2, generations=2)) == golden()
    assert not warnings_of(caplog)
