"""The rooms, from the top down: a room imports only from rooms further down; see docs/architecture.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "torch_es"
ROOMS = [
    "__main__",
    "trainers",
    "cli",
    "hub",
    "sb3",
    "adapters",
    "report",
    "es",
    "training",
    "cluster",
    "runs",
    "evaluators",
    "rollout",
    "lanes",
    "policies",
    "heads",
    "envs",
    "nn",
    "spaces",
    "search",
    "loggers",
    "seeding",
    "errors",
    "types",
    "checks",
]
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
TESTS = Path(__file__).parent
NO_ROOM = {"faults"}  # folders of tests that follow a fault through all rooms
COVERED = {  # modules without a test file of their own, and the one that would turn red
    "__main__": "cli/test_cli.py",
    "cluster/actor": "cluster/test_driver.py",
    "cluster/messages": "cluster/test_driver.py",
    "cluster/node": "faults/test_fault_cluster.py",
    "cli/check_env": "faults/test_fault_environments.py",
    "cli/export": "faults/test_fault_leaving.py",
    "cli/plot": "cli/test_playing.py",
    "cli/push": "faults/test_fault_leaving.py",
    "cli/replay": "faults/test_fault_replay.py",
    "cli/report": "report/test_page.py",
    "cli/run_log": "faults/test_fault_logging.py",
    "cli/run": "cli/test_train.py",
    "cli/wandb_replay": "loggers/test_wandb.py",
    "envs/check": "faults/test_fault_environments.py",
    "errors": "faults/test_fault_workers.py",
    "evaluators/worker": "faults/test_fault_workers.py",
    "lanes/chain": "lanes/test_matmul.py",
    "lanes/shared": "lanes/test_factored.py",
    "lanes/trials": "lanes/test_choice.py",
    "lanes/each": "lanes/test_together.py",
    "lanes/interception": "lanes/test_together.py",
    "lanes/pointwise": "lanes/test_together.py",
    "lanes/products": "lanes/test_together.py",
    "policies/onnx_file": "policies/test_export.py",
    "policies/reference": "nn/test_virtual_batch_norm.py",
    "report/evidence": "report/test_page.py",
    "report/pictures": "report/test_page.py",
    "rollout/normalizer": "rollout/test_episodes.py",
    "runs/options": "faults/test_fault_resume.py",
    "runs/replay_log": "faults/test_fault_replay.py",
    "search/action_space": "rollout/test_score.py",
    "search/optimizers": "search/test_centre.py",
    "training/replay": "faults/test_fault_replay.py",
    "evaluators/choice": "test_es.py",
    "rollout/player": "rollout/test_episodes.py",
    "sb3/actor": "sb3/test_arguments.py",
    "types": "evaluators/test_wire.py",
}
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


def module_of(test):
    """The module that a test file names: `search/ars` by search/test_ars.py, the room by search/test_search.py."""
    folder, name = test.parent.relative_to(TESTS), test.stem.removeprefix("test_")
    return str(folder if name == folder.name else folder / name)


def test_tests_stand_where_their_modules_do():
    modules = {str(path.relative_to(PACKAGE).with_suffix("")).removesuffix("/__init__") for path in FILES}
    tests = [path for path in TESTS.glob("*/**/test_*.py") if path.relative_to(TESTS).parts[0] not in NO_ROOM]
    assert {module_of(path) for path in tests} <= modules
    tested = {module_of(path) for path in TESTS.rglob("test_*.py")}
    protocols = {name for name in modules if name.endswith("/protocol")}  # which the contract of its room tests
    rooms = {str(path.parent.relative_to(PACKAGE)) for path in FILES if path.name == "__init__.py"}
    assert modules - tested - protocols - rooms == set(COVERED)
    assert all((TESTS / test).is_file() for test in COVERED.values())
