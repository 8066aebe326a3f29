import signal
import sys
from pathlib import Path

import cloudpickle
import pytest
import torch

from torch_es.evaluators import SerialEvaluator
from torch_es.evaluators.pickling import dumps

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)  # as in a worker; small tensors are slower with more


@pytest.fixture(autouse=True, scope="session")
def _interruptible():
    """Ctrl-C as a terminal has it, also where the tests run in the background, which ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded():
    """Initial weights of torch's own modules are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture
def no_workers(monkeypatch):
    """Play in this process what would be sent to workers, after it went through what it would be sent by."""

    def sent(player_factory, *_, **__):
        return SerialEvaluator(cloudpickle.loads(dumps(player_factory)))

    monkeypatch.setattr("torch_es.evaluators.choice.ProcessEvaluator", sent)
