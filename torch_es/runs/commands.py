"""Commands about a run as they are printed: each works when it is pasted into a shell."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_es.checks import flat

_MODULE = re.compile(r"([A-Za-z_][\w.]*):.")  # as gymnasium reads `module:Id-v0`
_WORDS = {"policy.box_head", "policy.action_noise"}  # short names of this library, as "uniform:10"; no module


def command(name: str, folder: Path, *words: str) -> str:
    """Return a command about a run folder.

    Example:
        >>> command("replay", Path("my runs/a"), "--generation", "3")
        "torch-es replay 'my runs/a' --generation 3"
    """
    return shlex.join(["torch-es", name, str(folder), *words])


def resume(folder: Path, *words: str) -> str:
    """Return the command that continues a run.

    Example:
        >>> print(resume(Path("runs/lr=0.1"), "total_timesteps=100"))
        torch-es train 'resume="runs/lr=0.1"' total_timesteps=100
    """
    return shlex.join(["torch-es", "train", override("resume", str(folder)), *words])


def override(key: str, value: Any) -> str:
    """Return the override that sets a key to a value; a text is in quotes where Hydra would read something else.

    Example:
        >>> override("resume", "7")
        'resume="7"'
        >>> override("scheduler", {"name": "LinearLR", "total_iters": 5})
        'scheduler={name:LinearLR,total_iters:5}'
    """
    if isinstance(value, dict):
        return f"{key}={{{','.join(override(k, v).replace('=', ':', 1) for k, v in value.items())}}}"
    if not isinstance(value, str):
        return f"{key}={json.dumps(value)}"
    plain = re.fullmatch(r"[\w./-]+", value, re.ASCII) and value.lower() not in ("true", "false", "null")
    quoted = re.sub(r'(\\*)"', r'\1\1\\"', value)  # a backslash escapes in front of a quote only
    quoted = re.sub(r"(\\+)$", r"\1\1", quoted)
    return f"{key}={value}" if plain and not _is_number(value) else f'{key}="{quoted}"'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def modules(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the modules that building a config would import, and the override that names each.

    Example:
        >>> modules({"env": {"id": "mine:Reach-v0", "kwargs": {}}, "policy": {"name": "mlp", "box_head": "uniform:10"}})
        {'mine': 'env.id=mine:Reach-v0'}
    """
    groups = {group: config.get(group) for group in ("env", "policy")}
    values = flat({**groups, "evaluator": {"name": config.get("evaluator", {}).get("name")}})
    named = {key: value for key, value in values.items() if isinstance(value, str) and key not in _WORDS}
    found = {key: _MODULE.match(value) for key, value in named.items()}
    return {match[1]: f"{key}={values[key]}" for key, match in found.items() if match}


def imports(config: Mapping[str, Any]) -> list[str]:
    """Return the words with which a command may import the modules that a run's config names.

    Example:
        >>> imports({"env": {"id": "mine:Reach-v0"}})
        ['--import', 'mine']
    """
    return [word for module in modules(config) for word in ("--import", module)]
