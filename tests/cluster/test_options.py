import pytest

from torch_es.cluster import RayEvaluator


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
