"""Every code block of the README and of docs/, run: Python as it stands with fewer steps, commands likewise."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import torch_es

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import tables  # noqa: E402

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SMALL = ["total_timesteps=2000", "strategy.num_pairs=4", "video=false", "evaluator.num_workers=0", "final_episodes=1"]


def blocks(language):
    found = []
    for page in PAGES:
        for i, (kind, body) in enumerate(re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S)):
            if kind == language:
                # commands start processes; those of the README are run each time
                marks = [pytest.mark.slow] * (kind == "bash" and page != PAGES[0])
                found.append(pytest.param(page, body, id=f"{page.stem}-{i}", marks=marks))
    return found


def test_tables_are_those_measured():
    written = [page.read_text() for page in tables.PAGES]
    assert all("| **" in text for text in written)
    assert [tables.filled(text) for text in written] == written


def test_make_help_lists_every_target():
    words = ["make", "--no-print-directory", "help"]  # of which a make that runs the tests would have it print more
    listed = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    targets = re.search(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert [line.split()[0] for line in listed.splitlines()] == targets


def test_blocks_are_of_known_kinds():
    kinds = {kind for page in PAGES for kind in re.findall(r"^```(\w+)", page.read_text(), re.M)}
    assert kinds <= {"python", "bash", "text", "yaml"}
    assert blocks("python")
    assert blocks("bash")


@pytest.mark.parametrize(("page", "body"), blocks("python"))
def test_python_runs(page, body, tmp_path, monkeypatch, no_workers):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo").symlink_to(ROOT / "zoo")
    body = re.sub(r"(?<=total_timesteps=)[\d_]+", lambda given: str(min(int(given[0]), 500)), body)
    body = re.sub(r"num_pairs=\d+", "num_pairs=2", body)
    names = {"__name__": "__main__"}
    try:
        exec(compile(body, str(page), "exec"), names)
    finally:
        if "es" in names and hasattr(names["es"], "close"):
            names["es"].close()


@pytest.mark.parametrize(("page", "body"), blocks("bash"))
def test_commands_run(page, body, tmp_path):
    """Commands that need a network or take long are checked as far as they can be; all others run."""
    for line in body.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            check(words, tmp_path)


def check(words, folder):
    if words[0] == "make":
        targets = [w for w in words[1:] if "=" not in w]
        subprocess.run(["make", "-n", *targets], cwd=ROOT, check=True, capture_output=True)
    elif words[0] in ("git", "cd", "pip", "source", "tensorboard", "wandb"):
        assert shutil.which(words[0]) or words[0] in ("cd", "source", "wandb")
    elif words[0] == "python" and words[1].startswith(("examples/", "benchmarks/")):
        assert (ROOT / words[1]).is_file()  # examples are run by test_examples.py
    else:
        assert words[0] == "torch-es", words
        arguments = [re.sub("^zoo/", f"{ROOT}/zoo/", w.replace("RUN", "first")) for w in words[1:]]
        if not arguments or arguments[0] in ("train", "--multirun", "sweep") or "=" in arguments[0]:
            arguments = shrunk(arguments)
        if {"first", "resume=first"} & set(arguments) and not (folder / "first").exists():
            succeed(["env=cartpole", *SMALL, "run_dir=first"], folder)
        succeed(arguments, folder)


def shrunk(arguments):
    """The same run with few steps; a resumed one goes on for a few more."""
    kept = [a for a in arguments if not a.startswith("total_timesteps")]
    if "resume=auto" in kept:
        return [*kept, *SMALL, "total_timesteps=3000"]
    if any(a.startswith("resume=") for a in kept):
        return [*kept, "total_timesteps=3000"]
    return [*kept, *SMALL]


def succeed(arguments, cwd):
    done = torch_es(*arguments, cwd=cwd)
    assert done.returncode == 0, f"torch-es {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
