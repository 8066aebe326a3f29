"""A module on another device than the CPU. There is none here, so torch is given one; see `other_device.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "on_other_device.py"


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "es"
    run = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "case",
    ["dense", "rank 1", "pgpe", "groups", "generate", "own loop", "ars", "gradient", "gradient of rank 1", "resumed",
     "bfloat16"],
)  # fmt: skip
def test_a_run_has_the_bits_of_one_on_the_cpu(told, case):
    assert told["differ"][case] == 0


def test_what_needs_the_cpu_says_so(told):
    assert "`0.weight` must be on the CPU, where the workers play, got other:0" in told["refused"]["env"]
    assert "`noise` must be philox for parameters that are not on the CPU" in told["refused"]["sfc64"]
