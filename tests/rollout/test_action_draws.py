"""The draws of action noise in play: of each episode its own, of the centre none, the same in any lane and process."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper, evaluator, pairs, played_alike, snapshot, stepper_policy
from torch import nn

from torch_es import ES
from torch_es.heads import make_action_noise, make_head
from torch_es.rollout.action_draws import Draws
from torch_es.types import Task


@pytest.mark.parametrize(
    ("seed", "task"),
    [
        (1, Task(3, 4, 1)),
        (0, Task(4, 4, 1)),
        (0, Task(3, 6, 1)),
        (0, Task(3, 5, 1)),
        (0, Task(3, 4, 2)),
    ],
    ids=["seed", "generation", "pair", "member", "episode"],
)
def test_every_episode_has_draws_of_its_own(seed, task):
    space = gym.spaces.Box(-1, 1, (200,))
    noise = make_action_noise(space, make_head(space), "gaussian:1")

    def draws(seed, task):
        own = Draws(noise, 1, seed)
        own.start(0, task)
        own.act(np.zeros((1, 1), np.float32), np.zeros((1, 200), np.float32), [0])
        return own.rows[0].copy()

    ours, other = draws(0, Task(3, 4, 1)), draws(seed, task)
    np.testing.assert_array_equal(ours, draws(0, Task(3, 4, 1)))
    assert abs(np.corrcoef(ours, other)[0, 1]) < 0.35  # five deviations


def noisy(given="gaussian:0.3"):
    return stepper_policy(action_noise=given)


def test_noise_has_the_same_bits_in_processes_and_with_other_lanes():
    played_alike(noisy(), Stepper, num_workers=2)


@pytest.mark.parametrize("num_lanes", [1, 4])
def test_noise_acts_on_members_and_not_on_the_centre(num_lanes):
    """Also where the centre plays in a lane that a member left."""
    returns = {}
    for given in (None, "gaussian:0.3"):
        policy = noisy(given)
        running = evaluator(policy, Stepper, 0, num_lanes)
        tasks = iter([(Task(0, 0), Task(0, 1)), (Task(0, -1),)])
        returns[given] = {r.task: r.return_ for r in running.evaluate(snapshot(policy), lambda t=tasks: next(t, None))}
        running.close()
    centre = Task(0, -1)
    assert returns[None].pop(centre) == returns["gaussian:0.3"].pop(centre)
    assert all(returns[None][task] != value for task, value in returns["gaussian:0.3"].items())


def test_members_of_a_pair_have_draws_of_their_own():
    policy = noisy()
    with torch.no_grad():
        for p in policy.network.parameters():
            p.zero_()  # both members then differ by their noise alone
    running = evaluator(policy, Stepper, 0)
    plus, minus = running.evaluate(snapshot(policy, sigma=1e-30), pairs(1))
    assert plus.return_ != minus.return_
    running.close()


def test_predict_samples_only_when_asked():
    with ES(nn.Linear(3, 1), Stepper, action_noise="gaussian:0.1", num_pairs=2, num_workers=0) as es:
        x = np.zeros(3)
        assert np.array_equal(es.predict(x)[0], es.predict(x)[0])
        assert not np.array_equal(es.predict(x, deterministic=False)[0], es.predict(x, deterministic=False)[0])
        assert es.predict(np.zeros((5, 3)), deterministic=False)[0].shape == (5, 1)
