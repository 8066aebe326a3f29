"""Pieces that several tests need."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import cloudpickle
import gymnasium as gym
import numpy as np
import torch

from torch_es.envs import env_factory
from torch_es.evaluators import ProcessEvaluator, SerialEvaluator
from torch_es.policies import Policy, mlp
from torch_es.rollout import EnvObjective, Snapshot
from torch_es.search import Mirrored
from torch_es.search.parameters import FlatParameters
from torch_es.search.sfc64 import SFC64Noise
from torch_es.spaces import Layout
from torch_es.types import Task


class Stepper(gym.Env):
    """Three observations; reward is the chosen action's distance to the seed's target; ends after `length` steps."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def __init__(self, length=5, mishap=None, fuse=None):
        self.length, self.mishap, self.fuse = length, mishap, fuse
        if mishap == "constructor":
            raise OSError("no such robot")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.target = self.np_random.uniform(-1, 1)
        self.at = 0
        return np.array([self.target, 0.0, 1.0]), {}

    def step(self, action):
        self.at += 1
        if self.mishap and self.at == 2 and self._burn():
            if self.mishap == "raise":
                raise RuntimeError("the joint broke")
            os.kill(os.getpid(), signal.SIGKILL)
        reward = -abs(float(action[0]) - self.target)
        return np.array([self.target, self.at, 1.0]), reward, self.at >= self.length, False, {}

    def _burn(self):
        """The first to come makes the file and has the mishap; a retry passes."""
        if self.fuse is None:
            return True
        try:
            Path(self.fuse).open("x").close()
        except FileExistsError:
            return False
        return True


def stepper_policy(hidden=(8,), **options):
    return Policy(mlp(3, 1, hidden, output_scale=1.0), Stepper.observation_space, Stepper.action_space, **options)


def env_policy(env_id, hidden=(8,)):
    env = gym.make(env_id)
    space = env.action_space
    outputs = int(space.n) if isinstance(space, gym.spaces.Discrete) else space.shape[0]
    return Policy(mlp(env.observation_space.shape[0], outputs, hidden, output_scale=1.0), env.observation_space, space)


def snapshot(policy, sigma=0.1, generation=0):
    size = policy.layout.size
    theta = FlatParameters(policy.network).read_masters()
    statistics = None if policy.observation_norm is None else (np.full(size, 0.1), np.full(size, 2.0))
    return Snapshot(theta, Mirrored(7, generation, len(theta), sigma), statistics)


def noise_of(strategy, generation=0):
    """All pairs' noise in a generation."""
    eps = torch.empty(strategy.num_pairs, strategy.parameters.dim)
    SFC64Noise(strategy.seed, eps.shape[1]).fill(eps, generation, range(strategy.num_pairs))
    return eps.double().numpy()


def boxed(*shape):
    """The layout of observations of a shape."""
    return Layout(gym.spaces.Box(-np.inf, np.inf, shape))


def pairs(number, generation=0):
    units = iter([(Task(generation, 2 * p, world=p), Task(generation, 2 * p + 1, world=p)) for p in range(number)])
    return lambda: next(units, None)


def evaluator(policy, factory, num_workers, num_lanes=4, **options):
    """Serial for 0 workers, else processes."""
    objective = EnvObjective(policy, factory, 7, num_lanes=num_lanes)
    if num_workers == 0:
        return SerialEvaluator(objective)
    return ProcessEvaluator(objective, snapshot(policy), num_workers, **options)


def by_task(results):
    return {
        r.task: (r.return_, r.length, r.truncated, None if r.moments is None else r.moments.tobytes()) for r in results
    }


def played_alike(policy, factory, number=4, num_workers=1):
    """Results by task, which are the same in four lanes, in one, and in workers; with 0 of these, from what is sent."""
    results = []
    for count, lanes in ((0, 4), (0, 1), (num_workers, 2)):
        if len(results) == 2 and num_workers == 0:
            policy, factory = cloudpickle.loads(cloudpickle.dumps((policy, factory)))
        running = evaluator(policy, factory, count, lanes)
        results.append(by_task(running.evaluate(snapshot(policy), pairs(number))))
        running.close()
    assert results[0] == results[1] == results[2]
    return results[0]


def env(env_id):
    return env_factory(env_id)


def wandb_records(path):
    """What an offline run's `.wandb` file holds: leveldb's log of W&B's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, piece = Path(path).read_bytes(), 7, b""
    while at < len(data):
        left = 2**15 - at % 2**15  # of the block
        if left < 7:
            at += left
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + size > len(data):  # not written yet, or never
            return
        piece += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(piece)
            piece = b""


def wandb_history(path):
    """The rows that an offline run was sent, without W&B's own keys."""
    rows = [record.history.item for record in wandb_records(path) if record.HasField("history")]
    whole = [{".".join(i.nested_key) or i.key: json.loads(i.value_json) for i in row} for row in rows]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in whole]


def wandb_sent(folder):
    """The files of a folder's offline runs, once W&B's process has written the last of each."""
    paths = list(Path(folder).glob("wandb/offline-run-*/*.wandb"))
    end = time.monotonic() + 30
    while not all(any(record.HasField("exit") for record in wandb_records(path)) for path in paths):
        assert time.monotonic() < end, "a run was not finished"
        time.sleep(0.05)
    return paths
