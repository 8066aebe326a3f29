"""F01 to F10 and F16 to F21: workers and environments that crash, hang, lie and cannot be sent."""

import copy
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import textwrap
import threading
import time
from functools import partial
from pathlib import Path

import gymnasium as gym
import joblib
import pytest
from harness import CONFIG, Faulty, OwnError, bits, command, golden, in_worker, make, torch_es, train, until
from helpers import Stepper, by_task, evaluator, pairs, snapshot, stepper_policy

from torch_es.envs.rules import EpisodeRules
from torch_es.errors import WorkerError
from torch_es.evaluators import FaultTolerance, ProcessEvaluator
from torch_es.rollout import EnvObjective, Rollout
from torch_es.seeding import derive_seed
from torch_es.types import Task

POISON = derive_seed("environment", 0, 0, 2, 0)  # the environments of generation 0, pair 2


@pytest.mark.parametrize(("mishap", "told"), [("kill", "SIGKILL (possibly out of memory)"), ("segfault", "SIGSEGV")])
def test_F01_F02_F03_a_worker_that_dies_changes_nothing(mishap, told, tmp_path, caplog):
    es = train(partial(Faulty, mishap, str(tmp_path / "fuse")))
    assert bits(es) == golden()
    (record,) = [r for r in caplog.records if "is replaced" in r.message]
    assert f"was killed by {told}" in record.message
    for part in ("Worker ", "(restart 1)", "generation 0 member ", "environment seed"):
        assert part in record.message
    if mishap == "segfault":
        assert "Fatal Python error: Segmentation fault" in record.message
        assert "in step" in record.message


@pytest.mark.slow
def test_F03_memory_errors_are_retried_then_raised_with_the_member():
    with pytest.raises(
        WorkerError, match=r"(?s)generation 0 member [45] .*took down a worker 3 times.*MemoryError"
    ) as caught:
        train(partial(Faulty, "memory", seed=POISON))
    assert isinstance(caught.value.__cause__, MemoryError)
    assert caught.value.task.member in (4, 5)


@pytest.mark.slow
def test_F03_a_memory_error_that_passes_changes_nothing(tmp_path, caplog):
    assert bits(train(partial(Faulty, "memory", str(tmp_path / "fuse")))) == golden()
    assert "MemoryError" in caplog.text


@pytest.mark.slow
def test_F04_a_poison_member_stops_the_run_with_the_command_that_plays_it_again(tmp_path):
    poison = derive_seed("environment", 0, 2, 1, 0)  # generation 2, pair 1
    arguments = [*CONFIG, "+env.kwargs.mishap=kill", f"+env.kwargs.seed={poison}", "total_timesteps=10000"]
    code, _, error = torch_es(*arguments, "run_dir=r", cwd=tmp_path)
    assert code == 1
    line = next(line for line in error.splitlines() if "This plays it again: torch-es " in line)
    command, imports, module = line.split("torch-es ")[1].partition(" --import ")
    assert command in ("replay r --generation 2 --member 2", "replay r --generation 2 --member 3")
    assert module == "harness"
    assert f"generation 2 member {command[-1]} (environment seed {poison}) took down a worker 3 times" in error
    assert torch_es(*line.split("torch-es ")[1].split(), cwd=tmp_path)[0] == -signal.SIGKILL  # it does again
    assert len(list((tmp_path / "r" / "checkpoints").glob("generation-000002"))) == 1
    other = command[:-1] + "0" + imports + module
    assert "as in the run, bit for bit" not in torch_es(*other.split(), cwd=tmp_path)[1]  # generation 2 never ended


@pytest.mark.slow
@pytest.mark.parametrize("mishap", ["kill", "raise"])
def test_F04_or_its_pair_is_dropped_and_counted(mishap, caplog):
    seen = []
    tolerance = FaultTolerance(on_failure="drop_pair")
    with make(partial(Faulty, mishap, seed=POISON), 2, num_pairs=24, tolerance=tolerance) as es:
        es.learn(10**9, callback=lambda m: seen.append(m) or len(seen) < 2)
    assert [row["es/dropped_pairs"] for row in seen] == [1.0, 0.0]
    assert seen[0]["es/worker_restarts"] >= 3
    assert "its pair is dropped" in caplog.text


def test_F05_an_exception_arrives_with_its_type_and_the_workers_traceback():
    with make(partial(Faulty, "raise"), 2) as es:
        es.evaluator()
        start = time.monotonic()
        with pytest.raises(WorkerError, match=r"(?s)harness.OwnError: the joint broke.*in step") as caught:
            es.learn(100)
        assert time.monotonic() - start < 5
    assert isinstance(caught.value.__cause__, OwnError)
    assert multiprocessing.active_children() == []


def test_F06_a_constructor_that_fails_fails_once(tmp_path):
    with pytest.raises(WorkerError, match="OSError: no such robot"):
        train(partial(Faulty, "constructor", str(tmp_path / "calls")))
    assert 1 <= len((tmp_path / "calls").read_text()) <= 2  # once in each worker that got so far
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_F06_a_constructor_that_hangs_meets_the_deadline():
    with pytest.raises(WorkerError, match=r"did not come up within 4 s"):
        train(sleeper_in_worker, 1, tolerance=FaultTolerance(start_timeout=4.0))
    assert multiprocessing.active_children() == []


def sleeper_in_worker():
    if in_worker():
        time.sleep(1000)
    return Faulty()


@pytest.mark.parametrize("mishap", ["sleep", pytest.param("hold_gil", marks=pytest.mark.slow)])
def test_F07_F09_a_hung_worker_is_killed_and_changes_nothing(mishap, tmp_path, caplog):
    start = time.monotonic()
    es = train(partial(Faulty, mishap, str(tmp_path / "fuse")), tolerance=FaultTolerance(task_timeout=2.0))
    assert time.monotonic() - start < 40
    assert bits(es) == golden()
    assert "was silent for 2 s and was killed" in caplog.text
    assert "in step" in caplog.text  # it was asked where it stands, also while it holds the GIL


def test_F08_environments_that_do_not_close_are_killed(caplog):
    es = make(partial(Faulty, "slow_close"), 1, tolerance=FaultTolerance(stop_timeout=0.5))
    es.evaluator()
    start = time.monotonic()
    es.close()
    assert time.monotonic() - start < 3
    assert "its environments did not close within 0.5 s" in caplog.text
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_F10_fifty_workers_killed_at_any_moment(tried):
    chance = random.Random(10)
    with make(partial(Faulty, pause=0.004), 2) as es:
        start_state = copy.deepcopy(es.state_dict())  # whose tensors are the trainer's own
        for _ in range(50):
            evaluator_ = es.evaluator()
            victim = chance.choice(evaluator_.pids)
            timer = threading.Timer(chance.uniform(0, 0.2), os.kill, (victim, signal.SIGKILL))
            timer.start()
            begun = time.monotonic()
            es.learn(10**9, callback=until(2))
            assert time.monotonic() - begun < 60
            timer.join()
            assert bits(es) == golden()
            es.trainer.load_state_dict(copy.deepcopy(start_state))  # `restore` would end the workers
            tried()


@pytest.mark.slow
def test_F16_all_workers_die_at_once_and_the_budget_is_kept(caplog):
    with make(num_workers=2, tolerance=FaultTolerance(max_restarts=2)) as es:
        for pid in es.evaluator().pids:
            os.kill(pid, signal.SIGKILL)
        es.learn(10**9, callback=until(2))
        assert bits(es) == golden()
        assert es.evaluator().restarts == 2
    assert "(restart 2)" in caplog.text


def test_F17_what_cannot_be_sent_is_named():
    file = open(os.devnull, "w")  # noqa: SIM115
    with file, pytest.raises(TypeError, match=r"`env\.file`, a TextIOWrapper.*inside the function"):
        train(lambda: file and Faulty())


@pytest.mark.slow
def test_F18_fork_as_default_and_used_threads_do_no_harm(tmp_path, tried):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import multiprocessing, torch
            multiprocessing.set_start_method("fork")
            torch.randn(500, 500) @ torch.randn(500, 500)
            from harness import train, bits, golden
            for _ in range(10):
                assert bits(train(num_workers=2)) == golden()
            assert multiprocessing.get_start_method() == "fork"
            print("ten times")
        """)
    )
    words, environment = command(script)
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    assert done.stdout == "ten times\n", done.stderr
    tried(10)


def daemon(connection):
    logging.basicConfig(level=logging.WARNING)
    connection.send(bits(train(num_workers=2)))


def test_F19_a_daemon_plays_itself():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=daemon, args=(theirs,), daemon=True)
    process.start()
    assert ours.poll(60)
    assert ours.recv() == golden()
    process.join()


def in_joblib():
    bits_found, method = bits(train()), multiprocessing.get_start_method()
    return bits_found, method


@pytest.mark.slow
def test_F19_a_process_of_joblibs_has_workers_of_its_own():
    found, method = joblib.Parallel(n_jobs=2)(joblib.delayed(in_joblib)() for _ in range(2))[0]
    assert found == golden()
    assert method == "loky"  # as it was


class Nested(gym.Wrapper):
    """An environment that keeps processes of its own."""

    def __init__(self):
        super().__init__(Stepper())
        self.inner = gym.vector.AsyncVectorEnv([Stepper, Stepper])

    def step(self, action):
        self.inner.reset(seed=1)
        return super().step(action)

    def close(self):
        self.inner.close()


def descendants(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout.split()
    return [int(p) for p in found] + [d for p in found for d in descendants(int(p))]


def alive(pids):
    return [pid for pid in pids if os.path.exists(f"/proc/{pid}") and "Z" not in state(pid)]


def state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "Z"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_F20_grandchildren_end_with_their_worker(killed):
    with make(Nested, 1, num_lanes=1) as es:
        worker = es.evaluator().pids[0]
        grandchildren = descendants(worker)
        assert len(grandchildren) >= 2
        if killed:
            os.kill(worker, signal.SIGKILL)
        es.learn(10**9, callback=until(1))
    time.sleep(0.5)
    assert alive(grandchildren) == []


class Stutterer(Rollout):
    """Says everything twice."""

    def advance(self, interrupt=lambda: False):
        return [result for result in super().advance(interrupt) for _ in range(2)]


def test_F21_a_result_that_comes_twice_counts_once():
    policy = stepper_policy()
    serial = evaluator(policy, Stepper, 0)
    expected = by_task(serial.evaluate(snapshot(policy), pairs(6)))
    objective = EnvObjective(policy, Stepper, 7)
    objective.player = partial(Stutterer, policy, Stepper, 7, 4)
    running = ProcessEvaluator(objective, snapshot(policy), 1)
    results = list(running.evaluate(snapshot(policy), pairs(6)))
    running.close()
    assert by_task(results) == expected
    assert len(results) == len(expected)


def test_the_seed_named_is_the_environments():
    assert EpisodeRules().environment_seed(0, Task(0, 5, world=2)) == POISON
