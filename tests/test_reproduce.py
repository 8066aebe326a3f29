"""`make reproduce`: its jobs, what it computes from their curves, the page, and that a job that was cut continues."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import reproduce  # noqa: E402
from science import curves, experiments, page, training  # noqa: E402
from science.environments import DelayedReward, played  # noqa: E402
from science.evolution import Evolution, Evolved  # noqa: E402
from science.jobs import Job, Place  # noqa: E402
from science.training import Budget, train  # noqa: E402

import zoo  # noqa: E402

JOBS = experiments.all_jobs()
CARTPOLE = ("env=cartpole", "policy=linear", "strategy.num_pairs=2")
MACHINE = {"cores": 2, "processor": "P", "python": "3.11.7", "versions": {"torch": "2"}}


def test_every_job_has_a_name_of_its_own():
    assert len({job.name for job in JOBS}) == len(JOBS)


def test_no_trial_of_settings_may_use_the_seeds_of_es_in_table1():
    evolved = [job for job in JOBS if (job.experiment, job.arm) == ("table1", "es")]
    assert len(evolved) == 18
    assert all(job.seed in zoo.seeds(job.task) for job in evolved)  # which benchmarks/trial.py refuses


def test_every_arm_composes_and_differs_from_the_others():
    arms = {(job.experiment, job.task, job.arm): job for job in JOBS}
    hashes = {names: job.hash for names, job in arms.items()}
    assert all(len(value) == 16 for value in hashes.values())
    assert len({(experiment, task, hashes[experiment, task, arm]) for experiment, task, arm in arms}) == len(arms)


@pytest.mark.parametrize("path", sorted((Place().results).glob("*/*.json")), ids=lambda path: path.stem)
def test_a_result_is_of_the_present_settings(path):
    result = json.loads(path.read_text())
    (job,) = (job for job in JOBS if job.name == result["job"])
    assert path == job.file(Place())
    assert result["settings"] == job.hash, f"{path} is of other settings: run {job.name} again, or remove it."


def test_a_job_runs_once_and_again_with_other_settings(tmp_path):
    place = Place.inside(tmp_path)
    job = Job("noise", "parameters", "cartpole", 0, Evolution(CARTPOLE, 100, episodes=1))
    assert not job.done(place)
    job.run(place)
    assert job.done(place)
    assert not replace(job, work=Evolution((*CARTPOLE, "strategy.sigma=0.5"), 100)).done(place)
    before = job.file(place).stat().st_mtime_ns
    job.run(place)
    assert job.file(place).stat().st_mtime_ns == before


def test_two_processes_never_do_the_same_job(tmp_path):
    place = Place.inside(tmp_path / "place")
    job = Job("noise", "parameters", "cartpole", 0, Evolution(CARTPOLE, 100, episodes=1))
    job.run(Place.inside(tmp_path / "before"))  # from now on it takes a moment
    job.folder(place).mkdir(parents=True)
    with FileLock(job.folder(place) / "lock"):
        other = threading.Thread(target=job.run, args=(place,))
        other.start()
        other.join(timeout=2)
        assert other.is_alive()
        assert not list(job.folder(place).glob("save-*"))
    other.join(timeout=60)
    assert job.done(place)


class Counter:
    """A learner that counts, and is killed at a certain step."""

    def __init__(self, last=None):
        self.steps, self.last = 0, last

    def advance(self, steps):
        if self.last is not None and self.steps >= self.last:
            raise KeyboardInterrupt
        self.steps = steps

    def evaluate(self, episodes):
        return float(self.steps)

    def save(self, folder):
        (folder / "steps").write_text(str(self.steps))

    def load(self, folder):
        self.steps = int((folder / "steps").read_text())


def test_a_job_that_was_cut_goes_on_from_its_last_save(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train(Counter(last=30), Budget(50, 0, 10), tmp_path)
    (tmp_path / "unfinished").mkdir()  # of a save that was cut
    learner = Counter()
    result = train(learner, Budget(50, 0, 10), tmp_path)
    assert [point[0] for point in result["curve"]] == [*range(9), 10, 12, 15, 18, 22, 27, 33, 41, 51]
    assert result["return"] == 51
    assert [path.name for path in tmp_path.iterdir()] == ["save-000000000051"]


def test_the_first_points_of_a_curve_are_close_together(tmp_path):
    steps = [point[0] for point in train(Counter(), Budget(1000, 0, 100), tmp_path)["curve"]]
    apart = np.diff(steps).tolist()
    assert apart[:4] == [2, 2, 2, 2]
    assert apart == sorted(apart)
    assert apart[-1] == 100


def test_core_seconds_count_learning_alone(tmp_path):
    def busy(*_):
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        return 0.0

    learner = Counter()
    learner.evaluate = busy
    assert train(learner, Budget(3, 0, 1), tmp_path)["core_seconds"] < 0.1


def test_a_budget_of_core_seconds_goes_on_until_they_are_spent(tmp_path):
    learner = Counter()
    advance = learner.advance

    def slow(steps):
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        advance(steps)

    learner.advance = slow
    result = train(learner, Budget(0, 0.1, 1), tmp_path)
    assert 3 <= result["steps"] <= 6


def test_a_trained_es_continues_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    whole = Evolution(CARTPOLE, 3000, points=6, episodes=2)
    job = Job("noise", "parameters", "cartpole", 0, whole)
    expected = whole.run(job, Place.inside(tmp_path / "whole"))
    folder = job.folder(Place.inside(tmp_path / "cut"))
    train(Evolved(whole, 0), whole.budget._replace(steps=1500), folder)
    continued = train(Evolved(whole, 0), whole.budget, folder)
    assert np.array(continued["curve"])[:, [0, 3]].tolist() == np.array(expected["curve"])[:, [0, 3]].tolist()
    assert len(expected["curve"]) > 3


@pytest.mark.parametrize("algorithm", ["trpo", "ppo", "a2c", "sac", "ars"])
def test_a_baseline_plays_and_continues(algorithm, tmp_path):
    pytest.importorskip("sb3_contrib")
    from science.learned import Learned

    job = next(job for job in JOBS if (job.arm, job.task) == (algorithm, "hopper"))
    work = job.work.tiny()
    train(Learned(work, 0), Budget(200, 0, 200, 1), tmp_path)
    learner = Learned(work, 0)
    result = train(learner, Budget(2500, 0, 200, 1), tmp_path)
    assert result["steps"] == learner.steps >= 2500
    assert result["curve"][1][0] < 2500
    saved = sorted(path.name for path in next(tmp_path.glob("save-*")).iterdir())
    assert ("replay_buffer.pkl" in saved) == (algorithm == "sac")
    assert ("normalization.pkl" in saved) == (algorithm != "sac")
    if algorithm == "sac":
        assert learner.model.replay_buffer.pos == learner.steps
    else:  # statistics of what was seen before it was saved are part of those it has now
        assert learner.envs.obs_rms.count >= learner.steps


def test_a_delayed_reward_is_paid_at_the_end():
    plain, delayed = played("InvertedPendulum-v5")(), played("InvertedPendulum-v5", delayed=True)()
    sums, last = [], []
    for env in (plain, delayed):
        env.reset(seed=0)
        rewards, over = [], False
        while not over:
            _, reward, terminated, truncated, _ = env.step(np.array([1.0]))
            rewards.append(reward)
            over = terminated or truncated
        sums.append(sum(rewards))
        last.append(rewards)
    assert isinstance(delayed, DelayedReward)
    assert sums[0] == sums[1] > 1
    assert set(last[1][:-1]) == {0.0}


TRPO = [[[0, 0, 0, 0], [100, 10, 0, 50], [200, 20, 0, 100]], [[0, 0, 0, 0], [100, 10, 0, 150], [200, 20, 0, 100]]]
ES = [[[0, 0, 0, 10], [50, 1, 0, 30], [400, 4, 0, 80]]]


def test_table1_by_hand():
    steps, cores = (curves.table1(TRPO, ES, axis) for axis in (curves.STEPS, curves.CORE))
    assert [row.target for row in steps] == [25, 50, 75, 100]
    assert [row.trpo for row in steps] == [(100, 0)] * 4  # its mean is 0, 100, 100
    assert [row.es for row in steps] == [(50, 0), (400, 50), (400, 50), None]
    assert [row.least for row in steps] == [0, 0.5, 0.5, math.inf]
    assert [row.most for row in steps] == [math.inf] * 4
    assert [row.first for row in steps] == [True] * 4
    assert [row.ratio for row in steps] == [0.5, 4, 4, None]
    assert [row.ratio for row in cores] == [0.1, 0.4, 0.4, None]


def test_table1_needs_progress_of_trpo():
    assert curves.table1([[[0, 0, 0, 5], [10, 1, 0, 4]]], ES, curves.STEPS) == []


def test_a_run_that_ended_keeps_its_last_return():
    several = [[[0, 0, 0, 0], [1, 0, 0, 8]], [[0, 0, 0, 0], [4, 0, 0, 2]]]
    assert curves.first_reached(several, curves.STEPS, 5) == (4, 0)


def test_the_range_of_a_ratio_is_what_the_evaluations_allow():
    trpo = [[[0, 0, 0, 0], [100, 10, 0, 0], [200, 20, 0, 100]]]
    (*_, whole) = curves.table1(trpo, [[[0, 0, 0, 0], [50, 1, 0, 0], [100, 2, 0, 100]]], curves.STEPS)
    assert (whole.least, whole.ratio, whole.most) == (50 / 200, 100 / 200, 100 / 100)


def test_interquartile_mean_leaves_out_the_best_and_the_worst_quarter():
    spans = np.array([[0.0, 1.0], [0.0, 1.0]])
    mean, low, high = curves.interquartile_mean([(spans, np.array([0.0, 1.0])), (spans, np.array([2.0, 100.0]))])
    assert mean == 1.5
    assert 0.5 <= low <= mean <= high <= 51
    assert curves.interquartile_mean([(spans[:1], np.array([1.0, 2.0]))]) == (1.5, None, None)
    assert curves.interquartile_mean([(spans, np.array([1.0]))])[1:] == (None, None)


def test_the_interval_of_a_share_of_trpos_progress_knows_that_trpos_seeds_differ():
    spans = np.array([[0.0, 1.0], [0.0, 3.0]])
    mean, low, high = curves.interquartile_mean([(spans, np.array([6.0, 6.0]))])
    assert (mean, low, high) == (3, 2, 6)  # of a TRPO that twice has its best seed, and twice its worst


def test_draws_in_which_trpo_makes_no_progress_have_no_scores():
    spans = np.array([[0.0, 10.0], [0.0, 10.0], [5.0, 0.0]])
    _, low, high = curves.interquartile_mean([(spans, np.array([10.0, 10.0]))])
    assert 1 <= low <= high


def results(place, experiment, value):
    for job in (job for job in JOBS if job.experiment == experiment):
        end, cost = value(job), 20.0 if job.arm == "es" else 100.0
        curve = [[0, 0.0, 0.0, 0.0], [1000, cost / 2, 9.0, end / 2], [2000, cost, 20.0, end]]
        about = {"job": job.name, "settings": job.hash, "return": end, "curve": curve, "date": "2026-11-26"}
        cost = {"steps": 50_000_000, "core_seconds": cost, "wall_seconds": 20.0, "machine": MACHINE}
        job.file(place).parent.mkdir(parents=True, exist_ok=True)
        job.file(place).write_text(json.dumps({**about, **cost}))


def test_the_page_is_written_from_the_results_that_there_are(tmp_path):
    place = Place.inside(tmp_path)
    results(place, "table1", lambda job: 100.0 * (job.arm != "a2c"))  # in a fifth of TRPO's core-seconds
    results(place, "frame_skip", lambda job: 10.0 * int(job.arm[-1]) + job.seed)
    text = page.write(JOBS, place).read_text()
    assert "| table1 | ES, TRPO, PPO, ARS, A2C, SAC | **90** of 90 |  |" in text
    assert "| noise | noise on parameters, on actions, on both | **0** of 30 | `make reproduce ARGS=noise` |" in text
    assert "| noise | `env.tuned=null strategy.num_pairs=32 optimizer.lr=0.01`, `strategy.sigma=0.02`; 300,000 " in text
    assert "| rank | walker2d: 3,000,000 of 30,000,000 steps; humanoid: 2,500,000 " in text
    at_half = "| 3/3 | 50% | 50.0 | ≤ 1,000 | 1,000 | **1.00** (0.00 or more) |"
    assert f"{at_half} ≤ 50.0 | 10.0 | **0.20** (0.00 or more) |" in text
    at_end = "| Hopper-v5 | 3/3 | 100% | 100 | 2,000 | 2,000 | **1.00** (0.50 to 2.00) |"
    assert f"{at_end} 100 | 20.0 | **0.20** (0.10 to 0.40) |" in text
    assert "at most a fifth of its core-seconds on **6 of 6** tasks: InvertedPendulum-v5, " in text
    assert "| Hopper-v5 | A2C | **0.00** (0.00) | 2 | 50,000,000 | 100 | 20.0 |" in text
    assert "| A2C | **0.00** | 0.00 to 0.00 |" in text
    assert "| swimmer, PPO | **12.0** (10.0) | **22.0** (20.0) | **32.0** (30.0) | **42.0** (40.0) | 5 |" in text
    assert "2 cores of P, Python 3.11.7, torch 2; `make reproduce ARGS=frame_skip`." in text
    assert re.findall("^## .*", text, re.M)[-2:] == ["## All algorithms", "## Frame skip"]  # none that is empty
    assert "Left out" not in text
    pictures = sorted(path.name for path in place.docs.glob("*.png"))
    assert pictures == ["science-frame_skip.png", "science-table1.png"]


def test_ppo_has_the_cost_of_the_longest_run_of_es_and_a_minute_at_least(tmp_path):
    place = Place.inside(tmp_path)
    results(place, "table1", lambda job: 100.0)
    (ppo,) = (job for job in JOBS if job.name == "table1/ppo-hopper-0")
    assert ppo.work.budget(ppo, place).core_seconds == 60  # ES took 20
    slow = ppo.beside[1]
    slow.file(place).write_text(json.dumps({**slow.result(place), "core_seconds": 300.0}))
    assert ppo.work.budget(ppo, place).core_seconds == 300
    assert not ppo.done(place)


def test_a_task_where_trpo_is_there_at_once_does_not_count(tmp_path):
    place = Place.inside(tmp_path)
    results(place, "table1", lambda job: 100.0)
    for seed in range(experiments.FEW):
        (job,) = (job for job in JOBS if job.name == f"table1/trpo-swimmer-{seed}")
        at_once = [[0, 0.0, 0.0, 0.0], [1000, 50.0, 9.0, 100.0], [2000, 100.0, 20.0, 100.0]]
        job.file(place).write_text(json.dumps({**job.result(place), "curve": at_once}))
    text = page.sections(JOBS, place)["science_table1"]()
    assert "| Swimmer-v5 | 3/3 | 100% | 100 | ≤ 1,000 | 2,000 | **2.00** (1.00 or more) | ≤ 50.0 | 20.0 | **0.4" in text
    assert "at most a fifth of its core-seconds on **5 of 5** tasks: InvertedPendulum-v5, " in text
    assert "Left out, since TRPO's cost is an upper bound: Swimmer-v5." in text


def test_a_result_of_other_settings_is_not_shown(tmp_path):
    place = Place.inside(tmp_path)
    results(place, "bins", lambda job: 10.0)
    for job in JOBS:
        if job.experiment == "bins" and job.task == "hopper":
            job.file(place).write_text(json.dumps({**job.result(place), "settings": "of before"}))
    text = page.write(JOBS, place).read_text()
    assert "| bins | continuous actions, ten bins | **10** of 20 | `make reproduce ARGS=bins` |" in text
    assert "| swimmer | **10.0** (10.0) | **10.0** (10.0) | 5 |" in text
    assert "| hopper |" not in text


def test_a_job_that_does_not_exist_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--job", "nope"])
    with pytest.raises(SystemExit, match="2"):
        reproduce.main()
    assert "there is no job nope" in capsys.readouterr().err


def test_core_seconds_of_different_processors_are_not_compared(tmp_path):
    place = Place.inside(tmp_path)
    results(place, "table1", lambda job: 100.0)
    (job,) = (job for job in JOBS if job.name == "table1/trpo-hopper-1")
    moved = {**job.result(place), "machine": {**MACHINE, "processor": "Q"}}
    job.file(place).write_text(json.dumps(moved))
    text = page.sections(JOBS, place)["science_table1"]()
    assert "| Hopper-v5 | 3/3 | 100% | 100 | 2,000 | 2,000 | **1.00** (0.50 to 2.00) |  |  | other processors |" in text
    assert "at most a fifth of its core-seconds on **5 of 5** tasks: InvertedPendulum-v5, " in text


@pytest.mark.slow
def test_a_killed_job_continues_with_the_same_bits(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r}); sys.argv[1:] = ['--job', 'noise/parameters-cartpole-0',"
        "'--inside', sys.argv[1]]; from science import training; training.SAVE_EVERY = 0.0; import reproduce;"
        "reproduce.main()"
    )

    def start(folder):
        return subprocess.Popen([sys.executable, "-c", code, str(folder)])

    def result(folder):
        return json.loads((folder / "results" / "noise" / "parameters-cartpole-0.json").read_text())["curve"]

    assert start(tmp_path / "whole").wait(timeout=600) == 0
    killed = start(tmp_path / "cut")
    while not list((tmp_path / "cut").glob("runs/noise/*/save-*")):
        assert killed.poll() is None
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert not list((tmp_path / "cut").glob("results/noise/*.json"))
    assert start(tmp_path / "cut").wait(timeout=600) == 0
    whole, cut = (np.array(result(tmp_path / name))[:, [0, 3]] for name in ("whole", "cut"))
    assert whole.tolist() == cut.tolist()


@pytest.mark.slow
def test_smoke_runs_every_arm_and_writes_the_page(tmp_path):
    pytest.importorskip("sb3_contrib")
    words = [sys.executable, str(BENCHMARKS / "reproduce.py"), "--smoke", "--inside", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    place = Place.inside(tmp_path)
    assert all(job.done(place) for job in experiments.smoke_jobs())
    assert "Not run yet" not in (place.docs / "science.md").read_text()
