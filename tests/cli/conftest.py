"""One small run, made once for all tests of the command."""

import pytest
from helpers import SMALL_RUN, torch_es


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("cli")
    done = torch_es(*SMALL_RUN, "total_timesteps=300", "run_dir=r", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "r", done
