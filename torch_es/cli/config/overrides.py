"""The words of a command line: checked one by one, then composed with the YAML files into a config."""

from __future__ import annotations

import argparse
import contextlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser  # Hydra offers no other way to tell its flags from overrides
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torch_es.checks import check_flag, flat, suggestion
from torch_es.cli.config.build import Config, optimizer_class, optional_arguments
from torch_es.loggers import WandbLogger
from torch_es.runs.commands import override

_OPEN = (
    "env.kwargs.",
    "evaluator.",
    "optimizer.",
    "policy.",
    "strategy.",
)  # where a plus adds an argument that is checked later


def conf_dir() -> Path:
    """Return the folder of the YAML files: in the installed package, or at the top of the source tree.

    Example:
        >>> (conf_dir() / "config.yaml").is_file()
        True
    """
    package = Path(__file__).parents[2]
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def with_search_path(arguments: Sequence[str]) -> list[str]:
    """Return a command line on which `--config-dir DIR` is the override `hydra.searchpath=[DIR]`, for every job.

    Example:
        >>> with_search_path(["seed=1,2", "-cd", "/usr", "--multirun"])
        ['seed=1,2', '--multirun', 'hydra.searchpath=[/usr]']
    """
    parser = argparse.ArgumentParser("torch-es", add_help=False, allow_abbrev=False)
    parser.add_argument("--config-dir", "-cd", action="append", default=[])
    given, others = parser.parse_known_args(arguments)
    for folder in given.config_dir:
        if not Path(folder).is_dir():
            raise ValueError(f"`--config-dir` must be a folder, got {folder}.")
    folders = [override("", str(Path(folder).resolve()))[1:] for folder in given.config_dir]
    return [*others, f"hydra.searchpath=[{','.join(folders)}]"] if folders else others


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags and the overrides of a command line, on which they may stand in any order.

    Raises:
        ValueError: If a flag does not exist.

    Example:
        >>> split_flags(["seed=1,2", "--multirun", "-cd", "/usr"])
        (['--multirun'], ['seed=1,2', 'hydra.searchpath=[/usr]'])
    """
    words = with_search_path(arguments)
    given, unknown = get_args_parser().parse_known_intermixed_args(words)
    if unknown or given.experimental_rerun:  # which would unpickle a file
        flag = (unknown or ["--experimental-rerun"])[0]
        raise ValueError(f"`{flag}` is not an option of torch-es; a value of the config is set by KEY=VALUE.")
    return [word for word in words if word not in given.overrides], list(given.overrides)


def options(group: str, overrides: Sequence[str]) -> list[str]:
    """Return the options of a group, those in folders of the user's own included.

    Example:
        >>> "hopper" in options("env", [])
        True
    """
    search_path = [word for word in overrides if word.startswith("hydra.searchpath=")]
    with config_files() as loader:
        return list(loader.get_group_options(group, config_name="config", overrides=search_path))


def plain(config: DictConfig) -> Config:
    """Return a config as dicts and lists, with every interpolation resolved."""
    made: Config = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return made


def check_overrides(overrides: Sequence[str], name: str = "config") -> None:
    """Refuse keys and options that do not exist, before Hydra writes or starts anything.

    Raises:
        TypeError: If a value should be true or false and is neither.
        ValueError: If a key or an option does not exist; the error names the nearest one.

    Example:
        >>> check_overrides(["env=hoper"])
        Traceback (most recent call last):
        ValueError: `env` has no option `hoper`. Did you mean `hopper`? It may be acrobot, ...
    """
    parsed = parsed_overrides(overrides)
    _check_deleted([o for o in parsed if o.is_delete()])
    _check_tuned([o for o in parsed if f"{o.key_or_group}.".startswith("env.tuned.")])
    search_path = [str(o.input_line) for o in parsed if o.key_or_group == "hydra.searchpath"]
    given = [o for o in parsed if not o.is_delete() and not o.key_or_group.startswith(("hydra.", "hydra/"))]
    given = [o for o in given if o.key_or_group != "env.tuned"]
    with config_files() as loader:
        options = {
            o.key_or_group: loader.get_group_options(o.key_or_group, config_name=name, overrides=search_path)
            for o in given
            if "." not in o.key_or_group  # no group has one, and Hydra reads its files again for each question
        }
        groups = [o for o in given if options.get(o.key_or_group)]
        for group in groups:
            _check_options(group, options[group.key_or_group])
        deciding = [*groups, *(o for o in given if o.key_or_group == "optimizer.name")]
        chosen = [f"{o.get_key_element()}={choices(o)[0]}" for o in deciding]
        _check_keys([o for o in given if o not in groups], compose(name, overrides=[*search_path, *chosen]))


def parsed_overrides(overrides: Sequence[str]) -> list[Override]:
    """Return overrides as Hydra understands them.

    Raises:
        ValueError: If one is not an override.
    """
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        message = str(error).split("\nSee http")[0]  # a page about the grammar of an older Hydra
        raise ValueError(
            f"{message}: an override looks like KEY=VALUE. A value with spaces, commas or = has quotes of its own, as "
            "in 'run_dir=\"lr=1\"'."
        ) from error


def keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys and groups that the overrides of a command line set.

    Example:
        >>> keys(["strategy=ars", "+optimizer.weight_decay=0.1"])
        ['strategy', 'optimizer.weight_decay']
    """
    return [override.key_or_group for override in parsed_overrides(overrides)]


def swept(overrides: Sequence[str]) -> list[str]:
    """Return the keys and groups of which the overrides of a multirun give several values.

    Example:
        >>> swept(["strategy=ars,snes", "seed=1"])
        ['strategy']
    """
    return [override.key_or_group for override in parsed_overrides(overrides) if override.is_sweep_override()]


@contextlib.contextmanager
def config_files() -> Iterator[ConfigLoader]:
    """Let Hydra compose from `conf/`; its errors become ValueErrors. In a job of Hydra it already can."""
    begun = GlobalHydra.instance().is_initialized()
    with contextlib.nullcontext() if begun else initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            yield GlobalHydra.instance().config_loader()
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(str(error)) from error


def choices(given: Override) -> list[Any]:
    """Return the values of a multirun's `key=a,b`, or the one value."""
    value = given.value()
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def _check_deleted(words: Sequence[Override]) -> None:
    """Refuse to delete what every run has; an entry of a group may go, whose default then counts."""
    for word in words:
        key = word.key_or_group
        group, _, name = key.partition(".")
        if name == "name" or (not name and "/" not in group and group not in ("scheduler", "experiment")):
            raise ValueError(f"`{word.input_line}` deletes what a run needs; leave it out, or set `{key}`.")


def _check_tuned(given: Sequence[Override]) -> None:
    """Refuse every value of `env.tuned` but null: another would change nothing."""
    for o in given:
        whole = o.key_or_group == "env.tuned" and not o.is_delete()
        for value in choices(o) if whole else [o.input_line]:
            if value is not None:
                raise ValueError(
                    f"`env.tuned` may only be set to null, which leaves out the tuned settings; got {value!r}. Set a "
                    "value by its own key, as strategy.sigma=0.1."
                )


def _check_options(given: Override, options: Sequence[str]) -> None:
    for value in choices(given):
        if str(value) not in options:
            near = suggestion(str(value), options)
            raise ValueError(f"`{given.key_or_group}` has no option `{value}`.{near} It may be {', '.join(options)}.")


def _check_keys(overrides: Sequence[Override], config: DictConfig) -> None:
    tree: Config = OmegaConf.to_container(config)  # type: ignore[assignment]
    tree["env"].pop("tuned", None)  # its keys are words of a command line
    mappings = [(o.key_or_group, o.value()) for o in overrides if isinstance(o.value(), dict)]  # as a tuned scheduler
    known = _leaves(tree, "") + [leaf for key, value in mappings for leaf in _leaves(value, key)[1:]]
    defaults = flat(tree)
    for given in overrides:
        key = given.key_or_group
        if key not in known:
            _check_new(given, known, config.optimizer.name)
        if key in ("policy.name", "strategy.name"):
            _check_name(given, defaults)
        for value in choices(given) if isinstance(defaults.get(key), bool) else ():
            if not str(value).startswith("${"):
                check_flag(key, value)


def _check_name(given: Override, defaults: Config) -> None:
    """Refuse the name of another option without the values that belong to it."""
    key, group = given.key_or_group, given.key_or_group.removesuffix(".name")
    for value in choices(given):
        if value != defaults.get(key, value) and (conf_dir() / group / f"{value}.yaml").is_file():
            raise ValueError(
                f"`{key}` must fit the other values of `{group}`, got {value} with those of {defaults[key]}: choose "
                f"`{group}={value}`."
            )


def _check_new(given: Override, known: Sequence[str], optimizer: str) -> None:
    """Refuse a key that is not in the config, unless it begins with a plus and somebody will check it."""
    key, line = given.key_or_group, given.input_line
    if given.is_add() or given.is_force_add():
        if key.startswith(_OPEN) or key in [f"logger.{n}" for n in inspect.signature(WandbLogger).parameters]:
            return
    elif key.startswith("env.kwargs."):
        near = suggestion(key, [k for k in known if k.startswith("env.kwargs.")])
        raise ValueError(f"`{key}` is not in the config.{near} A further argument takes a plus: `+{line}`.")
    elif key.startswith("optimizer."):
        kind = optimizer_class(optimizer)
        takes = [f"optimizer.{argument}" for argument in optional_arguments(kind)]
        if key in takes:
            raise ValueError(f"`{key}` is not in the config; a further argument takes a plus: `+{line}`.")
        raise ValueError(f"`{key}` is not an argument of torch.optim.{kind.__name__}.{suggestion(key, takes)}")
    group, _, name = key.partition(".")
    having = [path.stem for path in sorted((conf_dir() / group).glob("*.yaml")) if name in OmegaConf.load(path)]
    ends = [f"`{leaf}`" for leaf in known if leaf.endswith(f".{key}")]
    near = f" Did you mean {' or '.join(ends)}?" if ends else suggestion(key, known)
    elsewhere = f" It belongs to {group}={', '.join(having)}." if having else near
    raise ValueError(f"`{key}` is not a key of the config.{elsewhere}")


def _leaves(tree: Any, path: str) -> list[str]:
    if not isinstance(tree, dict):
        return [path]
    return [path] * bool(path) + [leaf for k, v in tree.items() for leaf in _leaves(v, f"{path}.{k}" if path else k)]
