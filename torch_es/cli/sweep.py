"""`torch-es sweep`: search values of a config by Optuna, a run a trial, and say which mattered."""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from torch_es.checks import check_count, differences
from torch_es.cli import config
from torch_es.cli.run import run
from torch_es.cli.search_space import distributions, some_value, split
from torch_es.cli.study import Reporter, fail_lost, finished, importances, mark_stopped, open_study, plot_study
from torch_es.cli.train import check_objective
from torch_es.errors import JobError
from torch_es.loggers.progress import Terminal
from torch_es.runs.commands import override
from torch_es.runs.folder import locked, make_folder

# what a continued sweep may change; anything else would make its trials incomparable
_CHANGEABLE = (
    "evaluator", "logger", "checkpoint_every", "keep_checkpoints", "on_save_error", "run_dir", "resume", "video",
)  # fmt: skip
_SHOWN = 10  # trials in the table
_BY_SIGNAL = 128  # exit codes above it name the signal


def sweep(arguments: list[str]) -> None:
    """Search values of a config with Optuna. The same command continues a sweep that was stopped in any way."""
    parser = argparse.ArgumentParser("torch-es sweep", description=sweep.__doc__, epilog=_EPILOG)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of a run; or KEY=SPACE")
    overrides = parser.parse_args(config.with_search_path(arguments)).overrides
    fixed, searched = split(overrides)
    settings = config.compose_config(fixed, "sweep")
    given = config.keys(fixed)
    for name in ("run_dir", "resume"):
        if name in given:
            raise ValueError(
                f"`{name}` must be left out of a sweep, whose trials have folders of their own; `sweep.dir` is theirs."
            )
    options = settings.pop("sweep")
    given += [key.lstrip("+") for key in searched if key.startswith("+")]  # it takes the place of the file's
    texts = {key: str(text) for key, text in options["space"].items() if key not in given} | searched
    space = _checked_space(texts, fixed)
    folder = Path(options["dir"])
    make_folder(folder)
    lock = locked(folder / ".lock")
    try:
        _check_same(folder, settings, texts, fixed)
        study = open_study(folder / "study.db", settings["seed"], options["prune"])
        for number, again in fail_lost(study).items():
            how = "marked as failed and tried again" if again else "not tried again: its process was killed each time"
            _say(f"trial {number} was cut off: it is {how}")
        while len(finished(study)) < options["trials"]:  # F54b
            _try(study, study.ask(space), fixed, folder)
        _report(study, fixed, folder)
    except (KeyboardInterrupt, SystemExit):
        print("torch-es: the same command continues the sweep.", file=sys.stderr)
        raise
    finally:
        lock.release()


_EPILOG = """SPACE is Hydra's: interval(A,B), int(interval(A,B)), tag(log,interval(A,B)), range(A,B,STEP) or A,B,C.
sweep.trials sets how many trials, sweep.dir the folder, sweep.prune whether poor trials are stopped early."""


def _checked_space(texts: dict[str, str], fixed: list[str]) -> dict[str, Any]:
    """Return Optuna's distributions; a run of some values is built, so that errors come before anything begins."""
    if not texts:
        raise ValueError("Nothing is searched: give some KEY=SPACE, or choose a `sweep` that has a space.")
    # together: what is fixed decides which keys there are
    words = [*fixed, *(f"{key}={text}" for key, text in texts.items())]
    config.check_overrides(config.with_tuned(words, "sweep"), "sweep")
    space = distributions(texts)
    some = [f"{key}={some_value(distribution)}" for key, distribution in space.items()]
    settings = config.compose_config([*fixed, *some], "sweep")
    check_count("sweep.trials", settings["sweep"]["trials"])
    config.check_values(settings)
    config.build(settings).close()
    return space


def _check_same(folder: Path, settings: config.Config, texts: dict[str, str], fixed: list[str]) -> None:
    """Write the sweep's settings and space into its folder, or compare them with those in it."""
    if not (folder / "config.yaml").is_file():
        return config.save_config({**settings, "space": texts}, folder)
    saved = config.load_config(folder)
    if "space" not in saved:
        raise ValueError(f"`{folder}` holds a run, not a sweep; set `sweep.dir` to another folder.")
    space = differences(saved.pop("space"), texts)
    found = [space, config.fixed_differences(saved, settings, fixed, _CHANGEABLE)]
    if any(found):
        raise ValueError(
            f"`{folder}` holds another sweep: {'; '.join(filter(None, found))}. Set `sweep.dir` for a new one."
        )
    return None


def _try(study: Any, trial: Any, fixed: list[str], folder: Path) -> None:
    """Run a trial in a folder of its own and report its result; a trial that fails does not stop the others."""
    from optuna.trial import TrialState

    values = _overrides(trial)
    name = trial.user_attrs.get("folder", f"trial-{trial.number:04d}")
    trial.set_user_attr("folder", name)
    path = folder / name
    result: dict[str, Any] = {"state": TrialState.FAIL}
    try:
        settings = config.compose_config([*fixed, *values], "sweep")
        del settings["sweep"]
        settings["run_dir"] = str(path)
        config.name_group(settings, folder.name)
        reporter = Reporter(trial, settings["total_timesteps"])
        episodes = run(settings, path, (path / "config.yaml").is_file(), reporter, quiet=True)
        mean = check_objective(float(np.mean([episode.return_ for episode in episodes])))
        result = {"state": TrialState.PRUNED} if reporter.pruned else {"values": mean}
        outcome = " (stopped early)" if reporter.pruned else ""
    except (KeyboardInterrupt, SystemExit) as stop:
        if isinstance(stop, KeyboardInterrupt) or (isinstance(stop.code, int) and stop.code > _BY_SIGNAL):
            mark_stopped(trial)
        raise
    except Exception as error:  # noqa: BLE001 - an environment may raise anything
        outcome = f"failed: {error}"
        print(f"torch-es: trial {trial.number} ({' '.join(values)}) {outcome}", file=sys.stderr)
    value = study.tell(trial, **result).value  # of a trial that was stopped, its last evaluation, as in the table
    outcome = outcome if value is None else f"{value:,.1f}{outcome}"
    _say(f"trial {trial.number} | {outcome} | {' '.join(f'{k}={_short(v)}' for k, v in trial.params.items())}")


def _overrides(trial: Any) -> list[str]:
    return [f"{key}={value}" for key, value in trial.params.items()]


def _say(what: object) -> None:
    Terminal().print(what)


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _report(study: Any, fixed: list[str], folder: Path) -> None:
    """Print the best trials, what mattered, and how to go on.

    Raises:
        JobError: If no trial was completed.
    """
    trials = sorted(finished(study), key=lambda t: -math.inf if t.state.name != "COMPLETE" else t.value, reverse=True)
    counts = {name: sum(t.state.name == name for t in trials) for name in ("COMPLETE", "PRUNED", "FAIL")}
    if not counts["COMPLETE"]:
        raise JobError(f"None of {len(trials)} trials was completed; `{folder}/trial-*/run.log` says why.")
    keys = list(trials[0].params)
    table = Table("trial", "return", "", *keys)
    for t in trials[:_SHOWN]:
        value = "-" if t.value is None else f"{t.value:,.1f}"
        table.add_row(str(t.number), value, t.state.name.lower(), *(_short(t.params.get(key, "-")) for key in keys))
    _say(table)
    found = importances(study)
    matter = Table("key", "importance")
    for key, share in found.items():
        matter.add_row(key, f"{share:.2f}")
    _say(matter if found else "importance: too few trials completed")
    path = folder / trials[0].user_attrs["folder"]
    _say(
        f"trials       {counts['COMPLETE']} completed, {counts['PRUNED']} stopped early, {counts['FAIL']} failed\n"
        f"plot         {plot_study(study, found, folder / 'sweep.png')}\n"
        f"best run     {path}\n"
        f"train it     torch-es {shlex.join(_again(fixed, trials[0], path))}"
    )


def _again(fixed: list[str], trial: Any, path: Path) -> list[str]:
    """Return the words that train with a trial's settings, also with those that the file of the sweep has."""
    words = [o for o in fixed if not o.lstrip("+").startswith("sweep")] + _overrides(trial)
    there, here = config.fixed(config.load_config(path)), config.fixed(config.compose_config(words))
    return words + [override(f"++{key}", value) for key, value in there.items() if here.get(key, ...) != value]
