"""What a result depends on, as data, and its hash: a result is of the settings whose hash it carries."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from torch_es.cli import config

_UNTOLD = ("seed", *config.CHANGEABLE)  # what a result does not depend on, or names by itself
_LATER = "rank", None  # came after results that it does not change

Settings = dict[str, Any]


@cache
def composed(*words: str) -> Settings:
    """Return the config of `torch-es WORDS`."""
    return config.compose_config(words)


def decisive(*words: str) -> Settings:
    """Return everything that decides what the runs of `torch-es WORDS` reach, besides the seed and the code."""
    settings = {key: value for key, value in composed(*words).items() if key not in _UNTOLD}
    settings["strategy"] = {key: value for key, value in settings["strategy"].items() if (key, value) != _LATER}
    return {**settings, "total_timesteps": composed(*words)["total_timesteps"]}


def digest(settings: Settings) -> str:
    """Return a hash of settings.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
