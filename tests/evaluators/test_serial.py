"""What the serial evaluator does to the process that it shares with the user's program."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits
from torch import nn

from torch_es import ES


def numpys_threads():
    return {library["num_threads"] for library in ThreadpoolController().info() if library["user_api"] == "blas"}


class Watched(gym.Wrapper):
    def __init__(self, env, seen):
        super().__init__(env)
        self.seen = seen

    def step(self, action):
        self.seen.update(numpys_threads())
        return super().step(action)


@pytest.fixture
def two_threads():
    with threadpool_limits(2, "blas"):
        yield
        assert numpys_threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_numpy_uses_one_thread_while_a_policy_plays():
    playing, afterwards = set(), set()
    with ES(nn.Linear(4, 2), lambda: Watched(gym.make("CartPole-v1"), playing), num_workers=0, num_pairs=2) as es:
        playing.clear()  # some steps were taken to see what the environment answers
        es.learn(1, callback=lambda _: afterwards.update(numpys_threads()))
    assert (playing, afterwards) == ({1}, {2})


@pytest.mark.usefixtures("two_threads")
def test_a_function_of_the_users_has_all_threads():
    seen = set()

    def fitness(module):
        seen.update(numpys_threads())
        return -float(np.square(module.weight.detach().numpy()).sum())

    ES(nn.Linear(4, 2), fitness_fn=fitness, num_workers=0, num_pairs=2).learn(4)
    assert seen == {2}


def test_torch_uses_one_thread_while_a_policy_plays_so_that_sums_round_as_in_a_worker():
    playing = set()

    class Pole(gym.Wrapper):
        def step(self, action):
            playing.add(torch.get_num_threads())
            return super().step(action)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with ES(nn.Linear(4, 2), lambda: Pole(gym.make("CartPole-v1")), num_workers=0, num_pairs=2) as es:
            playing.clear()
            es.learn(1)
        assert (playing, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)
