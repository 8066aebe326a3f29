"""Processes give the bits that one process gives, also when they die."""

import os
import signal
import threading
import time
from functools import partial
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from helpers import Stepper, by_task, env, env_policy, evaluator, pairs, snapshot, stepper_policy

from torch_es.errors import WorkerError
from torch_es.evaluators import Board, FaultTolerance, ProcessEvaluator
from torch_es.evaluators.remote import _signals_blocked
from torch_es.evaluators.wire import pack_results
from torch_es.rollout import FunctionPlayer
from torch_es.search.gradient import serial_noise_sum
from torch_es.search.noise import BLOCK, Noise
from torch_es.search.parameters import FlatParameters


def play(policy, factory, num_workers, number=6, **options):
    running = evaluator(policy, factory, num_workers, **options)
    try:
        return by_task(running.evaluate(snapshot(policy), pairs(number)))
    finally:
        running.close()


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_processes_give_the_bits_of_the_serial_evaluator(num_workers):
    policy, factory = env_policy("InvertedPendulum-v5"), env("InvertedPendulum-v5")
    expected = play(policy, factory, 0)
    assert len(expected) == 12
    assert play(policy, factory, num_workers) == expected


def test_a_second_generation_has_other_members():
    policy = stepper_policy()
    running = evaluator(policy, Stepper, 1)
    first = [r.return_ for r in running.evaluate(snapshot(policy), pairs(2, generation=0))]
    second = [r.return_ for r in running.evaluate(snapshot(policy), pairs(2, generation=1))]
    running.close()
    assert not set(first) & set(second)


def test_a_worker_that_always_dies_ends_the_run():
    with pytest.raises(WorkerError, match=r"killed by SIGKILL.*no restarts are left.*pair 0"):
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


def test_no_child_is_left():
    play(stepper_policy(), Stepper, 2)
    assert active_children() == []


def test_a_result_is_small_and_does_not_grow_with_the_parameters():
    sizes = []
    for hidden in ((4,), (64, 64)):
        policy = stepper_policy(hidden)
        running = evaluator(policy, Stepper, 0)
        (result,) = list(running.evaluate(snapshot(policy), pairs(1)))[:1]
        running.close()
        sizes.append(len(pack_results([result])))
    assert sizes[0] == sizes[1] <= 64 + 2 * 8 * 3


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_sums_over_workers_have_the_serial_bits(num_workers):
    module = torch.nn.Linear(BLOCK, 3)  # four blocks, the last one short
    dim = FlatParameters(module).dim
    running = ProcessEvaluator(
        partial(FunctionPlayer, module, torch.sum, 7), Board(dim, torch.float32, 0), 7, num_workers
    )
    linear, squared = np.array([0.5, -1.0, 0.0]), np.array([0.0, 0.25, 0.0])
    expected = serial_noise_sum(Noise(7, dim))(3, linear, squared)
    got = running.noise_sum(3, linear, squared)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
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
