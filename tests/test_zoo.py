"""The tuned settings train, and the policies in the zoo do what their results say."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from torch_es import from_run, from_task
from torch_es.cli import config

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import zoo  # noqa: E402

RESULTS = sorted((ROOT / "benchmarks" / "results" / "zoo").glob("*.json"))


def returns(es, episodes=10):
    return np.array([episode.return_ for episode in es.evaluate(episodes)])


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
