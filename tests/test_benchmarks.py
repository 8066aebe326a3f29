"""Every benchmark can at least be started: all that it imports is there."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))


@pytest.mark.parametrize("name", sorted(path.stem for path in BENCHMARKS.glob("*.py")))
def test_a_benchmark_can_be_imported(name):
    module = importlib.import_module(name)
    assert Path(module.__file__).parent == BENCHMARKS
    assert module.__doc__
