"""`torch-es plot`: the curves of runs, with the seeds of the same settings as one band."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_es.cli import config
from torch_es.cli.out import add_out, out_file
from torch_es.loggers.progress import Terminal
from torch_es.report.plotting import plot_runs

_MANY = 3  # names of values in a legend


def plot(arguments: list[str]) -> None:
    """Draw the curves of runs into one picture, against steps, seconds and generations."""
    parser = argparse.ArgumentParser("torch-es plot", description=plot.__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    add_out(parser, "curve.png", "the first run's")
    parser.add_argument(
        "--bands",
        choices=("settings", "all", "none"),
        default="settings",
        help="what is drawn as one band: runs whose config.yaml differs in the seed alone (the default), all, or none",
    )
    given = parser.parse_args(arguments)
    folders = list(dict.fromkeys(given.runs))
    out = out_file(given.out, folders[0], "curve.png")
    groups = (
        {"all": folders} if given.bands == "all" else {"none": _apart, "settings": by_settings}[given.bands](folders)
    )
    Terminal().print(str(plot_runs(groups, out)))


def by_settings(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Group runs that differ only in the seed or in what does not change a run; name groups by what tells them apart.

    A run without config.yaml, started by a program, forms a group of its own, because its module is not known.
    """
    settings = {folder: _settings(folder) for folder in folders}
    groups: dict[Path, list[Path]] = {}
    for folder, found in settings.items():
        first = next((first for first in groups if found and settings[first] == found), folder)
        groups.setdefault(first, []).append(folder)
    names = zip(_names([settings[first] for first in groups]), _apart(list(groups)), strict=True)
    return {name or path: members for (name, path), members in zip(names, groups.values(), strict=True)}


def _settings(folder: Path) -> dict[str, Any]:
    """Return the settings that determine a run, one level deep, without the seed; a null is as a key that is absent."""
    if not (folder / "config.yaml").is_file():
        return {}
    kept = {k: v for k, v in config.read_config(folder).items() if k not in (*config.CHANGEABLE, "seed")}
    parts = {key: value if isinstance(value, dict) else {"": value} for key, value in kept.items()}
    found = {f"{key}.{name}".rstrip("."): value for key, part in parts.items() for name, value in part.items()}
    return {key: value for key, value in found.items() if value is not None}


def _names(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Return for each the values that differ between them; "" if there are none, too many, or some that read alike."""
    keys = dict.fromkeys(key for each in settings for key in each)
    telling = [key for key in keys if any(each.get(key) != settings[0].get(key) for each in settings)]
    if not 0 < len(telling) <= _MANY or not all(settings):
        return [""] * len(settings)
    names = [", ".join(f"{key}={each.get(key)}" for key in telling) for each in settings]
    return names if len(set(names)) == len(names) else [""] * len(names)


def _apart(folders: Sequence[Path]) -> dict[str, list[Path]]:
    """Name each run by the part of its path that differs from the others."""
    shared = Path(os.path.commonpath([folder.resolve().parent for folder in folders]))
    return {str(folder.resolve().relative_to(shared)): [folder] for folder in folders}
