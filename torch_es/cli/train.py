"""`torch-es train`, also what a bare `torch-es` does: compose with Hydra, train, and say what next."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torch_es.cli import commands_help, config
from torch_es.cli.run import run
from torch_es.errors import JobError, NonFiniteError
from torch_es.runs import commands


def train(arguments: list[str]) -> None:
    """Compose the config with Hydra and train, once for each job of a multirun; a failing job does not stop the others.

    Raises:
        ValueError: If the overrides make no config.
        JobError: If jobs of a multirun failed, once all are over.
    """
    flags, given = config.split_flags(arguments)
    several = not {"--multirun", "-m"}.isdisjoint(flags)
    tuned = config.with_tuned(given)
    config.check_overrides(tuned)
    shown = ["++env.tuned=false", "~env.tuned"]  # --cfg prints what trains; Hydra deletes no key that is absent or null
    # a job has an environment of its own, and what is tuned for it is not there when Hydra composes
    deleted = [word for word in given if word.startswith("~")]
    named = [word.partition("=")[0] for word in given if not word.startswith(("+", "~", "hydra."))]
    forced = {key: f"++{key}" for key in named if "." in key}
    swept = config.swept(given)
    jobs = [_swapped(word, forced) for word in given if word not in deleted]
    sys.argv = ["torch-es", *flags, *(jobs if several else [*tuned, *shown])]
    OmegaConf.register_new_resolver("commands", commands_help, replace=True)
    failures: list[Exception] = []

    def job(composed: DictConfig) -> float:
        try:
            if several:
                own = HydraConfig.get().overrides
                searched = [word for word in own.hydra if word.startswith("hydra.searchpath=")]
                back = {key: word for word, key in forced.items()}
                words = [*searched, *(_swapped(word, back) for word in own.task), *deleted]
                value = _train_job(config.compose_config(words), words, swept)
            else:
                value = _train_job(config.plain(composed), given)
            if several:
                check_objective(value)
            return value
        except Exception as error:  # kept from Hydra, which would print more than a line
            if several:
                number, changes = HydraConfig.get().job.num, " ".join(words)
                failure = JobError(f"job {number} ({changes}) failed: {error}")
                print(f"torch-es: {failure}", file=sys.stderr)
                # a sweeper must see the error, from another process too; it continues with the other jobs
                raise failure from error  # F53b
            failures.append(error)
            return math.nan

    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra would print errors and end the process itself
    try:
        hydra.main(version_base="1.3", config_path=str(config.conf_dir()), config_name="config")(job)()
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(str(error)) from error
    if failures:
        raise failures[0]


def _train_job(settings: config.Config, words: list[str], swept: Sequence[str] = ()) -> float:
    """Train as `settings` say, which the command line `words` composed; jobs of a multirun differ in keys `swept`."""
    running = HydraConfig.get()
    given = [o for o in words if not o.startswith(("resume=", "hydra.", "hydra/"))]
    if running.mode == RunMode.MULTIRUN:
        _set_apart(settings, given)
    run_dir, named = Path(str(settings["run_dir"])), commands.modules(settings)
    if settings["resume"] in (None, "auto"):
        folder = config.find_run(settings, given, swept) if settings["resume"] else None
        if folder is None:
            config.check_free(run_dir)
            return _reached(settings, run_dir, words)
    else:
        folder = Path(str(settings["resume"]))
        if "run_dir" in config.keys(given) and run_dir.resolve() != folder.resolve():
            raise ValueError(
                f"`run_dir` must be left out with `resume={folder}`, which goes on in its own folder, got {run_dir}. "
                "To keep that as it is, resume a copy."
            )
        settings = config.changed(settings, given, config.load_config(folder))
    resumed = config.resumed_config(folder, settings, given)
    config.check_imports(folder, resumed, named)
    return _reached(resumed, folder)


def _swapped(word: str, keys: Mapping[str, str]) -> str:
    """Return a word of a command line with another word for its key, if there is one.

    Example:
        >>> _swapped("strategy.sigma=1,2", {"strategy.sigma": "++strategy.sigma"})
        '++strategy.sigma=1,2'
    """
    key, equals, value = word.partition("=")
    return f"{keys.get(key, key)}{equals}{value}"


def _set_apart(settings: config.Config, words: list[str]) -> None:
    """Give a job of a multirun a folder of its own, and its loggers the multirun's name as their group."""
    running = HydraConfig.get()
    if "run_dir" not in config.keys(words):  # jobs that differ in other values would have the same name
        settings["run_dir"] += f"-{running.job.num}"
    config.name_group(settings, Path(running.sweep.dir).name)


def _reached(settings: config.Config, folder: Path, words: list[str] | None = None) -> float:
    """Train the run that a command line's `words` begin, or continue the one in `folder`."""
    origin = "" if words is None else config.origin(words, str(settings["env"].get("id")))
    episodes = run(settings, folder, resume=words is None, origin=origin)
    return float(np.mean([episode.return_ for episode in episodes]))


def check_objective(value: float) -> float:
    """Return what a run reached, for a search to compare.

    Raises:
        NonFiniteError: If it is no number to compare.
    """
    if not math.isfinite(value):  # F54c
        raise NonFiniteError(f"The mean return of the centre's last episodes is {value}.")
    return value
