"""Which machine and versions a benchmark ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_es.runs.machine import processor, version

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "torch",
    "numpy",
    "gymnasium",
    "mujoco",
    "ale-py",
    "evotorch",
    "sb3-contrib",
    "stable-baselines3",
    "scikit-learn",
    "ray",
)


def describe() -> dict[str, Any]:
    """Return processor, cores, Python and the versions of the packages that matter."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := version(name))},
    }


def in_words(machine: dict[str, Any], packages: Sequence[str]) -> str:
    """Return what `describe` returned as a phrase, with the versions of some packages."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name in packages)
    return f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}, {versions}"
