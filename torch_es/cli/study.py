"""An Optuna study in an SQLite file that continues after any end: what to try next, what counts, what mattered."""

from __future__ import annotations

import warnings
from itertools import accumulate
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from torch_es.errors import needs
from torch_es.report.plotting import new_figure
from torch_es.seeding import derive_seed
from torch_es.types import Metrics

TICKS = 20  # of a trial's budget, at which it is compared with the others
_WARM_UP = 5  # ticks before a trial may be given up
_ATTEMPTS = 3  # at a trial whose process was killed
_STOPPED = "stopped"  # by a signal that asks a process to end


def open_study(path: Path, seed: int, prune: bool) -> Any:
    """Return the study in an SQLite file, or a new one if there is none; higher values are better.

    Suggestions follow from the seed and from earlier results. With `prune`, a trial is stopped early if it is below the
    median of those before it.

    Raises:
        MissingExtraError: If Optuna is not installed.
    """
    with needs("sweep"):
        import optuna
        import sqlalchemy
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_warmup_steps=_WARM_UP) if prune else optuna.pruners.NopPruner()
    url = sqlalchemy.URL.create("sqlite", database=str(path)).render_as_string()  # a path may have % and ?
    study = optuna.create_study(
        storage=url, study_name="torch-es", direction="maximize", pruner=pruner, load_if_exists=True
    )
    # in each process a sampler starts from its seed, and would try the same points again
    study.sampler = optuna.samplers.TPESampler(seed=derive_seed("search", seed, len(study.trials)))
    return study


def mark_stopped(trial: Any) -> None:
    """Write down that somebody stopped a trial, so that it does not count as one that killed its process."""
    trial.set_user_attr(_STOPPED, True)


def fail_lost(study: Any) -> dict[int, bool]:
    """Mark trials that a process left running as failed, and queue each again; return by number whether it was queued.

    A trial that lost its process three times is not queued again: it may be what kills it. The caller makes sure that
    no other process works on the study.
    """
    from optuna.trial import TrialState

    lost = study.get_trials(states=[TrialState.RUNNING])
    queued = {}
    for trial in lost:
        study.tell(trial.number, state=TrialState.FAIL)  # F54a
        attributes = dict(trial.user_attrs)
        attempt = attributes.get("attempt", 1) + (not attributes.pop(_STOPPED, False))
        queued[trial.number] = attempt <= _ATTEMPTS
        if queued[trial.number]:
            study.enqueue_trial(trial.params, user_attrs={**attributes, "attempt": attempt, "again": trial.number})
    return queued


def finished(study: Any) -> list[Any]:
    """Return the trials that count: completed, pruned or failed, but not those that were lost and are tried again."""
    trials = study.get_trials()
    again = {trial.user_attrs.get("again") for trial in trials}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in again]


class Reporter:
    """Reports the centre's return to a trial at each twentieth of its budget, and says whether to continue.

    Trials are compared at the same share of the budget, because generations cost more steps in a larger population.
    """

    def __init__(self, trial: Any, total_timesteps: int) -> None:
        self.pruned = False
        self._trial, self._total = trial, total_timesteps
        self._mean: float | None = None
        self._reported: int | None = None

    def __call__(self, metrics: Metrics) -> bool:
        """Take a generation's metrics; return False if the trial should stop early."""
        self._mean = metrics.get("eval/mean_reward", self._mean)
        tick = min(TICKS, int(TICKS * metrics["global_step"] / self._total))
        if self._reported is None:  # a resumed run's earlier returns are not known here
            self._reported = tick - 1 if metrics["time/iterations"] > 1 else 0
        if self._mean is None or tick <= self._reported:
            return True
        for passed in range(self._reported + 1, tick + 1):
            self._trial.report(self._mean, passed)
        self._reported = tick
        self.pruned = bool(self._trial.should_prune())
        return not self.pruned


def importances(study: Any) -> dict[str, float]:
    """Return how much each key mattered among completed trials, the most first; none if too few are completed.

    By PED-ANOVA (Watanabe, Bansal and Hutter 2023, https://arxiv.org/abs/2304.10255), which needs no scikit-learn.
    """
    from optuna.exceptions import ExperimentalWarning
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.trial import TrialState

    completed = study.get_trials(states=[TrialState.COMPLETE])
    if len({trial.value for trial in completed}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return dict(get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()))


def plot_study(study: Any, found: dict[str, float], out: Path) -> Path:
    """Draw the trials in order, the best so far, and the `importances` found; return the picture's path."""
    figure, (history, bars) = new_figure(2)
    _draw_history(history, study)
    bars.barh(list(found)[::-1], list(found.values())[::-1])
    bars.set_xlabel("importance (PED-ANOVA)" if found else "importance: too few trials completed")
    figure.savefig(out, dpi=120)
    return out


def _draw_history(axis: Axes, study: Any) -> None:
    for name, marker, colour in (("COMPLETE", "o", "C0"), ("PRUNED", "x", "C7")):
        trials = [t for t in finished(study) if t.state.name == name and t.value is not None]
        numbers, values = [t.number for t in trials], [t.value for t in trials]
        axis.plot(numbers, values, marker, color=colour, label=f"{name.lower()} ({len(trials)})")
        if name == "COMPLETE":
            axis.step(numbers, list(accumulate(values, max)), where="post", color="C1", label="best so far")
    axis.legend(frameon=False)
    axis.set_xlabel("trial")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylabel("centre's return")
