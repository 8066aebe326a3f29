"""From a composed config to plain keyword arguments, and from those to a run. Only this file and `cli` know Hydra."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from torch_es.checks import check_choice, check_count, check_flag, check_positive, differences, flat, suggestion
from torch_es.envs import EnvFactory, env_factory, frames_per_step, repeated
from torch_es.envs.rules import EpisodeRules
from torch_es.es import ES
from torch_es.evaluators import FaultTolerance
from torch_es.heads import make_head
from torch_es.loggers import CsvLogger, Logger, TensorBoardLogger, WandbLogger
from torch_es.loggers.names import NAMINGS
from torch_es.policies import make_network
from torch_es.seeding import check_seed

Config = dict[str, Any]

CHANGEABLE = (
    "total_timesteps", "max_seconds", "eval_every", "eval_episodes", "final_episodes", "video", "evaluator", "logger",
    "checkpoint_every", "keep_checkpoints", "on_save_error", "run_dir", "resume",
)  # fmt: skip

_LOGGERS: dict[str, type] = {"csv": CsvLogger, "tensorboard": TensorBoardLogger, "wandb": WandbLogger}


def conf_dir() -> Path:
    """Return the folder of the YAML files: in the installed package, or at the top of the source tree.

    Example:
        >>> (conf_dir() / "config.yaml").is_file()
        True
    """
    package = Path(__file__).parent.parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def compose_config(overrides: Sequence[str] = (), name: str = "config") -> Config:
    """Return the config that the command line `torch-es OVERRIDES` composes, as plain data.

    Args:
        overrides: As on the command line.
        name: Of the file at the top: `config`, or `sweep` for a search.

    Raises:
        TypeError: If a value is neither true nor false and should be.
        ValueError: If a key or an option does not exist; the nearest one is named.

    Example:
        >>> compose_config(["env=hopper"])["env"]["id"]
        'Hopper-v5'
    """
    check_overrides(overrides, name)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return plain(compose(name, overrides=list(overrides)))
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(str(error)) from error


def plain(config: DictConfig) -> Config:
    """Return a config as dicts and lists, with everything resolved."""
    made: Config = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return made


def check_overrides(overrides: Sequence[str], name: str = "config") -> None:
    """Refuse keys and options that do not exist, before Hydra writes or starts anything.

    Raises:
        TypeError: If a value is neither true nor false and should be.
        ValueError: Naming the nearest right one.

    Example:
        >>> check_overrides(["env=hoper"])
        Traceback (most recent call last):
        ValueError: `env` has no option `hoper`. Did you mean `hopper`? It may be acrobot, ...
    """
    groups = {folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in conf_dir().iterdir()}
    groups = {name: options for name, options in groups.items() if options}
    given = [o for o in parsed_overrides(overrides) if not o.is_delete()]
    given = [o for o in given if not o.key_or_group.startswith(("hydra.", "hydra/"))]
    for override in given:
        key = override.key_or_group
        for value in _choices(override) if key in groups else ():
            if str(value) not in groups[key]:
                near = suggestion(str(value), groups[key])
                raise ValueError(f"`{key}` has no option `{value}`.{near} It may be {', '.join(groups[key])}.")
    _check_keys([o for o in given if o.key_or_group not in groups], given, name)


def parsed_overrides(overrides: Sequence[str]) -> list[Override]:
    """Return overrides as Hydra understands them.

    Raises:
        ValueError: If one is no override.
    """
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ValueError(f"{error} An override looks like KEY=VALUE.") from error


def _choices(override: Override) -> list[Any]:
    """Return the values of a multirun's `key=a,b`, or the one value."""
    value = override.value()
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def _check_keys(overrides: Sequence[Override], parsed: Sequence[Override], name: str) -> None:
    deciding = [o for o in parsed if (conf_dir() / o.key_or_group).is_dir() or o.key_or_group == "optimizer.name"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose(name, overrides=[f"{o.key_or_group}={_choices(o)[0]}" for o in deciding])
    tree = OmegaConf.to_container(config)
    known, defaults = _leaves(tree, ""), flat(tree)
    for override in overrides:
        key = override.key_or_group
        if key not in known:
            _check_new(override, known, config.optimizer.name)
        for value in _choices(override) if isinstance(defaults.get(key), bool) else ():
            if not str(value).startswith("${"):
                check_flag(key, value)


def _check_new(override: Override, known: Sequence[str], optimizer: str) -> None:
    """Refuse a key that the config has not, unless it begins with a plus and is an argument somebody will check."""
    key, line = override.key_or_group, override.input_line
    if override.is_add() or override.is_force_add():
        free = ("env.kwargs.", "optimizer.", "policy.", "strategy.")
        if key.startswith(free) or key in [f"logger.{n}" for n in inspect.signature(WandbLogger).parameters]:
            return
    elif key.startswith("env.kwargs."):
        near = suggestion(key, [k for k in known if k.startswith("env.kwargs.")])
        raise ValueError(f"`{key}` is not in the config.{near} A further argument takes a plus: `+{line}`.")
    elif key.startswith("optimizer."):
        kind = _optimizer_class(optimizer)
        takes = [f"optimizer.{argument}" for argument in _arguments(kind)]
        if key in takes:
            raise ValueError(f"`{key}` is not in the config; a further argument takes a plus: `+{line}`.")
        raise ValueError(f"`{key}` is no argument of torch.optim.{kind.__name__}.{suggestion(key, takes)}")
    raise ValueError(f"`{key}` is no key of the config.{suggestion(key, known)}")


def _leaves(tree: Any, path: str) -> list[str]:
    if not isinstance(tree, dict):
        return [path]
    return [path] * bool(path) + [leaf for k, v in tree.items() for leaf in _leaves(v, f"{path}.{k}" if path else k)]


def check_values(config: Config) -> None:
    """Refuse values of a run that nobody else looks at before it has begun.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If a value is out of its range.

    Example:
        >>> check_values({**compose_config(), "final_episodes": 0})
        Traceback (most recent call last):
        ValueError: `final_episodes` must be at least 1, got 0.
    """
    check_seed(config["seed"])
    for name in ("total_timesteps", "eval_episodes", "final_episodes", "keep_checkpoints"):
        check_count(name, config[name])
    check_count("eval_every", config["eval_every"], minimum=0)
    if config["checkpoint_every"] != 0:  # after each generation
        check_positive("checkpoint_every", config["checkpoint_every"])
    if config["max_seconds"] is not None:
        check_positive("max_seconds", config["max_seconds"])
    policy = config["policy"]
    kinds: list[tuple[str, str, Any]] = [("box_head", "a word", str), ("action_noise", "a word or null", str | None)]
    kinds += [("hidden", "a list, as [64, 64] is", list)] * (policy["name"] == "mlp")
    for name, what, kind in kinds:
        if name in policy and not isinstance(value := policy[name], kind):
            raise TypeError(f"`policy.{name}` must be {what}, got {value!r} of type {type(value).__name__}.")


def build(config: Config, factory: EnvFactory | None = None) -> ES:
    """Return the trainer that a config describes; no process is started.

    Args:
        config: Plain data.
        factory: Makes environments in place of those of the config, to render them.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If a value is out of its range.
    """
    env, policy, strategy = config["env"], dict(config["policy"]), dict(config["strategy"])
    evaluator = dict(config["evaluator"])
    factory = repeated(factory or env_factory(env["id"], **env["kwargs"]), env["action_repeat"])
    acting = {name: policy.pop(name) for name in ("box_head", "action_noise")}
    probe = factory()
    es = ES(
        _network(policy, probe, acting["box_head"], config["seed"]),
        factory,
        strategy=strategy.pop("name"),
        optimizer=_optimizer(config["optimizer"]),
        **acting,
        rules=EpisodeRules(**config["episode"]),
        eval_every=config["eval_every"],
        eval_episodes=config["eval_episodes"],
        seed=config["seed"],
        tolerance=FaultTolerance(**evaluator.pop("tolerance", {})),
        **evaluator,
        **strategy,
    )
    es.trainer.frames_per_step = frames_per_step(probe)
    return es


def build_loggers(config: Config) -> list[Logger]:
    """Return the loggers besides `metrics.jsonl`: none, one, or several; what is set besides is W&B's.

    Raises:
        ValueError: If there is none of a name, or no such naming.
    """
    options = dict(config["logger"])
    names, naming = options.pop("name") or [], check_choice("logger.naming", options.pop("naming", "both"), NAMINGS)
    names = [check_choice("logger.name", name, _LOGGERS) for name in ([names] if isinstance(names, str) else names)]
    return [_LOGGERS[name](naming=naming, **(options if name == "wandb" else {})) for name in names]


def name_group(config: Config, name: str) -> None:
    """Put a run's loggers under a group, if they know of groups and none is set."""
    if config["logger"].get("group", "") is None:
        config["logger"]["group"] = name


def check_free(folder: Path) -> None:
    """Refuse a run folder that exists: a run never writes over another.

    Raises:
        ValueError: If it does; one that was killed before it wrote anything does not count.
    """
    if folder.is_dir() and {p.name for p in folder.iterdir()} <= {".lock", ".config.yaml.tmp"}:
        return
    if folder.exists():
        raise ValueError(
            f"`run_dir` {folder} exists; name another, or continue it with `torch-es train resume={folder}`."
        )


def find_run(config: Config) -> Path | None:
    """Return the run that `resume=auto` continues, or None for a new one.

    That is `run_dir` itself if there is a run in it, else the newest beside it that was started by the same settings.

    Raises:
        ValueError: If the run in `run_dir` was started by other settings; every difference is named.
    """
    folder = Path(config["run_dir"])
    if (folder / "config.yaml").is_file():
        resumed_config(folder, config)
        return folder
    beside = sorted(folder.parent.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path.parent for path in beside if not fixed_differences(load_config(path.parent), config)), None)


def resumed_config(folder: Path, config: Config) -> Config:
    """Return a run's own config with what `config` may change of it: how long, by which workers, to which logger.

    Raises:
        ValueError: If `config` differs in anything else; every key is named with both values.
    """
    saved = load_config(folder)
    if found := fixed_differences(saved, config):
        raise ValueError(
            f"`{folder}` was started by other settings: {found}. "
            f"A resumed run may change {', '.join(CHANGEABLE)}; start a new one for the rest."
        )
    return {**saved, **{key: config[key] for key in CHANGEABLE if key in config}}


def changed(config: Config, overrides: Sequence[str], saved: Config) -> Config:
    """Return the saved config with what the overrides of a command line set."""
    merged = OmegaConf.create({**config, **saved})  # what is new since then has its default
    for override in parsed_overrides(overrides):
        key = override.key_or_group
        OmegaConf.update(merged, key, OmegaConf.select(OmegaConf.create(config), key), force_add=True)
    return plain(merged)


def fixed_differences(saved: Config, config: Config, changeable: Sequence[str] = CHANGEABLE) -> str:
    """List what differs and must not; keys that the saved config is too old to have count as unchanged."""
    then, now = (flat({key: c[key] for key in c if key not in changeable}) for c in (saved, config))
    return differences(then, {key: now.get(key, "absent") for key in then})


def save_config(config: Config, folder: Path) -> None:
    """Write `config.yaml`, from which the run can be built again."""
    staging = folder / ".config.yaml.tmp"
    OmegaConf.save(OmegaConf.create(config), staging)
    shutil.move(staging, folder / "config.yaml")


def load_config(folder: Path) -> Config:
    """Read a run's `config.yaml`.

    Raises:
        ValueError: If the folder is no run.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise ValueError(f"`{folder}` is no run folder: it has no config.yaml.")
    return plain(OmegaConf.load(path))  # type: ignore[arg-type]


def _network(options: Config, env: gym.Env[Any, Any], box_head: str, seed: int) -> torch.nn.Module:
    env.close()
    outputs = make_head(env.action_space, box_head).size
    return make_network(env.observation_space, outputs, seed=seed, **options)


def _optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    known = [n for n, k in vars(torch.optim).items() if isinstance(k, type) and issubclass(k, torch.optim.Optimizer)]
    kind: type[torch.optim.Optimizer] = getattr(torch.optim, check_choice("optimizer.name", name, known))
    return kind


def _arguments(kind: type[torch.optim.Optimizer]) -> list[str]:
    return list(inspect.signature(kind).parameters)[1:]  # after the parameters to step


def _optimizer(options: Config) -> Any:
    keywords = dict(options)
    kind = _optimizer_class(keywords.pop("name"))
    try:
        kind([torch.nn.Parameter(torch.zeros(1))], **keywords)
    except (TypeError, ValueError) as error:
        near = next((suggestion(k, _arguments(kind)) for k in keywords if k not in _arguments(kind)), "")
        raise ValueError(f"`optimizer`: {kind.__name__} does not take {keywords}: {error}.{near}") from error
    return partial(kind, **keywords)
