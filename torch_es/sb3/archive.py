"""A model as one zip file, at the path where Stable-Baselines3 saves it; it holds safetensors and JSON, no pickle."""

from __future__ import annotations

import io
import logging
import tempfile
import zipfile
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common import torch_layers
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.save_util import open_path
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from torch_es.checks import check_choice
from torch_es.runs import checkpoint
from torch_es.runs.options import saved_options
from torch_es.sb3 import statistics
from torch_es.sb3.environments import Nowhere
from torch_es.sb3.features import NormalizedExtractor
from torch_es.spaces.plain import plain_space, space_of

_log = logging.getLogger(__name__)

PathOrFile = str | Path | io.BufferedIOBase
_CLASS, _SCHEDULE = "__class__", "__schedule__"
_SCHEDULES = {kind.__name__: kind for kind in (LinearSchedule, ConstantSchedule)}
_HOMES = {"torch.nn": nn, "torch.optim": torch.optim, "stable_baselines3.common.torch_layers": torch_layers}


def write(path: PathOrFile, state: dict[str, Any]) -> None:
    """Write a state as a checkpoint, zipped, to `path`; `.zip` is added to a path without an ending."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder) / "model", state)
        file: Any = open_path(path, "w", suffix="zip")
        with zipfile.ZipFile(file, "w") as archive:
            for part in sorted((Path(folder) / "model").iterdir()):
                archive.write(part, part.name)
    if isinstance(path, (str, Path)):
        file.close()


def read(path: PathOrFile) -> dict[str, Any]:
    """Read what `write` wrote.

    Raises:
        ValueError: If the file is of another kind, or damaged.
    """
    file: Any = open_path(path, "r", suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive, tempfile.TemporaryDirectory() as folder:
            if "state.json" not in archive.namelist():
                raise ValueError(
                    f"`{path}` was not saved by torch_es: it holds {', '.join(archive.namelist())}. Load a model of "
                    "Stable-Baselines3 with its own class, and give `ES` its `policy`."
                )
            archive.extractall(folder)
            state: dict[str, Any] = checkpoint.load(folder)
            return state
    except zipfile.BadZipFile as error:
        raise ValueError(f"`{path}` is no zip file: {error}.") from error
    finally:
        if isinstance(path, (str, Path)):
            file.close()


def state_of(model: Any, left_out: Collection[str]) -> dict[str, Any]:
    """Return what a `torch_es.sb3.ES` needs to act and to continue training, without the attributes left out."""
    policy = getattr(model.policy, "_orig_mod", model.policy)  # of `torch.compile`
    keep = {
        "tensorboard_log": model.tensorboard_log,
        "verbose": model.verbose,
        "seed": model.seed,
        "stats_window_size": model._stats_window_size,
    }
    return {
        "es": model.es.state_dict(),
        "parameters": {**model.get_parameters(), "policy": policy.state_dict()},
        "sb3": {
            "policy": next((n for n, kind in model.policy_aliases.items() if kind is type(policy)), None),
            "policy_kwargs": describe_policy(policy),
            "learning_rate": _saved_rate(model.learning_rate),
            "env": model._env_id,
            "spaces": [plain_space(model.observation_space), plain_space(model.action_space)],
            "normalize_observations": isinstance(policy.pi_features_extractor, NormalizedExtractor),
            "vec_normalize": statistics.describe(model._vec_normalize()),
            "counters": {name: getattr(model, name) for name in ("num_timesteps", "_n_updates", "_episode_num")},
            "keep": {name: value for name, value in keep.items() if name not in left_out},
        },
    }


def describe_policy(policy: ActorCriticPolicy) -> dict[str, Any]:
    """Return what a policy is made with, as plain data; what that cannot hold is left out and named under `own`.

    Classes of PyTorch and SB3 become names: `load` looks names up there and nowhere else.
    """
    kwargs = policy._get_constructor_parameters()
    kwargs = {n: v for n, v in kwargs.items() if n not in ("observation_space", "action_space", "lr_schedule")}
    if kwargs["features_extractor_class"] is NormalizedExtractor:  # `normalize` puts it there again
        within = kwargs["features_extractor_kwargs"]
        kwargs["features_extractor_class"] = within["extractor_class"]
        kwargs["features_extractor_kwargs"] = within["extractor_kwargs"]
    kwargs["share_features_extractor"] = policy.share_features_extractor
    described: dict[str, Any] = {}
    own: list[str] = []
    for name, value in kwargs.items():
        try:
            described[name] = _plain(value)
        except TypeError:
            own.append(name)
    return {"kwargs": described, "own": own}


def _saved_rate(rate: Any) -> Any:
    """Return a learning rate, or SB3's schedule of it, as plain data; of another function, what it begins with."""
    try:
        return _plain(rate)
    except TypeError:
        return {"begins": float(rate(1.0) if callable(rate) else rate)}


def _rate(saved: Any) -> Any:
    if not isinstance(saved, dict) or "begins" not in saved:
        return _made(saved)
    _log.warning(
        "`learning_rate` was a function of your own, which is not saved; it is now %g, which the function began with, "
        "or give it to `load`.", saved["begins"],
    )  # fmt: skip
    return saved["begins"]


def known(state: dict[str, Any], objects: dict[str, Any]) -> dict[str, Any]:
    """Return those of SB3's `custom_objects` that stand for something in a saved model; warn of the others."""
    names = {"policy_class", "policy_kwargs", "learning_rate", *state["es"]["options"], *state["sb3"]["keep"]}
    if unknown := ", ".join(sorted(set(objects) - names)):
        _log.warning("`custom_objects` names %s, which is not in the file and is left out.", unknown)
    return {name: value for name, value in objects.items() if name in names}


def arguments(state: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that make a saved model again.

    Args:
        state: From `read`.
        own: Arguments that replace saved ones, and `policy_class`.

    Raises:
        ValueError: If `own` lacks something that a file cannot hold, or its `policy_kwargs` differ from those saved.
    """
    saved, own = state["sb3"], dict(own)
    derived = {"env", "optimizer", "box_head", "behaviour"}  # from the policy and the environment
    options = saved_options(state["es"], {*own, *derived})
    options = {name: value for name, value in options.items() if name not in derived}
    policy = own.pop("policy_class", saved["policy"])
    if policy is None:
        raise ValueError("`policy_class` was a class of your own; give `custom_objects=dict(policy_class=...)`.")
    if own.get("env") is None:
        own["env"] = _env(saved)
    kwargs = _policy_kwargs(saved["policy_kwargs"], own.pop("policy_kwargs", {}))
    if "learning_rate" not in own:
        own["learning_rate"] = _rate(saved["learning_rate"])
    kept = {**saved["keep"], "normalize_observations": saved["normalize_observations"]}
    return {**options, **kept, **own, "policy": policy, "policy_kwargs": kwargs}


def _env(saved: dict[str, Any]) -> Any:
    """Return the saved id, if it is known without importing anything, otherwise what stands for the environment."""
    env_id = str(saved["env"])
    if env_id in gym.registry or env_id.startswith("ALE/"):
        return env_id
    unknown = partial(Nowhere, *map(space_of, saved["spaces"]))
    normalized = saved["vec_normalize"]
    return unknown if normalized is None else VecNormalize(DummyVecEnv([unknown]), **normalized)


def _policy_kwargs(described: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    if missing := [name for name in described["own"] if name not in given]:
        raise ValueError(
            f"`policy_kwargs` must be given with {', '.join(missing)}, which was a class or function of your own: "
            "those are not saved, so that loading a file never runs code from it."
        )
    for name, value in given.items():
        if name in described["kwargs"] and not _is(value, described["kwargs"][name]):
            raise ValueError(
                f"`policy_kwargs` must be those of the saved policy, got {name}={value!r} instead of "
                f"{_made(described['kwargs'][name])!r}: its weights were trained with that."
            )
    return {**{name: _made(value) for name, value in described["kwargs"].items()}, **given}


def _is(value: Any, saved: Any) -> bool:
    """Whether a value is the one that was saved as plain data."""
    try:
        return bool(_plain(value) == saved)
    except TypeError:
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, FloatSchedule):
        return _plain(value.value_schedule)
    if type(value) in _SCHEDULES.values():
        return {_SCHEDULE: type(value).__name__, **{name: float(v) for name, v in vars(value).items()}}
    name = getattr(value, "__name__", "")
    for home, module in _HOMES.items():
        if isinstance(value, type) and getattr(module, name, None) is value:
            return {_CLASS: [home, name]}
    raise TypeError(f"{value!r} is not plain data.")


def _made(value: Any) -> Any:
    if isinstance(value, list):
        return [_made(part) for part in value]
    if not isinstance(value, dict):
        return value
    parts = {name: _made(part) for name, part in value.items()}
    if _SCHEDULE in parts:
        return _SCHEDULES[check_choice("schedule", parts.pop(_SCHEDULE), _SCHEDULES)](**parts)
    if _CLASS not in parts:
        return parts
    home, name = parts[_CLASS]
    kind = getattr(_HOMES.get(home), name, None)
    if not isinstance(kind, type):
        raise ValueError(f"The file names `{home}.{name}`, which is no class of {', '.join(_HOMES)}.")
    return kind
