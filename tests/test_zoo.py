"""The tuned settings train, and the policies in the zoo do what their results say."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from torch_es import from_run, from_task
from torch_es.cli import config

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import gallery  # noqa: E402
import tables  # noqa: E402
import trial  # noqa: E402
import wall_clock  # noqa: E402

import zoo  # noqa: E402

RESULTS = sorted((ROOT / "benchmarks" / "results" / "zoo").glob("*.json"))


def returns(es, episodes=10):
    return np.array([episode.return_ for episode in es.evaluate(episodes)])


def test_a_failed_run_does_not_cost_the_others_their_rows(monkeypatch, capsys):
    written = []

    def trained(task, seed):
        if (task, seed) == ("hopper", 1):
            raise RuntimeError("see LOG")
        time.sleep(0.05 * seed)  # it ends after the one that fails
        return {"seed": seed}

    for name, fake in {
        "trained": trained, "rows": lambda task: {}, "keep_best": lambda task: None,
        "write": lambda task, row: written.append((task, row["seed"])),
    }.items():  # fmt: skip
        monkeypatch.setattr(zoo, name, fake)
    monkeypatch.setattr(zoo.processes, "yield_to_others", lambda: None)
    monkeypatch.setattr(sys, "argv", ["zoo.py", "hopper", "walker2d", "--seeds", "1", "2", "--jobs", "1"])
    with pytest.raises(SystemExit, match=r"^hopper, seed 1 failed: RuntimeError\('see LOG'\)$"):
        zoo.main()
    assert written == [("hopper", 2), ("walker2d", 1), ("walker2d", 2)]
    assert "hopper, seed 1 failed" in capsys.readouterr().out


def test_results_are_of_seeds_that_nothing_was_tuned_on(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["zoo.py", "swimmer", "--seeds", "120", "0"])
    monkeypatch.setattr(zoo, "trained", lambda *_: pytest.fail("it ran"))
    with pytest.raises(SystemExit, match="2"):
        zoo.main()
    told = "settings of swimmer may have been tuned on seed 0: its results are of 120, 121, 122, 123, 124"
    assert told in capsys.readouterr().err


def test_the_gallery_takes_the_words_that_make_gives_to_both(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(gallery, "OUT", tmp_path)
    monkeypatch.setattr(gallery, "draw", drawn.append)
    monkeypatch.setattr(gallery, "film", drawn.append)
    monkeypatch.setattr(sys, "argv", ["gallery.py", "hopper", "--jobs", "1", "--seeds", "0", "1"])
    gallery.main()
    assert drawn == ["hopper", "hopper"]


@pytest.mark.parametrize(("costs", "shown"), [([100.0, None, 300.0], "200"), ([None, None, None], "-")])
def test_the_cost_is_a_mean_over_runs_that_were_not_cut(costs, shown, monkeypatch, tmp_path):
    machine = {"cores": 2, "processor": "P", "python": "3", "versions": {}}
    rows = [{"return": 1.0, "steps": 1e6, "core_seconds": cost, "machine": machine} for cost in costs]
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "hopper.json").write_text(json.dumps({"settings": "present", "rows": rows}))
    row = {"settings": "of before", "seconds": 150.0, "machine": machine | {"processor": "Q"}}
    timed = {"command": "C", "rows": {"hopper": row}}
    (tmp_path / "wall_clock.json").write_text(json.dumps(timed))
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert f"| Hopper-v5 | **1.0** | 1.0 | 3 (indicative) | 1 M | {shown} | - | linear, ars |" in tables.zoo()
    assert "the mean over runs whose whole cost is known" in tables.zoo()
    assert "`C` on no machine yet." in tables.zoo()
    timed["rows"]["hopper"]["settings"] = "present"
    (tmp_path / "wall_clock.json").write_text(json.dumps(timed))
    assert f"| {shown} | 150 | linear, ars |" in tables.zoo()
    assert "`C` on 2 cores of Q, " in tables.zoo()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["env=hopper", "seed=4"], "seed=4 is one of the zoo's for hopper"),
        (["env=cartpole", "env.id=Swimmer-v5", "seed=120"], "seed=120 is one of the zoo's for swimmer"),
        (["env=hopper"], "say seed=...: "),
        (["policy=linear"], "say env=... and seed=...: "),
    ],
)
def test_a_trial_has_a_seed_that_the_zoo_has_not(words, told, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["trial.py", *words])
    monkeypatch.setattr(trial, "run", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(SystemExit, match="2"):
        trial.main()
    assert told in capsys.readouterr().err


def test_a_trial_says_on_which_machine_it_was_made(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["trial.py", "env=cartpole", "seed=100", "total_timesteps=200"])
    trial.main()
    row = json.loads((tmp_path / "tuning.jsonl").read_text())
    assert row["words"] == "env=cartpole seed=100 total_timesteps=200"
    assert row["machine"] == trial.describe()


def test_a_task_is_timed_once_and_only_on_quiet_cores(monkeypatch, tmp_path, capsys):
    run = wall_clock.processes.run
    monkeypatch.setattr(wall_clock.processes, "run", lambda words, log: run([*words, "total_timesteps=200"], log))
    monkeypatch.setattr(wall_clock, "RESULTS", tmp_path)
    monkeypatch.setattr(wall_clock, "busy_cores", lambda: 0.7)
    monkeypatch.setattr(sys, "argv", ["wall_clock.py", "cartpole"])
    with pytest.raises(SystemExit, match=r"Other work keeps 0.7 cores busy: .* to go on with cartpole"):
        wall_clock.main()
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(wall_clock, "busy_cores", lambda: 0.1)
    wall_clock.main()
    recorded = json.loads((tmp_path / "wall_clock.json").read_text())
    assert recorded["rows"]["cartpole"].keys() == {"settings", "seconds", "machine"}
    assert 0 < recorded["rows"]["cartpole"]["seconds"] < 100
    assert recorded["rows"]["cartpole"]["settings"] == zoo.settings_hash("cartpole")
    assert recorded["rows"]["cartpole"]["machine"] == wall_clock.describe()
    monkeypatch.setattr(wall_clock, "describe", lambda: {"processor": "of another machine"})
    wall_clock.main()
    assert capsys.readouterr().out.count("cartpole") == 1


@pytest.mark.parametrize("name", zoo.FEWER | zoo.FIRST_SEED)
def test_tasks_with_seeds_of_their_own_are_options_of_env(name):
    assert (config.conf_dir() / "env" / f"{name}.yaml").is_file()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results_are_of_the_present_settings(path):
    assert json.loads(path.read_text())["settings"] == zoo.settings_hash(path.stem)


@pytest.mark.parametrize("task", zoo.tasks())
def test_tuned_values_name_the_option_that_they_were_tuned_with(task):
    """Otherwise another option could not drop them."""
    tuned = {word.partition("=")[0] for word in config.with_tuned([f"env={task}"])}
    assert {key.partition(".")[0] for key in tuned if key.startswith(("policy.", "strategy."))} <= tuned
    if any(key.startswith(("scheduler", "optimizer.")) for key in tuned):
        assert {"strategy", "optimizer"} & tuned


@pytest.mark.slow
@pytest.mark.parametrize("task", zoo.tasks())
def test_a_task_beats_its_random_start_within_a_minute(task):
    with from_task(task, seed=200) as es:
        start = returns(es)
        es.learn(max_seconds=60)
        assert returns(es).mean() > start.mean()


@pytest.mark.slow
@pytest.mark.parametrize("task", [path.stem for path in RESULTS])
def test_a_policy_of_the_zoo_returns_what_is_stated(task):
    """Ten other episodes; the difference of two means is within four standard errors, or within the last digit."""
    best = max(zoo.rows(task).values(), key=lambda row: row["return"])
    with from_run(zoo.folder(task)) as es:
        es.evaluate(10)  # those that the result is of
        found = returns(es, 20)[10:]
    spread = np.hypot(found.std(), best["std"]) / np.sqrt(10)
    assert abs(found.mean() - best["return"]) <= 4 * spread + 0.05
