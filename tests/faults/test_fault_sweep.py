"""F54: searches whose trials fail, end in NaN, or are killed with the process."""

import json

import optuna
import pytest
from harness import CONFIG, Command, torch_es
from optuna.trial import TrialState

from torch_es.envs.rules import EpisodeRules
from torch_es.types import Task

GENERATIONS = 6  # of 40 steps
LAST = EpisodeRules().environment_seed(0, Task(GENERATIONS, -1))  # of the episode that says what a trial is worth
SWEEP = [
    "sweep", *CONFIG, "sweep=none", "sweep.trials=5", "sweep.dir=s", "total_timesteps=240", "+env.kwargs.pause=0.02",
    f"+env.kwargs.seed={LAST}", "+env.kwargs.mishap=null,nan_observation", "optimizer.lr=interval(0.01,0.1)",
]  # fmt: skip


def trials(folder):
    study = optuna.load_study(study_name="torch-es", storage=f"sqlite:///{folder}/s/study.db")
    return study.get_trials()


@pytest.mark.slow
def test_F54_a_killed_sweep_goes_on_and_a_NaN_fails_a_trial(tmp_path, tried):
    running = Command(*SWEEP, cwd=tmp_path)
    path = tmp_path / "s" / "trial-0002" / "metrics.jsonl"
    running.wait_for(lambda: path.exists() and path.read_text().count("\n") >= 2)
    running.process.kill()
    _, _, error = running.end()
    running.wait_gone(20)
    assert [t.state.is_finished() for t in trials(tmp_path)] == [True, True, False]

    code, out, more = torch_es(*SWEEP, cwd=tmp_path)
    assert code == 0, more
    assert "trial 2 was cut off: it is marked as failed and tried again" in out
    found = trials(tmp_path)
    assert len(found) == 6  # five, and the one that was lost
    assert found[2].state == TrialState.FAIL
    assert found[3].params == found[2].params
    iterations = [json.loads(line)["time/iterations"] for line in path.read_text().splitlines()]
    assert iterations == list(range(1, GENERATIONS + 1))  # it went on where it was
    kinds = {t.params["+env.kwargs.mishap"]: t.state for t in found if t.number != 2}
    assert kinds == {"null": TrialState.COMPLETE, "nan_observation": TrialState.FAIL}
    said = (error + more).count("failed: The mean return of the centre's last episodes is nan")
    assert said == sum(t.params["+env.kwargs.mishap"] == "nan_observation" for t in found if t.number != 2)
    assert "completed, 0 stopped early" in out
    tried(1 + said)

    assert torch_es(*SWEEP, cwd=tmp_path)[0] == 0
    assert len(trials(tmp_path)) == 6  # finished trials count


@pytest.mark.slow
def test_F54_two_processes_do_not_share_a_sweep(tmp_path):
    running = Command(*SWEEP, cwd=tmp_path)
    running.wait_for(lambda: (tmp_path / "s" / "study.db").exists())
    code, _, error = torch_es(*SWEEP, cwd=tmp_path)
    assert code == 2
    assert f"is being written by process {running.process.pid}" in error
    running.process.kill()
    running.end()
