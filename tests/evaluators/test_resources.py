"""How many workers there are by default: a container has less than its machine."""

import pytest

from torch_es.errors import ResourceError
from torch_es.evaluators import resources
from torch_es.evaluators.resources import default_num_workers


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 cores whose control groups are files in a folder."""
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(resources, "_CGROUPS", tmp_path)
    monkeypatch.delenv("PYTHON_CPU_COUNT", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "text", "workers"),
    [
        ("cpu.max", "200000 100000", 2),
        ("cpu.max", "150000 100000", 2),
        ("cpu.max", "1000 100000", 1),
        ("cpu.max", "max 100000", 64),
        ("cpu/cpu.cfs_quota_us", "300000", 3),
        ("cpu/cpu.cfs_quota_us", "-1", 64),
    ],
)
def test_a_quota_is_seen(machine, file, text, workers):
    (machine / "cpu").mkdir()
    (machine / "cpu" / "cpu.cfs_period_us").write_text("100000")
    (machine / file).write_text(text)
    assert default_num_workers() == workers


def test_the_quota_of_a_group_above_is_seen(machine, monkeypatch):
    own = machine / "slurm" / "job_7"
    own.mkdir(parents=True)
    (own.parent / "cpu.max").write_text("400000 100000")
    (own / "cpu.max").write_text("max 100000")
    (machine / "cgroup").write_text("0::/slurm/job_7\n")
    monkeypatch.setattr(resources, "_OWN_GROUPS", machine / "cgroup")
    assert default_num_workers() == 4


@pytest.mark.parametrize(("told", "workers"), [("3", 3), ("100", 64), ("", 64), ("default", 64)])
def test_python_s_own_variable_is_heeded(machine, monkeypatch, told, workers):
    monkeypatch.setenv("PYTHON_CPU_COUNT", told)
    assert default_num_workers() == workers


def test_python_and_torch_need_descriptors_too(monkeypatch):
    monkeypatch.setattr(resources.resource, "getrlimit", lambda _: (100, 100))
    resources.check_descriptors(60)
    with pytest.raises(ResourceError, match="The workers need 112 open files, the limit is 100"):
        resources.check_descriptors(80)
