"""From a config, as plain data, to a trainer and its loggers."""

from __future__ import annotations

import importlib
import inspect
import logging
import math
from functools import partial
from typing import Any

import gymnasium as gym
import torch
from torch.optim import lr_scheduler

from torch_es.checks import check_choice, check_count, check_positive, suggestion
from torch_es.envs import EnvFactory, env_factory, repeated
from torch_es.envs.rules import EpisodeRules
from torch_es.es import ES
from torch_es.evaluators import FaultTolerance
from torch_es.heads import make_head
from torch_es.loggers import CsvLogger, Logger, TensorBoardLogger, WandbLogger
from torch_es.loggers.names import NAMINGS
from torch_es.policies import make_network
from torch_es.policies.networks import NETWORKS
from torch_es.seeding import check_seed

_log = logging.getLogger(__name__)

Config = dict[str, Any]

GROUPS = ("env", "policy", "strategy", "optimizer", "evaluator", "logger", "episode")
ACTING = ("box_head", "action_noise")  # of a policy, besides its network
_LOGGERS: dict[str, type] = {"csv": CsvLogger, "tensorboard": TensorBoardLogger, "wandb": WandbLogger}


def check_values(config: Config) -> None:
    """Refuse the values of a run that nobody else would look at before it begins.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If a value is out of its range.

    Example:
        >>> check_values({"seed": 0, "total_timesteps": 0})
        Traceback (most recent call last):
        ValueError: `total_timesteps` must be at least 1, got 0.
    """
    check_seed(config["seed"])
    if config.get("run_dir", "") is None:
        raise TypeError("`run_dir` must be a folder, got null.")
    for name in ("total_timesteps", "eval_episodes", "final_episodes", "keep_checkpoints"):
        check_count(name, config[name])
    check_count("eval_every", config["eval_every"], minimum=0)
    if config["checkpoint_every"] != 0:  # 0 saves after each generation
        check_positive("checkpoint_every", config["checkpoint_every"])
    if config["max_seconds"] is not None:
        check_positive("max_seconds", config["max_seconds"])
    policy = config["policy"]
    kinds: list[tuple[str, str, Any]] = [("box_head", "a word", str), ("action_noise", "a word or null", str | None)]
    kinds += [("hidden", "a list, as [64, 64] is", list)] * (policy.get("name") == "mlp")
    for name, what, kind in kinds:
        if name in policy and not isinstance(value := policy[name], kind):
            raise TypeError(f"`policy.{name}` must be {what}, got {value!r} of type {type(value).__name__}.")


def build(config: Config, factory: EnvFactory | None = None, **options: Any) -> ES:
    """Return the trainer that a config describes; no process is started.

    Args:
        config: Plain data.
        factory: Makes the environments instead of those in the config, for example to render them.
        options: Replace arguments of `ES`.

    Raises:
        TypeError: If a value is of the wrong kind.
        ValueError: If a value is out of its range.
    """
    for group in GROUPS:
        if not isinstance(config.get(group), dict):
            raise ValueError(f"The config must have a group `{group}`, got {config.get(group)!r}.")
    env, policy, strategy = config["env"], dict(config["policy"]), dict(config["strategy"])
    tolerance = FaultTolerance(**_keywords(config, "evaluator", "tolerance"))
    evaluator = _evaluator({**config["evaluator"], "tolerance": tolerance})
    made = factory or environments(env)
    factory = repeated(made, check_count("env.action_repeat", env.get("action_repeat", 1)))
    if "population_size" in options:
        strategy.pop("num_pairs", None)  # it says the same
    acting = {name: policy.pop(name) for name in ACTING if name in policy}
    probe = factory()
    probe.close()  # only its spaces are read
    network = _network(policy, probe, acting.get("box_head", "clip"), config["seed"])
    arguments = {
        "strategy": strategy.pop("name"),
        "optimizer": (optimizer := _optimizer(config["optimizer"])),
        **({"scheduler": _scheduler(config["scheduler"], optimizer)} if config.get("scheduler") else {}),
        **acting,
        "rules": EpisodeRules(**config["episode"]),
        **{name: config[name] for name in ("min_episodes", "min_timesteps", "eval_every", "eval_episodes", "seed")},
        **evaluator,
        **strategy,
    }
    return ES(network, factory, **{**arguments, **options})


def environments(env: Config) -> EnvFactory:
    """Return what makes the environments of the group `env` of a config.

    Raises:
        ValueError: If the group has no id, or it is unknown.

    Example:
        >>> environments({"id": "CartPole-v1"})().spec.id
        'CartPole-v1'
    """
    if not isinstance(env.get("id"), str):
        raise ValueError(f"`env.id` must be the id of an environment, got {env.get('id')!r}.")
    return env_factory(env["id"], **_keywords({"env": env}, "env", "kwargs"))


def _keywords(config: Config, group: str, name: str) -> Config:
    found = config[group].get(name, {})
    if not isinstance(found, dict):
        what = f"got {found!r} of type {type(found).__name__}"
        raise TypeError(f"`{group}.{name}` must be keys and values, as {{size: 3}} is, {what}.")
    return found


def build_loggers(config: Config) -> list[Logger]:
    """Return the loggers besides `metrics.jsonl`: none, one, or several; further options are those of W&B.

    Raises:
        ValueError: If a name or a naming does not exist.
    """
    options = dict(config["logger"])
    names, naming = options.pop("name") or [], check_choice("logger.naming", options.pop("naming", "both"), NAMINGS)
    names = [check_choice("logger.name", name, _LOGGERS) for name in ([names] if isinstance(names, str) else names)]
    return [_LOGGERS[name](naming=naming, **(options if name == "wandb" else {})) for name in names]


def name_group(config: Config, name: str) -> None:
    """Put a run's loggers into a group, if they have groups and none is set."""
    if config["logger"].get("group", "") is None:
        config["logger"]["group"] = name


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """Return a class of `torch.optim` by its name.

    Raises:
        ValueError: If there is none of that name.

    Example:
        >>> optimizer_class("Adam").__name__
        'Adam'
    """
    known = [n for n, k in vars(torch.optim).items() if isinstance(k, type) and issubclass(k, torch.optim.Optimizer)]
    kind: type[torch.optim.Optimizer] = getattr(torch.optim, check_choice("optimizer.name", name, known))
    return kind


def optional_arguments(kind: type) -> list[str]:
    """Return the names of the arguments of a class of torch.optim, without the first: what it steps."""
    return list(inspect.signature(kind).parameters)[1:]


def _network(options: Config, env: gym.Env[Any, Any], box_head: str, seed: int) -> torch.nn.Module:
    """Return the network that `policy` describes: one of torch_es, or `name: MODULE:CLASS`, a class of the user's own.

    The user's class is called with the observation space, the number of outputs and the other values of `policy`.
    """
    outputs = make_head(env.action_space, box_head).size
    if ":" not in str(options.get("name")):
        name, shape = check_choice("policy.name", options.get("name"), NETWORKS), env.observation_space.shape or ()
        if name != "atari_cnn" and len(shape) == 3:
            numbers = f"{math.prod(shape):,}"
            _log.warning("policy.name=%s sees a picture as %s numbers in a row; use policy=atari_cnn.", name, numbers)
        return make_network(env.observation_space, outputs, seed=seed, **options)
    kind = _imported("policy.name", "MODULE:CLASS", options["name"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(check_seed(seed))
        network = kind(env.observation_space, outputs, **{k: v for k, v in options.items() if k != "name"})
    if not isinstance(network, torch.nn.Module):
        raise TypeError(f"`policy.name` {options['name']} must make a torch.nn.Module, got {type(network).__name__}.")
    return network


def _evaluator(options: Config) -> Config:
    """Return the arguments of `ES` that `evaluator` describes.

    Its `name: MODULE:CALLABLE` makes an evaluator of the user's own. It is called with the objective, a snapshot and,
    by name, those other values of `evaluator` that it takes; all of them if it takes any.
    """
    own = options.pop("name", None)
    if own is None:
        return options
    make = _imported("evaluator.name", "MODULE:CALLABLE", own)
    if not callable(make):
        raise TypeError(f"`evaluator.name` {own} must make an evaluator, got {type(make).__name__}.")
    parameters = inspect.signature(make).parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    taken = [key for key in options if (takes_any or key in parameters) and key != "num_lanes"]  # the objective's
    return {"evaluator": partial(make, **{key: options.pop(key) for key in taken}), **options}


def _imported(key: str, form: str, name: str) -> Any:
    """Return what a value of the form MODULE:NAME names."""
    module, _, attribute = str(name).partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"`{key}` must be {form}, got {name!r}: {error}.") from error


def _optimizer(options: Config) -> Any:
    kind = optimizer_class(options["name"])
    return _checked("optimizer", kind, options, [torch.nn.Parameter(torch.zeros(1))])


def _scheduler(options: Config, optimizer: Any) -> Any:
    known = {
        n: k for n, k in vars(lr_scheduler).items() if isinstance(k, type) and issubclass(k, lr_scheduler.LRScheduler)
    }
    if not isinstance(options, dict):
        raise TypeError(f"`scheduler` must be {{name:CLASS,ARGUMENT:VALUE}}, got {options!r}.")
    kind = known[check_choice("scheduler.name", options.get("name"), known)]
    return _checked("scheduler", kind, options, optimizer([torch.nn.Parameter(torch.zeros(1))]))


def _checked(key: str, kind: type, options: Config, first: Any) -> Any:
    """Return `kind` with the keyword arguments that `options` hold besides its name, once it takes them.

    Args:
        key: Where the options are in the config.
        kind: A class of `torch.optim`.
        options: Its name and its keyword arguments.
        first: Its positional argument, to try it with.
    """
    keywords = {name: value for name, value in options.items() if name != "name"}
    try:
        kind(first, **keywords)
    except (TypeError, ValueError) as error:
        takes = optional_arguments(kind)
        near = next((suggestion(k, takes) for k in keywords if k not in takes), "")
        raise ValueError(f"`{key}`: {kind.__name__} does not take {keywords}: {error}.{near}") from error
    return partial(kind, **keywords)
