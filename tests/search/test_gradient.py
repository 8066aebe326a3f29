import numpy as np
import pytest

from torch_es.errors import NonFiniteError
from torch_es.search.gradient import as_returns, serial_noise_sum, shaped_weights
from torch_es.search.noise import Noise
from torch_es.search.shaping import SHAPINGS, identity


def test_both_sums_are_what_they_say():
    noise = Noise(3, 10)
    eps = np.empty((2, 10), np.float32)
    for pair in range(2):
        noise.fill(eps[pair], 4, pair)
    linear, squared = serial_noise_sum(noise)(4, np.array([2.0, -1.0]), np.array([0.5, 0.0]))
    np.testing.assert_allclose(linear, 2 * eps[0] - eps[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(squared, 0.5 * eps[0] ** 2, rtol=1e-5)


@pytest.mark.parametrize("name", SHAPINGS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_return_is_never_best(name, bad):
    returns = np.array([[1.0, bad], [3.0, 2.0], [0.0, 5.0]])
    weights, kept = shaped_weights(returns, SHAPINGS[name], "drop")
    assert kept.tolist() == [False, True, True]
    assert (weights[0] == 0).all()
    np.testing.assert_array_equal(weights[1:], SHAPINGS[name](returns[1:]))


def test_all_non_finite_raises():
    with pytest.raises(NonFiniteError, match="1 of 1 pairs"):
        shaped_weights(np.array([[np.nan, 1.0]]), identity, "drop")


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 2)])
def test_returns_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"`returns` must have shape \(num_pairs, 2\)"):
        as_returns(np.zeros(shape))
