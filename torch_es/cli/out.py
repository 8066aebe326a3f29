"""The file that a command about a run writes."""

from __future__ import annotations

import argparse
from pathlib import Path

from torch_es.runs.folder import check_folder, make_folder


def add_out(parser: argparse.ArgumentParser, name: str, of: str = "the run's") -> None:
    """Add the option that names the file."""
    parser.add_argument("--out", type=Path, help=f"by default {name} in {of} folder")


def out_file(out: Path | None, run: Path, name: str) -> Path:
    """Return the file to write, after a check that it can be written; the folder of `--out` is made.

    Raises:
        ValueError: If it is a folder.
        ResourceError: If its folder cannot be made or written to.

    Example:
        >>> import tempfile
        >>> out_file(None, Path(tempfile.mkdtemp()), "curve.png").name
        'curve.png'
    """
    path = out or run / name
    if path.is_dir():
        raise ValueError(f"`--out` must be a file, and `{path}` is a folder; name a file in it.")
    if out is not None:
        make_folder(path.parent)
    elif run.is_dir():  # what is no run is refused by who reads it
        check_folder(run, 0)
    return path
