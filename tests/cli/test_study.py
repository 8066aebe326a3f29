"""The search apart from training: a function in place of runs."""

import sys

import optuna
import pytest
from matplotlib.image import imread
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from torch_es.cli.study import Reporter, fail_lost, finished, importances, mark_stopped, open_study, plot_study
from torch_es.errors import MissingExtraError

SPACE = {"x": FloatDistribution(-1, 1), "y": FloatDistribution(-1, 1), "z": CategoricalDistribution(("a", "b"))}


def tried(study, number):
    """So many trials of a function that x decides, y hardly and z not at all."""
    for _ in range(number):
        trial = study.ask(SPACE)
        study.tell(trial, -(trial.params["x"] ** 2) - 0.01 * trial.params["y"] ** 2)
    return study


@pytest.mark.parametrize("name", ["a%20b", "a b", "a?b#c"])
def test_any_name_of_a_folder_will_do(name, tmp_path):
    (tmp_path / name).mkdir()
    open_study(tmp_path / name / "study.db", 0, prune=True)
    assert (tmp_path / name / "study.db").is_file()


def test_what_matters_is_found_and_drawn(tmp_path):
    study = tried(open_study(tmp_path / "study.db", 0, prune=True), 25)
    found = importances(study)
    assert next(iter(found)) == "x"
    assert found["x"] > 0.5
    assert imread(plot_study(study, importances(study), tmp_path / "sweep.png")).std() > 0.05


def test_nothing_found_yet_is_no_error(tmp_path):
    study = open_study(tmp_path / "study.db", 0, prune=True)
    assert importances(study) == {}
    study.tell(study.ask(SPACE), state=TrialState.FAIL)
    assert plot_study(study, importances(study), tmp_path / "sweep.png").is_file()


def test_a_study_opened_again_draws_other_points_and_follows_from_its_seed(tmp_path):
    def points(path, *numbers):
        for number in numbers:
            study = tried(open_study(path, 0, prune=True), number)
        return [trial.params["x"] for trial in study.trials]

    whole, parts = points(tmp_path / "a.db", 6), points(tmp_path / "b.db", 3, 3)
    assert whole[:3] == parts[:3]
    assert len(set(parts)) == 6


def test_lost_trials_are_failed_and_tried_again_three_times_at_most(tmp_path):
    study = open_study(tmp_path / "study.db", 0, prune=True)
    first = study.ask(SPACE)
    first.set_user_attr("folder", "trial-0000")
    for attempt in range(1, 4):
        study = open_study(tmp_path / "study.db", 0, prune=True)
        assert fail_lost(study) == {attempt - 1: attempt < 3}
        assert len(finished(study)) == (1 if attempt == 3 else 0)  # the last is a failure like any other
        if attempt < 3:
            again = study.ask(SPACE)
            assert again.params == first.params
            assert again.user_attrs["folder"] == "trial-0000"
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 3
    assert fail_lost(study) == {}


def test_a_trial_that_somebody_stops_is_tried_again_for_ever(tmp_path):
    study = open_study(tmp_path / "study.db", 0, prune=True)
    for number in range(5):
        mark_stopped(study.ask(SPACE))
        assert fail_lost(study) == {number: True}
    for number in range(5, 8):  # killed, from now on
        study.ask(SPACE)
        assert fail_lost(study) == {number: number < 7}


class FakeTrial:
    """Keeps what is reported."""

    def __init__(self, prune_at=None):
        self.told, self.prune_at = {}, prune_at

    def report(self, value, step):
        self.told[step] = value

    def should_prune(self):
        return self.prune_at is not None and max(self.told) >= self.prune_at


def row(generation, step, mean=None):
    return {"time/iterations": generation, "global_step": step, **({} if mean is None else {"eval/mean_reward": mean})}


def test_shares_of_the_budget_are_reported_each_once():
    trial = FakeTrial()
    reporter = Reporter(trial, 1000)
    assert reporter(row(1, 30, 1.0))
    assert reporter(row(2, 60))
    assert reporter(row(3, 160, 2.0))  # over the second and the third mark at once
    assert reporter(row(4, 180, 3.0))
    assert reporter(row(5, 1200, 4.0))
    assert trial.told == {1: 1.0, 2: 2.0, 3: 2.0, **dict.fromkeys(range(4, 21), 4.0)}


def test_a_resumed_trial_says_nothing_of_what_it_was_worth_before():
    trial = FakeTrial()
    reporter = Reporter(trial, 1000)
    reporter(row(7, 510, 5.0))
    assert trial.told == {10: 5.0}


def test_a_poor_trial_ends():
    reporter = Reporter(FakeTrial(prune_at=3), 1000)
    assert reporter(row(1, 140, 1.0))
    assert not reporter.pruned
    assert reporter(row(2, 150)) is False
    assert reporter.pruned


def test_optuna_prunes_below_the_median_from_a_quarter_of_the_budget(tmp_path):
    study = open_study(tmp_path / "study.db", 0, prune=True)

    def ended(value):
        trial = study.ask(SPACE)
        reporter = Reporter(trial, 20)
        for step in range(1, 21):
            if not reporter(row(step, step, value)):
                study.tell(trial, state=TrialState.PRUNED)
                return step
        study.tell(trial, value)
        return 20

    assert [ended(value) for value in (1.0, 2.0, 3.0, 4.0, 5.0)] == [20] * 5
    assert ended(2.5) == 5
    assert ended(6.0) == 20
    assert len(finished(study)) == 7


def test_a_missing_optuna_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match="comes with the extra `sweep`"):
        open_study(tmp_path / "study.db", 0, prune=True)


def test_the_installed_optuna_is_a_current_one():
    assert int(optuna.__version__.split(".")[0]) >= 4
