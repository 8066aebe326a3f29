"""Processes give the bits that one process gives, also when they die."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import Stepper, by_task, evaluator, pairs, snapshot, stepper_policy
from torch import nn

from torch_es.errors import WorkerError
from torch_es.evaluators import FaultTolerance, ProcessEvaluator
from torch_es.evaluators.remote import _signals_blocked
from torch_es.evaluators.wire import pack_results
from torch_es.nn import ObservationNorm
from torch_es.policies import Policy
from torch_es.rollout import FunctionObjective, Snapshot
from torch_es.search import Mirrored
from torch_es.search.perturbation import serial_sum


def play(policy, factory, num_workers, number=6, **options):
    running = evaluator(policy, factory, num_workers, **options)
    try:
        return by_task(running.evaluate(snapshot(policy), pairs(number)))
    finally:
        running.close()


def test_a_worker_that_always_dies_ends_the_run():
    with pytest.raises(WorkerError, match=r"killed by SIGKILL.*no restarts are left.*member 0"):
        play(stepper_policy(), partial(Stepper, mishap="kill"), 1, tolerance=FaultTolerance(max_restarts=1))


def test_a_hung_worker_is_replaced(tmp_path, caplog):
    policy = stepper_policy()
    running = evaluator(policy, Stepper, 1, tolerance=FaultTolerance(task_timeout=1.5))
    expected = play(policy, Stepper, 0)
    os.kill(running.pids[0], 19)  # SIGSTOP
    start = time.monotonic()
    assert by_task(running.evaluate(snapshot(policy), pairs(6))) == expected
    assert time.monotonic() - start < 30
    running.close()
    assert "silent for 1.5 s" in caplog.text


def test_a_result_is_small_and_does_not_grow_with_the_parameters():
    sizes = []
    for hidden in ((4,), (64, 64)):
        policy = stepper_policy(hidden)
        running = evaluator(policy, Stepper, 0)
        (result,) = list(running.evaluate(snapshot(policy), pairs(1)))[:1]
        running.close()
        sizes.append(len(pack_results([result])))
    assert sizes[0] == sizes[1] <= 64 + 2 * 8 * 3


def test_sums_may_be_asked_for_before_anything_is_played():
    noise = Mirrored(7, 0, 303, 0.1)
    running = ProcessEvaluator(
        FunctionObjective(torch.nn.Linear(100, 3), torch.sum, noise), Snapshot(torch.zeros(303), noise), 1
    )
    assert torch.equal(running.noise_sum(noise, np.ones(200)), serial_sum(noise, np.ones(200)))
    running.close()


def test_a_signal_that_another_thread_takes_waits_until_a_worker_is_started():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    waiting = threading.Event()
    other = threading.Thread(target=waiting.wait)
    other.start()
    try:
        with _signals_blocked():
            signal.pthread_kill(other.ident, signal.SIGTERM)
            time.sleep(0.05)
            assert came == []
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
        waiting.set()
        other.join()


ROOMY = """
from pathlib import Path

from torch_es import ES, EpisodeRules, mlp


def most(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    network = mlp(3, 1, hidden=(3000, 3300))
    with ES(network, "Pendulum-v1", rank=1, num_pairs=250, num_workers=1, rules=EpisodeRules(max_steps=1)) as es:
        assert es.learn(500).strategy.generation == 1
        print(sum(p.nbytes for p in network.parameters()), sum(map(most, ("self", *es.evaluator().pids))))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much memory a process had at most")
def test_no_memory_of_members_times_parameters(tmp_path):
    """500 members of 10 million parameters would be 20 GB."""
    script = tmp_path / "roomy.py"
    script.write_text(ROOMY)
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    module, most = map(int, run.stdout.splitlines()[-1].split())
    assert most < 50 * module


class Wide(Stepper):
    observation_space = gym.spaces.Box(-1, 1, (30_000,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(30_000, np.float32), {}

    def step(self, action):
        return np.zeros(30_000, np.float32), *super().step(action)[1:]


def test_a_worker_that_does_not_read_is_replaced(caplog):
    """What it is sent is longer than a pipe holds."""
    network = nn.Sequential(ObservationNorm(30_000), nn.Linear(30_000, 1))
    policy = Policy(network, Wide.observation_space, Wide.action_space)
    running = evaluator(policy, Wide, 1, tolerance=FaultTolerance(task_timeout=2.0))
    os.kill(running.pids[0], signal.SIGSTOP)
    assert len(list(running.evaluate(snapshot(policy), pairs(1)))) == 2
    assert "did not read for 2 s and was killed; it is replaced" in caplog.text
    os.kill(running.pids[0], signal.SIGSTOP)
    start = time.monotonic()
    running.close()
    assert time.monotonic() - start < 30


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Failing(Stepper):
    def step(self, action):
        raise Speechless


def test_an_exception_without_a_text_arrives():
    with pytest.raises(WorkerError, match=r"raised .*Speechless: its text cannot be had \(RuntimeError\)"):
        play(stepper_policy(), Failing, 1)
