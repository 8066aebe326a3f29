import math
from types import SimpleNamespace

import pytest

from torch_es.cluster import RayEvaluator, driver
from torch_es.errors import WorkerError


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_workers": 0}, "`num_workers` must be at least 1, got 0"),
        ({"node_timeout": 0}, "`node_timeout` must be positive, got 0"),
        ({"silence": -1.0}, "`silence` must be positive, got -1.0"),
        ({"other_processors": "ignore"}, "`other_processors` must be one of refuse, warn; got 'ignore'"),
        ({"tolerance": 3}, "`tolerance` must be of type FaultTolerance, got 3"),
    ],
)
def test_a_bad_option_is_named(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        RayEvaluator(**options)


@pytest.mark.parametrize("address", [None, "auto", "127.0.0.2:6379", "ray://host:10001"])
def test_another_cluster_than_the_joined_one_is_refused(address, monkeypatch):
    joined = SimpleNamespace(gcs_address="127.0.0.2:6379")
    monkeypatch.setattr(driver.ray, "is_initialized", lambda: True)
    monkeypatch.setattr(driver.ray, "get_runtime_context", lambda: joined)
    monkeypatch.setattr(driver, "_joined", "ray://host:10001")  # through an evaluator before
    driver.join(RayEvaluator(address=address))
    with pytest.raises(
        ValueError, match=r"`address` must be left out .* at 127\.0\.0\.2:6379, got 10\.255\.255\.1:6379"
    ):
        driver.join(RayEvaluator(address="10.255.255.1:6379"))


def test_a_ray_that_was_shut_down_is_told_and_left(monkeypatch):
    left = object.__new__(driver.ClusterEvaluator)
    left._number, left._starting, left._options = 0, [], RayEvaluator()
    gone = SimpleNamespace(greeting=True, stop=lambda: math.sqrt(-1), kill=lambda: math.sqrt(-1))
    left._nodes = [gone]
    monkeypatch.setattr(driver.ray, "is_initialized", lambda: False)
    with pytest.raises(WorkerError, match=r"Ray was shut down .*`close\(\)` before `ray\.shutdown\(\)`"):
        left._post(None)
    monkeypatch.setattr(driver.ray, "is_initialized", lambda: True)  # another one
    left.close()
