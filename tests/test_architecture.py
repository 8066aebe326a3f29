"""The rooms, from the top down: a room imports only from rooms further down; see docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "torch_es"
ROOMS = [
    "__main__",
    "cli",
    "hub",
    "sb3",
    "adapters",
    "report",
    "es",
    "training",
    "runs",
    "evaluators",
    "rollout",
    "lanes",
    "policies",
    "heads",
    "envs",
    "spaces",
    "nn",
    "search",
    "loggers",
    "seeding",
    "errors",
    "types",
    "checks",
]
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
CONFIGURATION = {"hydra", "omegaconf"}  # only the command line knows these


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree):
    """Yield every module that a file imports: by a statement, or by a name in a string that it hands to a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [alias.name for alias in node.names]
        elif isinstance(node, ast.Call):  # importlib.import_module("torch_es.hub")
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            yield from [name for name in names if name.startswith("torch_es.") or name in CONFIGURATION]


def test_every_room_is_in_the_table():
    assert {room(path) for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = room(path)
    below = {own, *ROOMS[ROOMS.index(own) + 1 :]}
    used = {name.split(".")[1] for name in imports(ast.parse(path.read_text())) if name.startswith("torch_es.")}
    assert used <= below, f"{own} imports {used - below}, which are above it"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sizes_and_local_imports(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is long"
            assert not [name for name in imports(node) if name.startswith("torch_es.")], f"{node.name} imports torch_es"


def test_only_the_command_line_knows_the_configuration():
    knowing = {
        room(path)
        for path in FILES
        if CONFIGURATION & {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    }
    assert knowing == {"cli"}


def test_a_program_loads_no_configuration_and_no_dashboard():
    """What a library user imports; also what a file imports by a way that no reading of it shows."""
    code = "import sys, torch_es, torch_es.report; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"hydra", "omegaconf", "wandb", "tensorboard", "optuna", "stable_baselines3"} & set(loaded)
