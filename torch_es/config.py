"""From a composed config to plain keyword arguments, and from those to a run. Only this file and `cli` know Hydra."""

from __future__ import annotations

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

from torch_es.checks import check_choice, suggestion
from torch_es.envs import EnvFactory, env_factory, repeated
from torch_es.episodes import EpisodeRules
from torch_es.es import ES
from torch_es.loggers import Logger, TensorBoardLogger, WandbLogger
from torch_es.policies import Concatenate, Layout, RecurrentNetwork, atari_cnn, make_head, mlp

Config = dict[str, Any]

_LOGGERS: dict[str, type] = {"tensorboard": TensorBoardLogger, "wandb": WandbLogger}


def conf_dir() -> Path:
    """Return the folder of the YAML files: in the installed package, or at the top of the source tree.

    Example:
        >>> (conf_dir() / "config.yaml").is_file()
        True
    """
    package = Path(__file__).parent
    return next(folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir())


def compose_config(overrides: Sequence[str] = ()) -> Config:
    """Return the config that the command line `torch-es OVERRIDES` composes, as plain data.

    Raises:
        ValueError: If a key or an option does not exist; the nearest one is named.

    Example:
        >>> compose_config(["env=hopper"])["env"]["id"]
        'Hopper-v5'
    """
    check_overrides(overrides)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        try:
            return plain(compose("config", overrides=list(overrides)))
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(str(error)) from error


def plain(config: DictConfig) -> Config:
    """Return a config as dicts and lists, with everything resolved."""
    made: Config = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return made


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse keys and options that do not exist, before Hydra writes or starts anything.

    Raises:
        ValueError: Naming the nearest right one.

    Example:
        >>> check_overrides(["env=hoper"])
        Traceback (most recent call last):
        ValueError: `env` has no option `hoper`. Did you mean `hopper`? It may be acrobot, ...
    """
    groups = {folder.name: sorted(f.stem for f in folder.glob("*.yaml")) for folder in conf_dir().iterdir()}
    groups = {name: options for name, options in groups.items() if options}
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ValueError(f"{error} An override looks like KEY=VALUE.") from error
    keys = set(groups)
    for override in parsed:
        key = override.key_or_group
        if key.startswith("hydra") or override.is_add() or override.is_delete():
            continue
        if key in groups:
            for value in _choices(override):
                if str(value) not in groups[key]:
                    near = suggestion(str(value), groups[key])
                    raise ValueError(f"`{key}` has no option `{value}`.{near} It may be {', '.join(groups[key])}.")
        else:
            keys.add(key)
    _check_keys(keys - set(groups), parsed)


def _choices(override: Override) -> list[Any]:
    """Return the values of a multirun's `key=a,b`, or the one value."""
    value = override.value()
    return list(value.list) if isinstance(value, ChoiceSweep) else [value]


def _check_keys(keys: set[str], parsed: Sequence[Override]) -> None:
    chosen = [f"{o.key_or_group}={_choices(o)[0]}" for o in parsed if (conf_dir() / o.key_or_group).is_dir()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("config", overrides=chosen)
    known = set(_leaves(OmegaConf.to_container(config), ""))
    free = ("env.kwargs.", "optimizer.")  # arguments of gymnasium.make and of the optimiser
    for key in keys - known:
        if not key.startswith(free):
            raise ValueError(f"`{key}` is no key of the config.{suggestion(key, known)}")


def _leaves(tree: Any, path: str) -> list[str]:
    if not isinstance(tree, dict):
        return [path]
    return [path] * bool(path) + [leaf for k, v in tree.items() for leaf in _leaves(v, f"{path}.{k}" if path else k)]


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
    factory = repeated(factory or env_factory(env["id"], **env["kwargs"]), env["action_repeat"])
    acting = {name: policy.pop(name) for name in ("normalize_observations", "box_head", "action_noise")}
    return ES(
        _network(policy, factory(), acting["box_head"], config["seed"]),
        factory,
        strategy=strategy.pop("name"),
        optimizer=_optimizer(config["optimizer"]),
        **acting,
        rules=EpisodeRules(**config["episode"]),
        eval_every=config["eval_every"],
        eval_episodes=config["eval_episodes"],
        seed=config["seed"],
        **config["evaluator"],
        **strategy,
    )


def build_loggers(config: Config) -> list[Logger]:
    """Return the loggers besides `metrics.jsonl`."""
    options = dict(config["logger"])
    name = options.pop("name")
    return [] if name is None else [_LOGGERS[check_choice("logger.name", name, _LOGGERS)](**options)]


def claim_folder(folder: Path) -> None:
    """Make the run folder.

    Raises:
        ValueError: If it exists: a run never writes over another.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError as error:
        raise ValueError(
            f"`run_dir` {folder} exists; name another, or continue it with `torch-es train resume={folder}`."
        ) from error


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
    space, outputs = env.observation_space, make_head(env.action_space, box_head).size
    keywords = dict(options)
    name = check_choice("policy.name", keywords.pop("name"), ("mlp", "recurrent", "atari_cnn"))
    if name == "atari_cnn":
        return atari_cnn(space.shape or (), outputs, seed=seed, **keywords)
    size = Layout(space).size
    if name == "recurrent":
        return RecurrentNetwork(size, outputs, seed=seed, **keywords)
    network = mlp(size, outputs, seed=seed, **keywords)
    flat = isinstance(space, gym.spaces.Box) and len(space.shape) == 1
    return network if flat else torch.nn.Sequential(Concatenate(), network)


def _optimizer(options: Config) -> Any:
    keywords = dict(options)
    known = [n for n, k in vars(torch.optim).items() if isinstance(k, type) and issubclass(k, torch.optim.Optimizer)]
    kind = getattr(torch.optim, check_choice("optimizer.name", keywords.pop("name"), known))
    try:
        kind([torch.nn.Parameter(torch.zeros(1))], **keywords)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`optimizer`: {kind.__name__} does not take {keywords}: {error}.") from error
    return partial(kind, **keywords)
