"""F11 to F15, F28 and F36: the run is stopped from outside, at any moment, and goes on."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial

import harness
import pytest
import torch
from harness import CONFIG, Command, Faulty, bits, golden, make, rows, theta_of, torch_es, until

from torch_es.envs.rules import EpisodeRules
from torch_es.training.signals import StopSignals
from torch_es.types import Task

SLOW = "+env.kwargs.pause=0.02"  # a generation takes about 0.4 s
LONG = [*CONFIG, SLOW, "total_timesteps=100000", "run_dir=r"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Metrics and theta of an undisturbed run of `generations`."""
    cwd = tmp_path_factory.mktemp("straight")
    code, _, error = torch_es(*CONFIG, "total_timesteps=480", "run_dir=r", cwd=cwd)  # 12 generations of 40 steps
    assert code == 0, error
    return rows(cwd / "r"), theta_of(cwd / "r")


def begun(folder, generations=1):
    """Whether so many generations are written."""
    path = folder / "metrics.jsonl"
    return lambda: path.exists() and len(path.read_text().splitlines()) >= generations


def continued(cwd, straight):
    """Resume to 12 generations by the same command and compare with the undisturbed run."""
    code, _, error = torch_es(*CONFIG, SLOW, "total_timesteps=480", "run_dir=r", "resume=auto", cwd=cwd)
    assert code == 0, error
    assert rows(cwd / "r") == straight[0]
    assert theta_of(cwd / "r") == straight[1]


@pytest.mark.slow
def test_F11_a_program_that_closes_nothing_ends():
    script = (
        "from harness import make, until; es = make(num_workers=2); es.learn(9**9, callback=until(1)); print('end')"
    )
    words, environment = harness.command("-c", script)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["spawning", "playing", "hanging", "holding"])
def test_F11_workers_die_with_a_parent_that_is_killed(moment, tmp_path, tried):
    fuse = tmp_path / "fuse"
    mishap, most = [], 2
    if moment in ("hanging", "holding"):
        kind = "sleep" if moment == "hanging" else "hold_gil"
        mishap = [f"+env.kwargs.mishap={kind}", f"+env.kwargs.fuse={fuse}"]
    if moment == "holding":  # the interpreter's lock: it ends when the parent would have ended it, and 5 seconds
        mishap, most = [*mishap, "evaluator.tolerance.task_timeout=3"], 9
    if moment == "spawning":  # a worker notices once it has imported torch
        most = 9
    for delay in (0.0, 0.3, 0.8) if moment == "spawning" else (0.0,):
        command = Command(*LONG, *mishap, "resume=auto", cwd=tmp_path)
        if moment in ("hanging", "holding"):
            command.wait_for(fuse.exists)
        elif moment == "spawning":
            command.wait_for(lambda c=command: len(c.pids()) > 1)
            time.sleep(delay)
        else:
            command.wait_for(begun(tmp_path / "r"))
        command.process.kill()
        command.process.wait()
        assert command.wait_gone(12) <= most
        command.end()
        tried()
    again = [*LONG[:-2], *mishap, "total_timesteps=80", "run_dir=r", "resume=auto"]
    code, _, error = torch_es(*again, cwd=tmp_path)
    assert code == 0, error


class Signalled(Faulty):
    """Sends its own process a signal in the middle of a generation."""

    def __init__(self, number, generation):
        super().__init__()
        self.number, self.at_seed = number, EpisodeRules().environment_seed(0, Task(generation, 2, world=1))

    def step(self, action):
        if self.seed == self.at_seed and self.at == 2 and self.number is not None:
            self.number = signal.raise_signal(self.number)
        return super().step(action)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_F12_F13_a_signal_leaves_the_generation_and_saves_the_last_whole_one(number, raised, tmp_path):
    es = make(partial(Signalled, number, 3))
    with pytest.raises(raised):
        es.learn(10**9, callback=until(5), folder=tmp_path / "r")
    assert bits(es) == golden(3)
    assert len(rows(tmp_path / "r")) == 3
    assert (tmp_path / "r" / "checkpoints" / "generation-000003").is_dir()
    assert bits(make().learn(10**9, callback=until(5), folder=tmp_path / "r", resume=True)) == golden(5)
    if number == signal.SIGINT:
        return
    es = make(partial(Signalled, number, 0))  # before anything is whole, what is saved is the start
    with pytest.raises(raised, match="143"):
        es.learn(10**9, callback=until(5), folder=tmp_path / "s")
    assert bits(make().learn(10**9, callback=until(2), folder=tmp_path / "s", resume=True)) == golden(2)


@pytest.mark.slow
def test_F12_ctrl_c_saves_and_resumes_to_the_bit(tmp_path, straight):
    command = Command(*CONFIG, SLOW, "total_timesteps=480", "run_dir=r", cwd=tmp_path)
    command.wait_for(begun(tmp_path / "r", 2))
    os.killpg(command.process.pid, signal.SIGINT)
    code, _, error = command.end()
    assert code == 130
    assert error.count("\n") == 1
    assert f"stopped by SIGINT; `torch-es train resume=r {CONFIG[0]}` continues from generation" in error
    command.wait_gone(2)
    saved = len(rows(tmp_path / "r"))
    assert (tmp_path / "r" / "checkpoints" / f"generation-{saved:06d}").is_dir()
    finish(tmp_path, straight)


def finish(cwd, straight):
    """Resume by the printed command and compare."""
    code, _, error = torch_es("train", "resume=r", CONFIG[0], "total_timesteps=480", cwd=cwd)
    assert code == 0, error
    assert rows(cwd / "r") == straight[0]
    assert theta_of(cwd / "r") == straight[1]


@pytest.mark.slow
def test_F12_ctrl_c_twice_ends_at_once(tmp_path, straight):
    command = Command(*CONFIG, SLOW, "total_timesteps=480", "run_dir=r", cwd=tmp_path)
    command.wait_for(begun(tmp_path / "r", 2))
    os.killpg(command.process.pid, signal.SIGINT)
    time.sleep(0.1)
    os.killpg(command.process.pid, signal.SIGINT)
    start = time.monotonic()
    code, _, error = command.end()
    assert time.monotonic() - start < 2
    assert code == 130, error
    assert "Traceback" not in error
    finish(tmp_path, straight)


@pytest.mark.slow
@pytest.mark.parametrize("group", [False, True])
def test_F13_sigterm_saves_and_exits_143(group, tmp_path, straight):
    command = Command(*CONFIG, SLOW, "total_timesteps=480", "run_dir=r", cwd=tmp_path)
    command.wait_for(begun(tmp_path / "r", 3))
    (os.killpg if group else os.kill)(command.process.pid, signal.SIGTERM)
    start = time.monotonic()
    code, _, error = command.end()
    assert code == 143
    assert time.monotonic() - start < 5
    assert "stopped by SIGTERM" in error
    assert "is replaced" not in error
    finish(tmp_path, straight)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_F12_F13_a_signal_to_the_group_while_workers_start(number, tmp_path):
    command = Command(*LONG, cwd=tmp_path)
    command.wait_for(lambda: len(command.pids()) > 3)
    os.killpg(command.process.pid, number)
    code, _, error = command.end()
    assert code == 128 + number, error
    assert "Traceback" not in error
    command.wait_gone(2)


def noted(heard):
    """Take a SIGTERM between two generations: nothing is raised there."""
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        assert heard == []


def test_F13_the_handler_before_ours_is_called_and_restored():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("before"))
    own = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stop:
            noted(heard)
        assert stop.value.code == 143
        assert heard == ["before"]
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
def test_F14_slurm_is_asked_once_to_requeue_and_the_run_goes_on(tmp_path, straight):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    (tools / "scontrol").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    slurm["PATH"] = f"{tools}:{os.environ['PATH']}"
    arguments = [*CONFIG, SLOW, "total_timesteps=480", "resume=auto"]  # the folder's name has the time in it
    command = Command(*arguments, cwd=tmp_path, **slurm)
    runs = tmp_path / "runs" / "harness:Faulty-v0"
    command.wait_for(lambda: any(begun(folder, 2)() for folder in runs.glob("*")))
    os.killpg(command.process.pid, signal.SIGUSR1)
    code, _, error = command.end()
    assert code == 128 + signal.SIGUSR1, error
    assert (tmp_path / "calls").read_text() == "requeue 5_2\n"
    code, _, error = torch_es(*arguments, cwd=tmp_path, **slurm)
    assert code == 0, error
    (folder,) = runs.glob("*")
    assert rows(folder) == straight[0]
    assert theta_of(folder) == straight[1]


SLOW_WRITE = """
    import os, time
    from pathlib import Path
    from torch_es.runs import checkpoint
    import torch
    def half(handle):
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        if path.is_file():
            content = path.read_bytes()
            os.ftruncate(handle, len(content) // 2)
            print(path.name, flush=True)
            time.sleep(0.3)
            path.write_bytes(content)
    checkpoint.save("checkpoints/generation-000001", {"n": 1, "t": torch.ones(3)})
    checkpoint.save("best", {"n": 1, "t": torch.ones(3)})
    os.fsync = half
    for folder in ("checkpoints/generation-000002", "best"):
        checkpoint.save(folder, {"n": 2, "t": torch.zeros(3)})
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_F15_killed_while_a_checkpoint_is_written(number, tmp_path, tried):
    from torch_es.runs import checkpoint

    for written in range(6):  # three files of each of two checkpoints
        cwd = tmp_path / str(written)
        cwd.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SLOW_WRITE)], cwd=cwd, stdout=subprocess.PIPE, text=True
        )
        for _ in range(written + 1):
            process.stdout.readline()
        process.send_signal(number)
        process.wait()
        process.stdout.close()
        newest = checkpoint.newest(cwd / "checkpoints")
        assert newest["n"] == (1 if written < 3 else 2)
        assert newest["t"].sum() == (3 if newest["n"] == 1 else 0)
        assert checkpoint.load(cwd / "best")["n"] == 1
        checkpoint.clear(cwd / "checkpoints")
        assert len(list((cwd / "checkpoints").iterdir())) == newest["n"]
        tried()


def go_on(folder, generations):
    """Resume the run in `folder`, saving after every generation."""
    es = make(partial(Faulty, pause=0.001))
    es.learn(10**9, callback=until(generations), folder=folder, resume=True, checkpoint_every=1e-9)


@pytest.mark.slow
def test_F28_a_hundred_kills_at_any_moment(tmp_path, tried):
    chance, reached = random.Random(28), set()
    golden()  # all is imported by now, so that kills fall into the run
    for _ in range(100):
        process = multiprocessing.get_context("fork").Process(target=go_on, args=(tmp_path / "r", 10**9))
        process.start()
        process.join(chance.uniform(0.0, 0.8))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL  # never by an error
        reached |= {path.name for path in (tmp_path / "r").glob("checkpoints/generation-*")}
        tried()
    assert len(reached) > 50  # most kills fell into generations, and into saving them
    goal = int(max(reached).removeprefix("generation-")) + 5
    go_on(tmp_path / "r", goal)
    straight = make().learn(10**9, callback=until(goal), folder=tmp_path / "straight")
    assert rows(tmp_path / "r") == rows(tmp_path / "straight")
    assert [row["time/iterations"] for row in rows(tmp_path / "r")] == list(range(1, goal + 1))
    assert bits(make().learn(1, folder=tmp_path / "r", resume=True)) == bits(straight)
    replayed = make()
    replayed.replay(tmp_path / "r" / "replay.log", goal)
    assert torch.equal(replayed.strategy.theta, straight.strategy.theta)


@pytest.mark.slow
def test_F28_the_command_is_killed_with_its_workers(tmp_path, straight, tried):
    path = tmp_path / "r" / "metrics.jsonl"
    chance = random.Random(28)
    for generations in (1, 4, 7, 10):
        command = Command(*CONFIG, SLOW, "total_timesteps=480", "run_dir=r", "resume=auto", cwd=tmp_path)
        command.wait_for(lambda n=generations: path.exists() and len(path.read_text().splitlines()) >= n)
        time.sleep(chance.uniform(0.0, 0.4))
        command.process.kill()
        command.end()
        tried()
    continued(tmp_path, straight)


@pytest.mark.slow
def test_F36_two_processes_on_one_folder(tmp_path, tried):
    first = Command(*LONG, cwd=tmp_path)
    first.wait_for(begun(tmp_path / "r"))
    code, _, error = torch_es("train", "resume=r", CONFIG[0], cwd=tmp_path)
    assert code == 2
    assert f"is being written by process {first.process.pid} on " in error
    first.process.kill()
    first.end()
    tried(2)
    code, _, error = torch_es("train", "resume=r", CONFIG[0], "total_timesteps=10", cwd=tmp_path)  # the lock is free
    assert code == 0, error
