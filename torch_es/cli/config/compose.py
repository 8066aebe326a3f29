"""From the words of a command line to a config: the YAML files, with the settings tuned for the environment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from hydra import compose
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from torch_es.checks import suggestion
from torch_es.cli.config.build import Config
from torch_es.cli.config.overrides import check_overrides, choices, conf_dir, config_files, parsed_overrides, plain
from torch_es.runs.commands import override

_GROUPS = ("policy", "strategy", "optimizer")  # values tuned with one option of these are wrong for another


def compose_config(overrides: Sequence[str] = (), name: str = "config") -> Config:
    """Return the config that the command line `torch-es OVERRIDES` composes, as plain data.

    Args:
        overrides: As on the command line.
        name: The file at the top: `config`, or `sweep` for a search.

    Raises:
        TypeError: If a value should be true or false and is neither.
        ValueError: If a key or an option does not exist; the error names the nearest one.

    Example:
        >>> compose_config(["env=hopper"])["env"]["id"]
        'Hopper-v5'
    """
    words = with_tuned(overrides, name)
    check_overrides(words, name)
    with config_files():
        config = plain(compose(name, overrides=words))
    config["env"].pop("tuned", None)
    return config


def with_tuned(overrides: Sequence[str], name: str = "config") -> list[str]:
    """Return a command line with the settings that were tuned for its environment, `tuned` in `conf/env/*.yaml`.

    What the command line sets stays. Another policy, strategy or class of optimizer drops the values that were tuned
    for the first one: SNES must not get a sigma of ARS. `env.tuned=null` and an `experiment` drop all of them. A sweep
    has a budget of its own.

    Example:
        >>> with_tuned(["env=hopper", "env.tuned=null"])
        ['env=hopper', '++env.tuned=null']
    """
    parsed = [o for o in parsed_overrides(overrides) if not o.is_delete()]
    given = {o.key_or_group: o.value() for o in parsed}
    if ("env.tuned" in given and given["env.tuned"] is None) or given.get("experiment", "none") != "none":
        return [
            word.replace("env.tuned=", "++env.tuned=") if word.startswith("env.tuned=") else word for word in overrides
        ]
    tuned = _tuned(parsed)
    options = {g: tuned.get(g, _default(g)) for g in _GROUPS}
    dropped = {g for g, own in options.items() if any(given.get(key, own) != own for key in (g, f"{g}.name"))}
    folders = _folders(parsed)
    if "optimizer" in dropped and _optimizer(given, tuned, folders) == _optimizer(tuned, tuned, folders):
        dropped.remove("optimizer")
    if "strategy" in dropped:  # each has steps of another size, so a learning rate does not carry over
        dropped.add("optimizer")
    if "optimizer" in dropped:
        dropped.add("scheduler")
    if name == "sweep":
        dropped.add("total_timesteps")
    kept = {key: v for key, v in tuned.items() if key not in given and key.partition(".")[0] not in dropped}
    words = [override(key, value) for key, value in kept.items()]
    # an environment that only env.id names is composed with another file, which may lack arguments
    return [*(f"++{word}" if word.startswith("env.kwargs.") else word for word in words), *overrides]


def origin(overrides: Sequence[str], env_id: str) -> str:
    """Say what a command line trains with besides what it sets, for people who read the log of its run.

    Example:
        >>> origin(["env=cartpole", "policy=mlp"], "CartPole-v1")
        'tuned for CartPole-v1 (strategy=openai_es total_timesteps=300000)'
        >>> origin(["env=atari"], "ALE/Pong-v5")
        'the defaults; none were tuned for ALE/Pong-v5'
    """
    words = with_tuned(overrides)
    deleted = tuple(f"{o.key_or_group}=" for o in parsed_overrides(overrides) if o.is_delete())
    if kept := [word for word in words[: len(words) - len(overrides)] if not word.startswith(deleted)]:
        return f"tuned for {env_id} ({' '.join(kept)})"
    left_out = _tuned(parsed_overrides(overrides))
    return f"without those tuned for {env_id}" if left_out else f"the defaults; none were tuned for {env_id}"


def tuned_env(text: str) -> str:
    """Return the option of `env` that has tuned settings for an environment: by its own name, or by Gymnasium's id.

    Raises:
        ValueError: If there is none.

    Example:
        >>> tuned_env("Hopper-v5")
        'hopper'
    """
    found = ((name, env) for name, env in _files([conf_dir()]) if text in (name, env["id"]))
    word, env = next(found, ("", {"id": text}))
    if env.get("tuned"):
        return word
    env_id = env["id"]
    if word or env_id in gym.registry or env_id.startswith("ALE/"):  # ale-py registers its games when one is made
        again = f"torch-es env={word}" if word else f"torch-es env.id={env_id}"
        raise ValueError(
            f'`{text}` has no tuned settings; use `ES(policy, "{env_id}")`, or `{again}`, which trains with the '
            "defaults."
        )
    ids = sorted(tuned_envs().values())
    raise ValueError(f"`{text}` is not a known task.{suggestion(text, ids)} Tuned are {', '.join(ids)}.")


def tuned_envs() -> dict[str, str]:
    """Return the options of `env` that have tuned settings, and Gymnasium's id of each."""
    return {name: str(env["id"]) for name, env in _files([conf_dir()]) if env.get("tuned")}


def _optimizer(words: Config, tuned: Config, folders: Sequence[str | Path]) -> str:
    """Return the class of torch.optim that words choose, or else the tuned strategy."""
    option = words.get("optimizer", tuned.get("strategy", _default("strategy")))
    named = (str(values["name"]) for _, values in _files(folders, str(option), "optimizer"))
    return str(words.get("optimizer.name", next(named, "")))


def _tuned(words: Sequence[Override]) -> Config:
    """Return the tuned settings of the environment that `env` and `env.id` of a command line name."""
    given: dict[str, Any] = {o.key_or_group: choices(o)[0] for o in words if o.key_or_group in ("env", "env.id")}
    folders = _folders(words)
    if "env.id" in given:
        found = [(name, env) for name, env in _files(folders) if env.get("id") == given["env.id"]]
    else:
        chosen = given.get("env") or _default("env")
        found = list(_files(folders, str(chosen)))  # none if there is no such file: the check says so
    name, env = found[0] if found else ("", {})
    if "defaults" in env:  # those of what it builds on are its own too
        with config_files():
            folder = [str(o.input_line) for o in words if o.key_or_group == "hydra.searchpath"]
            env = OmegaConf.to_container(compose("config", overrides=[*folder, f"env={name}"]).env)  # type: ignore
    tuned = env.get("tuned") or {}
    if not isinstance(tuned, dict):
        raise ValueError(
            f"`tuned` in env/{name}.yaml must be keys and values of the command line, as `strategy.sigma: 0.1`, or "
            f"null, got {tuned!r}."
        )
    return tuned


def _default(group: str) -> str:
    """Return the option of a group on a command line that names none."""
    config: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / "config.yaml"))
    return next(str(choice[group]) for choice in config["defaults"] if group in choice)


def _folders(words: Sequence[Override]) -> list[str | Path]:
    """Return the folders of YAML files, in Hydra's order: the first that has a file counts."""
    return [conf_dir(), *(folder for o in words if o.key_or_group == "hydra.searchpath" for folder in choices(o)[0])]


def _files(folders: Sequence[str | Path], name: str = "*", group: str = "env") -> Iterator[tuple[str, Config]]:
    """Yield the options of a group and what is in their files; each is read by itself, which Hydra would not do."""
    for folder in folders:
        for path in sorted(Path(str(folder).removeprefix("file://")).glob(f"{group}/{name}.yaml")):
            yield path.stem, OmegaConf.to_container(OmegaConf.load(path))  # type: ignore[misc]
