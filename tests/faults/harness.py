"""What the fault tests share: an environment with mishaps, an undisturbed run to compare with, processes to kill."""

import ctypes
import functools
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import uuid
from functools import partial
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from helpers import Stepper

from torch_es import ES, mlp
from torch_es.runs import checkpoint
from torch_es.runs.replay_log import digest

HERE = Path(__file__).parent
TIMING = ("time/fps", "time/time_elapsed", "es/worker_restarts")
ADAM = partial(torch.optim.Adam, lr=0.05, weight_decay=0.01)


def in_worker():
    """The trainer makes an environment too, to see its spaces."""
    return multiprocessing.parent_process() is not None


class Faulty(Stepper):
    """`Stepper` with a mishap in the second step: always, once (with a fuse), or for one environment seed only."""

    def __init__(self, mishap=None, fuse=None, seed=None, pause=0.0, length=5):
        super().__init__(length)
        self.kind, self.fuse_path, self.poison, self.pause = mishap, fuse, seed, pause
        if mishap == "constructor" and in_worker():
            with Path(fuse).open("a") as file:
                file.write("x")
            raise OSError("no such robot")

    def reset(self, *, seed=None, options=None):
        self.seed = seed
        return super().reset(seed=seed, options=options)

    def step(self, action):
        if self.pause:
            time.sleep(self.pause)
        outcome = super().step(action)
        if self.kind and self.at == 2 and self.poison in (None, self.seed) and self._lights():
            MISHAPS[self.kind]()
        if self.kind == "nan_observation" and self.poison in (None, self.seed):
            outcome[0][2] = np.nan
        return outcome

    def _lights(self):
        if self.fuse_path is None:
            return True
        try:
            os.close(os.open(self.fuse_path, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def close(self):
        if self.kind == "slow_close" and in_worker():
            time.sleep(1000)


class OwnError(Exception):
    """An exception of the environment's own."""


def _raise():
    raise OwnError("the joint broke")


def _no_memory():
    size = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, size[1]))
    try:
        np.ones(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, size)


MISHAPS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "memory": _no_memory,
    "raise": _raise,
    "sleep": lambda: time.sleep(1000),
    "hold_gil": lambda: (signal.signal(signal.SIGTERM, signal.SIG_IGN), ctypes.PyDLL(None).sleep(1000)),
    "constructor": lambda: None,
    "slow_close": lambda: None,
    "nan_observation": lambda: None,
}

gym.register("Faulty-v0", Faulty)


def make(factory=Faulty, num_workers=0, normalize_observations=True, **options):
    """A small trainer; every test's run has the same seed, policy and settings."""
    options = {"num_pairs": 4, "sigma": 0.1, "eval_every": 2, "optimizer": ADAM, "num_lanes": 3, **options}
    network = mlp(3, 1, (8,), seed=0, normalize_observations=normalize_observations)
    return ES(network, factory, num_workers=None if "evaluator" in options else num_workers, **options)


def until(generations):
    """A callback that ends training there."""
    return lambda metrics: metrics["time/iterations"] < generations


def train(factory=Faulty, num_workers=2, generations=2, **options):
    """Train so far and return the trainer, its workers ended."""
    with make(factory, num_workers, **options) as es:
        return es.learn(10**9, callback=until(generations))


def bits(es):
    """All of a trainer's state as comparable bytes."""
    flat = {}

    def walk(tree, path):
        if isinstance(tree, dict):
            for key, value in tree.items():
                walk(value, f"{path}/{key}")
        elif isinstance(tree, (list, tuple)):
            for i, value in enumerate(tree):
                walk(value, f"{path}/{i}")
        else:
            flat[path] = tree.contiguous().numpy().tobytes() if isinstance(tree, torch.Tensor) else tree

    walk(es.trainer.state_dict(), "")
    return {path: value for path, value in flat.items() if path != "/seconds"}


@functools.cache
def golden(generations=2):
    """The bits of the undisturbed run."""
    return bits(train(num_workers=0, generations=generations))


def rows(folder):
    """The rows of `metrics.jsonl` without what depends on the clock."""
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in TIMING and not k.startswith("cluster/")}
        for line in lines
    ]


def command(*arguments):
    """The command as a list, and the environment in which it finds the package and `Faulty-v0`."""
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    return [sys.executable, *arguments], {**os.environ, "PYTHONPATH": path}


class Command:
    """`torch-es` in a process group of its own, with a mark that all its descendants carry."""

    def __init__(self, *arguments, cwd, **environment):
        self.mark = uuid.uuid4().hex
        words, own = command("-m", "torch_es", *arguments)
        self.process = subprocess.Popen(
            words,
            cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**own, "TORCH_ES_MARK": self.mark, **environment},
        )  # fmt: skip

    def pids(self):
        """Living processes of the command, itself included."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    marked = f"TORCH_ES_MARK={self.mark}".encode() in (entry / "environ").read_bytes()
                    if marked and (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def wait_for(self, condition, seconds=60):
        """Wait until `condition()`, or fail with what the command said."""
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                out, err = self.process.communicate()
                raise AssertionError(f"the command ended or took too long\n{out}\n{err}")
            time.sleep(0.02)

    def wait_gone(self, seconds):
        """Return how long it takes until no process of the command is left."""
        start = time.monotonic()
        while self.pids():
            assert time.monotonic() - start < seconds, f"still alive: {self.pids()}"
            time.sleep(0.05)
        return time.monotonic() - start

    def end(self, seconds=60):
        """Wait for the end; return the exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


# generations of 8 episodes of 5 steps; `pause` makes them last
CONFIG = [
    "env.id=harness:Faulty-v0", "policy.hidden=[8]", "strategy.num_pairs=4", "strategy.sigma=0.1", "eval_every=2",
    "evaluator.num_workers=2", "evaluator.num_lanes=3", "video=false", "final_episodes=1", "checkpoint_every=0.0001",
]  # fmt: skip


def theta_of(folder):
    """The digest of a run's newest theta."""
    return digest(checkpoint.newest(Path(folder) / "checkpoints")["strategy"]["theta"]).hex()


def torch_es(*arguments, cwd, **environment):
    """Run the command to its end; return exit code, stdout and stderr."""
    return Command(*arguments, cwd=cwd, **environment).end(300)
