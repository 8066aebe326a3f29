"""F22 to F27: too little memory, disk, descriptors; and nothing that grows."""

import os
import resource
import shutil
import subprocess
import textwrap
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from harness import Faulty, bits, command, golden, make, train, until

from torch_es import ES, mlp
from torch_es.errors import ResourceError
from torch_es.runs import checkpoint
from torch_es.runs.folder import RunFolder

NAMESPACES = shutil.which("unshare") and subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode == 0


def python(script, *before, timeout=300):
    words, environment = command("-c", textwrap.dedent(script))
    return subprocess.run([*before, *words], capture_output=True, text=True, timeout=timeout, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(not NAMESPACES, reason="this system lets us make no mount namespace")
def test_F22_too_little_shared_memory_is_found_before_workers_start():
    script = """
        from harness import Faulty
        from torch_es import ES, mlp
        ES(mlp(3, 1, (1600, 1600)), Faulty, num_pairs=1, num_workers=1).learn(1)
    """
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    done = python(script, "unshare", "-rm", "sh", "-c", mount, "sh")
    assert done.returncode == 1  # not by SIGBUS
    assert "/dev/shm has 1.0 MiB free, but the workers' shared memory needs 29." in done.stderr
    assert "--shm-size" in done.stderr


def test_F22_is_checked_against_what_there_is(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match=r"MiB free, but the workers' shared memory needs .*--shm-size"):
        train(num_workers=2)


def usage_of(pid):
    """Resident memory in bytes, descriptors and threads of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    descriptors = len(os.listdir(f"/proc/{pid}/fd"))
    return int(fields["VmRSS"].split()[0]) * 1024, descriptors, int(fields["Threads"])


@pytest.mark.slow
def test_F23_two_thousand_generations_leave_nothing_behind(tmp_path, tried):
    seen = {}

    def look(metrics):
        generation = int(metrics["time/iterations"])
        if generation in (500, 2000):
            seen[generation] = {pid: usage_of(pid) for pid in (os.getpid(), *es.evaluator().pids)}
            seen[generation]["shared"] = len(os.listdir("/dev/shm"))
        return generation < 2000

    with make(num_workers=2) as es:
        es.learn(10**9, callback=look, folder=tmp_path / "r", checkpoint_every=0.2)
    assert seen[500].pop("shared") == seen[2000].pop("shared")
    for pid, (memory, descriptors, threads) in seen[2000].items():
        before = seen[500][pid]
        assert memory - before[0] < 5 * 2**20, (pid == os.getpid(), memory - before[0])
        assert (descriptors, threads) == before[1:]
    tried(2000)


def threads_and_variables(module):
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return 100.0 * torch.get_num_threads() + sum(os.environ.get(name) == "1" for name in names)


def test_F24_each_worker_has_one_thread(monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    with ES(torch.nn.Linear(2, 1), fitness_fn=threads_and_variables, num_pairs=2, num_workers=1) as es:
        assert [result.return_ for result in es.evaluate(2)] == [103.0, 103.0]
    assert "OMP_NUM_THREADS" not in os.environ
    assert threading.active_count() < 10


@pytest.fixture
def full_disk():
    """A function after which no file grows beyond 40 kB, and another that lifts that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield (
        partial(resource.setrlimit, resource.RLIMIT_FSIZE, (40_000, hard)),
        partial(resource.setrlimit, resource.RLIMIT_FSIZE, (soft, hard)),
    )
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def large():
    """A trainer whose checkpoints are larger than the full disk takes."""
    return ES(mlp(3, 1, (100, 100), seed=0), Faulty, num_workers=0, num_pairs=2, sigma=0.1)


@pytest.mark.parametrize("policy", ["warn", "raise"])
def test_F25_a_full_disk_costs_nothing_that_is_saved(policy, full_disk, tmp_path, caplog):
    fill, free = full_disk
    straight = large().learn(10**9, callback=until(4))
    es = large()
    folder = RunFolder(tmp_path / "r", on_save_error=policy)

    def callback(metrics):
        if metrics["time/iterations"] == 2:
            fill()
        return metrics["time/iterations"] < 4

    with folder, pytest.raises(OSError, match="too large"):  # "warn" tries until the end, which must be saved
        es.learn(10**9, callback=callback, folder=folder, checkpoint_every=1e-9)
    free()
    generations = 4 if policy == "warn" else 3
    assert es.strategy.generation == generations
    assert ("Could not write checkpoint 3" in caplog.text) == (policy == "warn")
    names = sorted(p.name for p in (tmp_path / "r" / "checkpoints").iterdir())
    assert names == ["generation-000001", "generation-000002"]
    assert checkpoint.newest(tmp_path / "r" / "checkpoints")["strategy"]["generation"] == 2
    resumed = large().learn(10**9, callback=until(4), folder=tmp_path / "r", resume=True)
    assert bits(resumed) == bits(straight)


def test_F25_too_little_disk_is_found_before_the_first_generation(tmp_path, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match="MiB left, the run's checkpoints need"):
        make().learn(100, folder=tmp_path / "r")


def test_F26_a_folder_that_cannot_be_written_is_found_before_the_first_generation():
    es = make()
    with pytest.raises(ResourceError, match=r"`/proc/run` cannot be written to"):
        es.learn(100, folder="/proc/run")
    assert es.strategy.generation == 0


@pytest.mark.slow
def test_F27_few_descriptors_are_enough():
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        from harness import bits, train
        train(num_workers=2, generations=500)
        try:
            train(num_workers=16)
        except OSError as error:
            print(error)
    """
    done = python(script)
    assert done.stdout == "The workers need 224 open files, the limit is 64; raise it with `ulimit -n`.\n", done.stderr


def test_F27_the_own_limit_is_raised_as_far_as_it_may_be():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 20, hard))
    try:
        assert bits(train(num_workers=1)) == golden()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
