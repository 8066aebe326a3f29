"""Which machine and versions a benchmark ran on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def in_words(machine: dict[str, Any], packages: Sequence[str]) -> str:
    """Return what `describe` returned as a phrase, with the versions of some packages."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name in packages)
    return f"{machine['cores']} cores of {machine['processor']}, Python {machine['python']}, {versions}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
