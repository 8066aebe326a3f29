"""One small run, made once for all tests of the command."""

import pytest
from command import SMALL_RUN, torch_es_process


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("cli")
    done = torch_es_process(*SMALL_RUN, "evaluator.num_workers=1", "total_timesteps=300", "run_dir=r", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "r", done
