"""The config of a run folder: written when it trains, read again, and compared with what a command line asks for."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torch_es.checks import differences, flat
from torch_es.cli.config.build import GROUPS, Config, build
from torch_es.cli.config.overrides import keys, parsed_overrides
from torch_es.envs import EnvFactory
from torch_es.es import ES
from torch_es.runs import checkpoint, commands
from torch_es.runs.options import check_replaced

_log = logging.getLogger(__name__)

CHANGEABLE = (
    "total_timesteps", "max_seconds", "eval_every", "eval_episodes", "final_episodes", "video", "evaluator", "logger",
    "checkpoint_every", "keep_checkpoints", "on_save_error", "run_dir", "resume",
)  # fmt: skip
_TRACES = {".lock", ".config.yaml.tmp", "run.log"}  # what a run leaves that was killed before it wrote anything


def check_free(folder: Path) -> None:
    """Refuse a run folder that exists: a run never writes over another.

    Raises:
        ValueError: If it exists and holds anything of a run.
    """
    if folder.is_dir() and {p.name for p in folder.iterdir()} <= _TRACES:
        return
    if folder.exists():
        raise ValueError(f"`run_dir` {folder} exists; name another, or continue it with `{commands.resume(folder)}`.")


def find_run(config: Config, overrides: Sequence[str], swept: Collection[str] = ()) -> Path | None:
    """Return the run that `resume=auto` continues, or None for a new one.

    That is the run in `run_dir`, if there is one. Without a `run_dir` on the command line it is otherwise the newest
    run beside it that was started by the same settings.

    Args:
        config: Composed from the command line.
        overrides: As on the command line.
        swept: Keys by which the jobs of a multirun differ, of which each continues its own run.

    Raises:
        ValueError: If the run in `run_dir` was started by other settings; every difference is named.
    """
    folder = Path(str(config["run_dir"]))
    if (folder / "config.yaml").is_file():
        resumed_config(folder, config, overrides)
        return folder
    if "run_dir" in keys(overrides):
        return None
    beside = sorted(folder.parent.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
    changeable = [key for key in CHANGEABLE if key not in {name.partition(".")[0] for name in swept}]
    for run in (path.parent for path in beside):
        try:
            if not fixed_differences(read_config(run), config, overrides, changeable):
                return run
        except ValueError as error:  # it may be another run's
            _log.warning("Passed over: %s", error)
    return None


def resumed_config(folder: Path, config: Config, overrides: Sequence[str]) -> Config:
    """Return a run's own config with what `config` may change of it: how long, by which workers, to which logger.

    Args:
        folder: The run folder.
        config: Composed with these overrides.
        overrides: As on the command line.

    Raises:
        ValueError: If `config` differs in anything else; every key is named with both values.
    """
    saved, own = load_config(folder), ("run_dir", "resume")  # as the run was started
    may = [key for key in CHANGEABLE if key not in own]
    if found := fixed_differences(saved, config, overrides):
        raise ValueError(
            f"`{folder}` was started by other settings: {found}. "
            f"A resumed run may change {', '.join(may)}; start a new one for the rest."
        )
    return {**saved, **{key: config[key] for key in may if key in config}}


def changed(config: Config, overrides: Sequence[str], saved: Config) -> Config:
    """Return the saved config with the values that the overrides of a command line set.

    Args:
        config: Composed with these overrides.
        overrides: As on the command line.
        saved: The config of the run folder.

    Raises:
        ValueError: If they name an experiment, whose keys are not told from those of the run.
    """
    for given in parsed_overrides(overrides):
        if given.key_or_group == "experiment" and given.value() not in (None, "none"):
            raise ValueError(
                f"`experiment` must be left out where a run is resumed, which has its settings, got {given.value()}. "
                "Set what may change by its own key, as total_timesteps=2_000_000."
            )
    merged = OmegaConf.create({**config, **saved})  # a key that is newer than the run has its default
    for key in keys(overrides):
        if key != "env.tuned":  # no config has it
            value = OmegaConf.select(OmegaConf.create(config), key)
            OmegaConf.update(merged, key, value, merge=False, force_add=True)  # as another evaluator takes other values
    return OmegaConf.to_container(merged)  # type: ignore[return-value] # unresolved, since it may be somebody else's


def fixed(config: Config, changeable: Sequence[str] = CHANGEABLE) -> dict[str, Any]:
    """Return what a resumed run may not change, by dotted keys."""
    return flat({key: value for key, value in config.items() if key not in changeable})


def fixed_differences(
    saved: Config, config: Config, overrides: Sequence[str], changeable: Sequence[str] = CHANGEABLE
) -> str:
    """List what differs and must not.

    A key that is newer than the saved config counts as unchanged, unless the command line sets it.

    Args:
        saved: The config of a run.
        config: Composed with these overrides.
        overrides: As on the command line.
        changeable: The keys that may differ.
    """
    then, now = fixed(saved, changeable), fixed(config, changeable)
    was = {key: value for key, value in then.items() if value != {}}
    given = tuple(f"{key}." for key in keys(overrides) if "." in key)  # a group's newer keys are not given by its name
    own = {key: value for key, value in now.items() if value != {} and (key in then or f"{key}.".startswith(given))}
    return differences(was, own)


def save_config(config: Config, folder: Path) -> None:
    """Write `config.yaml`, from which the run can be built again."""
    staging = folder / ".config.yaml.tmp"
    OmegaConf.save(OmegaConf.create(config), staging)
    os.replace(staging, folder / "config.yaml")


def load_config(folder: Path) -> Config:
    """Read a run's `config.yaml`, to build the run again.

    Raises:
        ValueError: If the folder is not a run folder, or the file is not a run's config.
    """
    loaded = read_config(folder)
    if absent := [group for group in GROUPS if not isinstance(loaded.get(group), dict)]:
        raise ValueError(f"`{folder}/config.yaml` is not the config of a run: it has no group {', '.join(absent)}.")
    return loaded


def read_config(folder: Path) -> Config:
    """Read a `config.yaml` to look at, whatever is missing in it.

    Raises:
        ValueError: If there is none, or it is not made of keys and values.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        why = "it has no config.yaml" if folder.exists() else "it does not exist"
        raise ValueError(f"`{folder}` is not a run folder: {why}.")
    try:
        loaded = OmegaConf.to_container(OmegaConf.load(path))  # nothing in it is resolved, such as ${oc.env:TOKEN}
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"`{path}` cannot be read: {error}") from error
    if not isinstance(loaded, dict):
        raise ValueError(f"`{path}` is not the config of a run.")
    return loaded  # type: ignore[return-value]


def restored(folder: Path, config: Config, factory: EnvFactory | None = None, best: bool = False, **options: Any) -> ES:
    """Return a run's trainer at its newest checkpoint, or at the best centre evaluated in training.

    Args:
        folder: The run folder.
        config: Its config.
        factory: Makes the environments instead of those in the config.
        best: Take the best centre evaluated in training.
        options: Replace arguments of `ES`.

    Raises:
        ValueError: If the folder holds no checkpoint yet, no centre was evaluated, or an option is one that cannot be
            replaced.
    """
    newest = checkpoint.newest(folder / "checkpoints")
    if newest is None:
        raise ValueError(f"`{folder}` holds no checkpoint yet.")
    check_replaced(newest, options)
    es = build(config, factory, **options)
    es.restore(newest)  # F38a
    if best:
        es.trainer.restore_best()
    return es


def check_imports(folder: Path, config: Config, named: Collection[str]) -> None:
    """Refuse the config of a run folder that would import a module which the user has not named.

    A run folder may come from somebody else, and importing a module runs its code.

    Args:
        folder: The run folder.
        config: Its config.
        named: The modules that the user has named.

    Raises:
        ValueError: If there is one; the error says how to name it.
    """
    for module, override in commands.modules(config).items():
        if module not in named:
            raise ValueError(
                f"`{folder}/config.yaml` would import the module `{module}` and run its code ({override}). If you "
                f"trust it, name it: `--import {module}`, or `{override}` to resume the run."
            )
