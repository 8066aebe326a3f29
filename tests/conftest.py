import signal
import sys
import tempfile
from pathlib import Path

import cloudpickle
import pytest
import torch
from filelock import FileLock

from torch_es.evaluators import SerialEvaluator

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = ["helpers.py", "machines.py", "scipy_free.py"]  # the doctest collector would import them a second time
torch.set_num_threads(1)  # as in a worker; small tensors are slower with more


def pytest_ignore_collect(collection_path):
    """Look for doctests in the package alone: what tests share is imported by them, and would be a second time."""
    shared = collection_path.suffix == ".py" and collection_path.is_relative_to(Path(__file__).parent)
    return True if shared and not collection_path.name.startswith(("test_", "conftest")) else None


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Ctrl-C as a terminal has it, also where the tests run in the background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    """Initial weights of torch's own modules are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def machines():
    """A Ray cluster with one node; no other test process has one at the same time, since they share the addresses."""
    from machines import Machines

    with FileLock(Path(tempfile.gettempdir()) / "torch-es-machines.lock"):
        stop = signal.getsignal(signal.SIGTERM)
        found = Machines(nodes=1)
        yield found
        found.close()
        signal.signal(signal.SIGTERM, stop)  # Ray has set its own


@pytest.fixture
def no_workers(monkeypatch):
    """Play in this process what would be sent to workers, after it went through what it would be sent by."""

    def sent(objective, *_, **__):
        return SerialEvaluator(cloudpickle.loads(cloudpickle.dumps(objective)))

    monkeypatch.setattr("torch_es.evaluators.choice.ProcessEvaluator", sent)
