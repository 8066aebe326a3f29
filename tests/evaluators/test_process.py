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
from torch_es.evaluators import FaultTolerance, ProcessEvaluator
from torch_es.evaluators.remote import _signals_blocked
from torch_es.evaluators.wire import pack_results
from torch_es.rollout import FunctionObjective, Snapshot
from torch_es.search import Mirrored
from torch_es.search.noise import BLOCK, num_blocks
from torch_es.search.parameters import FlatParameters
from torch_es.search.perturbation import chunks, serial_sum


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
    first = [r.return_ for r in running.evaluate(snapshot(policy, generation=0), pairs(2, generation=0))]
    second = [r.return_ for r in running.evaluate(snapshot(policy, generation=1), pairs(2, generation=1))]
    running.close()
    assert not set(first) & set(second)


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


@pytest.mark.parametrize(("width", "pairs"), [(BLOCK, 3), (100, 200)], ids=["blocks", "chunks"])
@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_sums_over_workers_have_the_serial_bits(num_workers, width, pairs):
    module = torch.nn.Linear(width, 3)
    dim = FlatParameters(module).dim
    noise = Mirrored(7, 3, dim, 0.1)
    running = ProcessEvaluator(
        FunctionObjective(module, torch.sum), Snapshot(torch.zeros(dim), Mirrored(7, 0, dim, 0.1)), num_workers
    )
    assert (num_blocks(dim), len(chunks(dim, pairs))) == ((4, 1) if width == BLOCK else (1, 4))
    rng = np.random.default_rng(0)
    linear, squared = rng.normal(size=pairs), rng.normal(size=pairs)
    linear[0], squared[2] = 0, 0
    expected = serial_sum(noise, linear, squared)
    got = running.noise_sum(noise, linear, squared)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    assert torch.equal(running.noise_sum(noise, linear).linear, expected.linear)
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
