import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from torch_es.search.shaping import SHAPINGS, centered_ranks, nes_utilities, resolve, sign, z_score

populations = arrays(np.float64, st.tuples(st.integers(1, 8), st.just(2)), elements=st.floats(-1e6, 1e6))


@given(populations)
def test_centered_ranks_sum_to_zero_and_ties_share(returns):
    weights = centered_ranks(returns)
    assert abs(weights.sum()) < 1e-9
    for value in np.unique(returns):
        assert len(np.unique(weights[returns == value])) == 1
    assert weights.ravel()[returns.argmax()] == weights.max()


@pytest.mark.parametrize("name", sorted(set(SHAPINGS) - {"identity"}))
@given(value=st.floats(-1e300, 1e300), pairs=st.integers(1, 5))
def test_a_constant_population_weighs_exactly_nothing(name, value, pairs):
    assert not SHAPINGS[name](np.full((pairs, 2), value)).any()


@pytest.mark.parametrize("name", SHAPINGS)
@given(returns=populations, data=st.data())
def test_the_order_of_the_pairs_does_not_matter(name, returns, data):
    order = data.draw(st.permutations(range(len(returns))))
    np.testing.assert_allclose(SHAPINGS[name](returns[order]), SHAPINGS[name](returns)[order], atol=1e-9)


@pytest.mark.parametrize("name", SHAPINGS)
@given(returns=populations)
def test_returns_are_not_changed(name, returns):
    before = returns.copy()
    SHAPINGS[name](returns)
    np.testing.assert_array_equal(returns, before)


def test_nes_utilities_are_the_papers():
    # golden: Wierstra et al. 2014, u_i = max(0, log(n/2+1) - log i) / sum - 1/n for n = 4, worked out by hand:
    # log 3 = 1.098612, log 3 - log 2 = 0.405465, sum 1.504077
    expected = np.array([[1.098612 / 1.504077, 0.405465 / 1.504077], [0, 0]]) - 0.25
    np.testing.assert_allclose(nes_utilities(np.array([[9.0, 5.0], [2.0, 1.0]])), expected, atol=1e-6)


def test_huge_returns_stay_finite():
    assert np.isfinite(z_score(np.array([[1e300, -1e300], [1.0, 2.0]]))).all()


def test_resolve_takes_names_and_functions():
    assert resolve("sign") is sign
    returns = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert (resolve(np.negative)(returns) == -returns).all()
    for poor in (lambda returns: None, lambda returns: returns[:1], np.sum):
        with pytest.raises(ValueError, match=r"`shaping` must return weights of shape \(2, 2\), got \("):
            resolve(poor)(returns)
    with pytest.raises(
        ValueError, match=r"`shaping` must be one of .*got 'centred_rank'. Did you mean `centered_ranks`"
    ):
        resolve("centred_rank")
