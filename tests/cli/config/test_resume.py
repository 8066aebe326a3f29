"""The config of a run folder, and the folder that a command goes on with."""

import pytest

from torch_es.cli import config


def test_an_existing_run_folder_is_refused(tmp_path):
    config.check_free(tmp_path / "new")
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ValueError, match="exists; name another, or continue it with"):
        config.check_free(tmp_path)
