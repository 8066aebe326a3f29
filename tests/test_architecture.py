"""The floors of the design: a module imports only from floors below its own."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "torch_es"
FLOORS = [
    {"appending", "checks", "machine", "types"},
    {"errors", "seeding"},
    {"loggers", "progress", "plotting", "video", "resources", "atari", "mujoco", "adapters"},
    {"study", "noise", "shaping", "moments", "checkpoint", "parameters", "episodes"},
    {"gradient", "nn", "envs", "generation", "options", "replay_log"},
    {"strategy", "policies", "run_folder"},
    {"rollout", "env_check", "hub", "split_half"},
    {"evaluators"},
    {"trainer", "signals"},
    {"recording", "replay", "report"},
    {"es"},
    {"config", "sb3"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def unit(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_units(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch_es"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("torch_es.")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = unit(path)
    for other in imported_units(path):
        assert other == own or FLOOR[other] < FLOOR[own], f"{own} (floor {FLOOR[own]}) imports {other} ({FLOOR[other]})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_sizes_and_local_imports(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, f"{node.name} is long"
            for inner in ast.walk(node):
                names = [inner.module or ""] if isinstance(inner, ast.ImportFrom) else []
                names += [a.name for a in inner.names] if isinstance(inner, ast.Import) else []
                assert not any(n.startswith("torch_es") for n in names), f"{node.name} imports torch_es"


def test_only_config_and_cli_know_hydra():
    knowing = {unit(p) for p in FILES if "hydra" in {n.split(".")[0] for n in _roots(p)}}
    assert knowing == {"config", "cli"}


def _roots(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
