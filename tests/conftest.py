import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _seeded():
    """Initial weights of torch's own modules are the same in every run."""
    torch.manual_seed(0)
