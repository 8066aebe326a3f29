"""F50 to F53 and F55: loggers, networks, jobs and terminals that fail."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import CONFIG, Command, bits, command, golden, make, rows, torch_es, until
from helpers import wandb_history, wandb_records
from test_fault_resources import NAMESPACES

from torch_es.errors import MissingExtraError
from torch_es.loggers import WandbLogger

WANDB = ["logger=wandb", "logger.mode=offline"]


class Broken:
    """A logger that raises in one of its calls."""

    def __init__(self, call):
        self.broken, self.calls = call, []

    def _called(self, call):
        self.calls.append(call)
        if call == self.broken:
            raise ConnectionError("no network")

    def start(self, config, folder):
        self._called("start")

    def log(self, metrics):
        self._called("log")

    def close(self, exit_code=0):
        self._called("close")


@pytest.mark.parametrize(
    ("call", "calls"),
    [("start", ["start"]), ("log", ["start", "log"]), ("close", ["start", "log", "log", "log", "close"])],
)
def test_F51_a_logger_that_fails_is_named_once_and_changes_nothing(call, calls, tmp_path, caplog):
    broken = Broken(call)
    es = make().learn(10**9, callback=until(3), folder=tmp_path / "r", loggers=[broken])
    assert bits(es) == golden(3)
    assert len(rows(tmp_path / "r")) == 3
    assert broken.calls == calls
    (record,) = caplog.records
    assert f"Broken failed in {call}() and is not used any more; training goes on. ConnectionError" in record.message


def test_F51_but_a_missing_package_is_an_error_at_the_start(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match="comes with the extra `wandb`"):
        WandbLogger()


@pytest.mark.slow
@pytest.mark.skipif(not NAMESPACES, reason="this system lets us make no network namespace")
def test_F50_offline_without_a_network_costs_no_time(tmp_path):
    start = time.monotonic()
    assert torch_es(*CONFIG, "total_timesteps=480", "run_dir=plain", cwd=tmp_path)[0] == 0
    plain = time.monotonic() - start
    start = time.monotonic()
    done = without_network([*CONFIG, *WANDB, "total_timesteps=480", "run_dir=r"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < plain + 20  # ten at the start, ten at the end
    assert rows(tmp_path / "r") == rows(tmp_path / "plain")
    assert list((tmp_path / "r").glob("wandb/offline-run-*/*.wandb"))


def without_network(arguments, cwd):
    words, environment = command("-m", "torch_es", *arguments)
    loopback = 'ip link set lo up 2>/dev/null; exec "$@"'
    return subprocess.run(
        ["unshare", "-rn", "sh", "-c", loopback, "sh", *words],
        cwd=cwd, capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip


@pytest.mark.slow
def test_F51_the_wandb_service_is_killed(tmp_path):
    assert torch_es(*CONFIG, "total_timesteps=800", "run_dir=plain", cwd=tmp_path)[0] == 0
    running = Command(*CONFIG, *WANDB, "+env.kwargs.pause=0.01", "total_timesteps=800", "run_dir=r", cwd=tmp_path)
    path = tmp_path / "r" / "metrics.jsonl"
    running.wait_for(lambda: path.exists() and len(path.read_text().splitlines()) > 3)
    services = [pid for pid in running.pids() if b"wandb-core" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert services
    for pid in services:
        os.kill(pid, signal.SIGKILL)
    code, _, error = running.end(120)
    assert code == 0, error
    assert rows(tmp_path / "r") == rows(tmp_path / "plain")


@pytest.mark.slow
def test_F52_parts_of_a_killed_offline_run_are_one_run(tmp_path, tried):
    assert torch_es(*CONFIG, "total_timesteps=800", "run_dir=plain", cwd=tmp_path)[0] == 0
    path = tmp_path / "r" / "metrics.jsonl"
    for generations in (3, 8):
        running = Command(
            *CONFIG, *WANDB, "+env.kwargs.pause=0.01", "total_timesteps=800", "run_dir=r", "resume=auto", cwd=tmp_path
        )
        running.wait_for(lambda n=generations: path.exists() and len(path.read_text().splitlines()) >= n)
        running.process.kill()
        running.end()
        tried()
    slow = ["+env.kwargs.pause=0.01", "total_timesteps=800", "run_dir=r", "resume=auto"]
    code, _, error = torch_es(*CONFIG, *WANDB, *slow, cwd=tmp_path)
    assert code == 0, error
    assert rows(tmp_path / "r") == rows(tmp_path / "plain")
    steps = [json.loads(line)["global_step"] for line in path.read_text().splitlines()]
    assert steps == sorted(set(steps))
    names = {p.name.rsplit("-", 1)[1] for p in (tmp_path / "r" / "wandb").glob("offline-run-*")}
    assert names == {(tmp_path / "r" / ".wandb-id").read_text().split("\n")[0]}  # three parts, one id
    parts = set((tmp_path / "r" / "wandb").glob("offline-run-*/*.wandb"))
    assert torch_es("wandb-replay", "r", "--mode", "offline", cwd=tmp_path)[0] == 0
    (whole,) = set((tmp_path / "r" / "wandb").glob("offline-run-*/*.wandb")) - parts
    history = [row["global_step"] for row in wandb_history(whole)]
    assert history == [*steps, steps[-1], steps[-1]]  # no gap, none twice; then the result, and the curve


@pytest.mark.slow
def test_F53_a_job_of_a_multirun_that_fails_ends_no_other(tmp_path):
    jobs = ["+env.kwargs.mishap=null,raise,null", "total_timesteps=800", "+env.kwargs.pause=0.01"]
    running = Command("--multirun", *CONFIG, *WANDB, *jobs, "run_dir=job${hydra:job.num}", cwd=tmp_path)
    metrics = [tmp_path / f"job{n}" / "metrics.jsonl" for n in (0, 2)]
    alive = []
    for path in metrics:
        running.wait_for(lambda path=path: path.exists() and path.read_text().count("\n") > 3)
        alive.append(len(running.pids()))
    code, _, error = running.end(120)
    assert code == 1, error
    running.wait_gone(20)
    assert alive[1] <= alive[0]  # the job that failed left no worker behind
    assert rows(tmp_path / "job0") == rows(tmp_path / "job2")
    assert "job 1 (" in error
    assert "OwnError" not in (tmp_path / "job0" / "run.log").read_text()
    log = (tmp_path / "job1" / "run.log").read_text()
    assert "OwnError: the joint broke" in log
    assert 'torch_es/cli/run.py", line' in log
    runs = {p.parent.name.rsplit("-", 1)[1] for p in tmp_path.glob("job*/wandb/offline-run-*/*.wandb")}
    assert runs == {(tmp_path / f"job{n}" / ".wandb-id").read_text().split("\n")[0] for n in range(3)}
    assert len(runs) == 3


@pytest.mark.slow
def test_F53_nor_does_it_under_joblib(tmp_path):
    jobs = ["--multirun", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "+env.kwargs.mishap=null,raise,null"]
    code, out, error = torch_es(
        *CONFIG, *WANDB, *jobs, "total_timesteps=240", "run_dir=job${hydra:job.num}", cwd=tmp_path
    )
    assert code == 1, error
    assert rows(tmp_path / "job0") == rows(tmp_path / "job2")
    assert len(rows(tmp_path / "job0")) == 6
    assert out.count("centre return") == 2
    assert "OwnError: the joint broke" in (tmp_path / "job1" / "run.log").read_text()
    assert error.rstrip().splitlines()[-1]
    assert "torch-es: job 1 (" in error
    runs = [path.parent.parent.parent.name for path in tmp_path.glob("job*/wandb/offline-run-*/*.wandb")]
    assert sorted(runs) == ["job0", "job1", "job2"]
    groups = {record.run.run_group for path in tmp_path.glob("job*/wandb/offline-run-*/*.wandb")
              for record in wandb_records(path) if record.HasField("run")}  # fmt: skip
    assert len(groups) == 1


@pytest.mark.slow
@pytest.mark.parametrize("shell", ['"$@" | head -1', '"$@" >&-', 'NO_COLOR=1 "$@"'])
def test_F55_a_terminal_that_goes_away_ends_nothing(shell, tmp_path):
    words, environment = command("-m", "torch_es", *CONFIG, "total_timesteps=480", "run_dir=r")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell, "bash", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(rows(tmp_path / "r")) == 12
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr


def test_F55_a_log_that_is_moved_away_is_no_fault(tmp_path):
    def rotate(metrics):
        if metrics["time/iterations"] == 2:
            (tmp_path / "r" / "metrics.jsonl").rename(tmp_path / "rotated")
        return metrics["time/iterations"] < 3

    assert bits(make().learn(10**9, callback=rotate, folder=tmp_path / "r")) == golden(3)
    assert len((tmp_path / "rotated").read_text().splitlines()) == 3
