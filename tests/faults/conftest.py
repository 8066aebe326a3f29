import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = ["harness.py", "mutations.py"]  # the doctest collector would import them a second time


@pytest.fixture
def tried(record_property):
    """`tried(n)` counts n more faults injected; `make faults` adds them up. A test that does not call it tries one."""
    count = 0

    def add(number=1):
        nonlocal count
        count += number
        record_property("tried", count)

    return add
