import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper, by_task, env, env_policy, evaluator, pairs, snapshot, stepper_policy

from torch_es import ES, mlp
from torch_es.envs.rules import EpisodeRules
from torch_es.lanes import lanes_for
from torch_es.nn.observation_norm import normalize
from torch_es.policies import Policy
from torch_es.rollout import Rollout
from torch_es.search.sfc64 import SFC64Noise
from torch_es.types import Task


def plain_episode(policy, env_id, shot, task):
    """One member's episode as anyone would write it."""
    # the same arithmetic, so that bits can be compared
    lanes = lanes_for(policy, 4).make(policy.network, 4, policy.layout)
    eps = torch.empty(1, len(shot.theta))
    SFC64Noise(7, eps.shape[1]).fill(eps, task.generation, [task.member // 2])
    sign = -1 if task.member % 2 else 1
    lanes.write(0, torch.add(shot.theta, eps[0], alpha=sign * shot.perturbation.sigma))
    world = gym.make(env_id)
    observation, _ = world.reset(seed=EpisodeRules().environment_seed(7, task))
    total, length, done = 0.0, 0, False
    while not done:
        x = np.zeros((4, len(observation)), np.float32)
        x[0] = normalize(observation, shot.statistics, 5.0)
        action = policy.head(lanes.forward(x, [0]))[0]
        observation, reward, terminated, truncated, _ = world.step(action)
        total, length, done = total + float(reward), length + 1, terminated or truncated
    return total, length, truncated and not terminated


@pytest.mark.parametrize("env_id", ["CartPole-v1", "InvertedPendulum-v5"])
def test_returns_are_those_of_a_plain_loop(env_id):
    policy = env_policy(env_id)
    shot = snapshot(policy)
    results = list(evaluator(policy, env(env_id), 0).evaluate(shot, pairs(4)))
    assert len(results) == 8
    for result in results[:3]:
        assert (result.return_, result.length, result.truncated) == plain_episode(policy, env_id, shot, result.task)


def test_the_number_of_lanes_changes_nothing():
    policy = stepper_policy()
    answers = [
        by_task(evaluator(policy, Stepper, 0, num_lanes=n).evaluate(snapshot(policy), pairs(5))) for n in (1, 3, 16)
    ]
    assert answers[0] == answers[1] == answers[2]


def test_a_lane_whose_episode_ends_is_filled_again_at_once():
    policy, lengths = stepper_policy(), iter([10, 1])
    player = Rollout(policy, lambda: Stepper(next(lengths)), 0, num_lanes=2)
    player.begin(snapshot(policy))
    tasks = [Task(0, member) for member in range(6)]
    for task in tasks:
        player.submit(task)
    left = []
    while player.outstanding:
        (result,) = player.advance()
        left.append((tasks.index(result.task), result.length, player.outstanding))
    assert left == [(1, 1, 5), (2, 1, 4), (3, 1, 3), (4, 1, 2), (5, 1, 1), (0, 10, 0)]


def test_time_limits_are_truncation_and_the_cap_holds():
    policy = env_policy("InvertedPendulum-v5")
    player = Rollout(policy, env("InvertedPendulum-v5"), 0, 2, EpisodeRules(max_steps=3))
    player.begin(snapshot(policy, 1e-9))
    player.submit(Task(0, 0))
    (result,) = player.advance()
    assert (result.length, result.truncated) == (3, True)
    ended = Rollout(stepper_policy(), Stepper, 0, 1)
    ended.begin(snapshot(stepper_policy()))
    ended.submit(Task(0, 0))
    assert ended.advance()[0].truncated is False


def test_statistics_are_those_of_the_observations_seen():
    policy, seen = stepper_policy(), []

    class Watched(Stepper):
        def reset(self, **kwargs):
            observation, info = super().reset(**kwargs)
            seen.append(observation)
            return observation, info

        def step(self, action):
            outcome = super().step(action)
            if not outcome[2]:  # the last observation is never acted on
                seen.append(outcome[0])
            return outcome

    (result,) = [r for r in evaluator(policy, Watched, 0, 1).evaluate(snapshot(policy), pairs(1)) if r.task.member == 0]
    own = np.array(seen[:5]) - 0.1
    np.testing.assert_allclose(result.moments, np.concatenate((own.sum(0), (own**2).sum(0))), rtol=1e-12)


class Remembers(torch.nn.Module):
    """Adds up what it has answered, in a buffer; `branching` keeps it from being traced."""

    def __init__(self, branching):
        super().__init__()
        self.linear, self.branching = torch.nn.Linear(3, 1), branching
        self.register_buffer("sum", torch.zeros(1))

    def forward(self, x):
        answer = self.linear(x)
        self.sum.add_(answer[0].tanh())
        if self.branching and float(answer[0]) > 1e9:
            return answer
        return answer + self.sum


@pytest.mark.parametrize("branching", [False, True])
def test_the_order_of_members_changes_nothing(branching):
    """What a lane's network keeps in buffers is of its own episode."""
    policy = Policy(Remembers(branching), Stepper.observation_space, Stepper.action_space)
    tasks = [(Task(0, member, world=member // 2),) for member in range(10)]
    played = []
    for order, lanes in ((tasks, 3), (tasks[::-1], 3), (tasks[::2] + tasks[1::2], 1)):
        running = evaluator(policy, Stepper, 0, lanes)
        waiting = iter(order)
        played.append(by_task(running.evaluate(snapshot(policy), lambda w=waiting: next(w, None))))
    assert played[0] == played[1] == played[2]
    assert len({result[0] for result in played[0].values()}) > 4


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (lambda observation, info: None, "`behaviour` must return numbers, got None"),
        (lambda observation, info: info, "`behaviour` must return numbers, got a dict with nothing"),
        (lambda observation, info: ["far"], "`behaviour` must return numbers, got a list of str"),
        (
            lambda observation, info, seen=[]: seen.append(1) or seen,
            r"must have \d+ numbers each time, as at first, got",
        ),
    ],
)
def test_a_behaviour_that_is_not_numbers_is_refused(behaviour, message):
    with (
        ES(mlp(3, 1), Stepper, num_workers=0, num_pairs=2, behaviour=behaviour) as es,
        pytest.raises((TypeError, ValueError), match=message),
    ):
        es.learn(20)


class Door(Stepper):
    """The second of four does not close; with `fails`, the third cannot be made."""

    def __init__(self, log, fails=False):
        super().__init__()
        self.log, self.number = log, len(log["made"])
        if fails and self.number == 2:
            raise OSError("no such robot")
        log["made"].append(self.number)

    def step(self, action):
        if self.log.get("broken"):
            raise ValueError("the joint broke")
        return super().step(action)

    def close(self):
        self.log["closed"].append(self.number)
        if self.number == 1 and len(self.log["made"]) == 4:
            raise RuntimeError("it does not close")


def test_an_environment_that_does_not_close_keeps_no_other_open_and_hides_no_error():
    log = {"made": [], "closed": []}
    es = ES(torch.nn.Linear(3, 1), lambda: Door(log), num_pairs=2, num_workers=0, num_lanes=4)
    log["made"].clear()
    log["closed"].clear()
    es.evaluate(1)
    with pytest.raises(RuntimeError, match="it does not close"):
        es.close()
    assert sorted(log["closed"]) == log["made"]
    es.close()
    log["broken"] = True
    with pytest.raises(ValueError, match="the joint broke"):
        es.evaluate(1)
    es.close()


def test_environments_are_closed_if_another_cannot_be_made():
    log = {"made": [], "closed": []}
    with pytest.raises(OSError, match="no such robot"):
        Rollout(stepper_policy(), lambda: Door(log, fails=True), 0, num_lanes=4)
    assert sorted(log["closed"]) == log["made"] == [0, 1]


class Keeping(Stepper):
    def step(self, action):
        last, self.last = getattr(self, "last", action), action
        observation, _, *rest = super().step(action)
        return observation, abs(float(action[0] - last[0])), *rest


class Raw:
    """A head that hands out what it is given."""

    size = 1

    def __call__(self, outputs):
        return outputs


def test_an_environment_may_keep_its_actions():
    policy = Policy(
        torch.nn.Linear(3, 1), Keeping.observation_space, gym.spaces.Box(-np.inf, np.inf, (1,)), box_head=Raw()
    )
    result = next(iter(evaluator(policy, Keeping, 0, 1).evaluate(snapshot(policy), pairs(1))))
    assert result.return_ > 0
