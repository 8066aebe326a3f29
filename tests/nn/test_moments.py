import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from torch_es.nn.moments import Moments

samples = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(-1e3, 1e3))


def close(a, b):
    np.testing.assert_allclose([a.count, *a.mean, *a.m2], [b.count, *b.mean, *b.m2], rtol=1e-9, atol=1e-6)


@given(samples, samples)
def test_merge_is_the_moments_of_both(a, b):
    close(Moments.of(a).merge(Moments.of(b)), Moments.of(np.concatenate((a, b))))


@given(samples, arrays(np.float64, 3, elements=st.floats(-10, 10)))
def test_the_sums_of_an_episode_give_its_moments(a, origin):
    sums = np.concatenate(((a - origin).sum(0), ((a - origin) ** 2).sum(0)))
    close(Moments.of_episodes(np.array([len(a)]), sums[None], origin), Moments.of(a))


def test_nothing_merged_changes_nothing():
    zero = Moments.zero(2)
    assert zero.merge(Moments.zero(2)).count == 0
    assert (zero.std(0.1) == 1).all()


def test_a_shift_after_a_billion_samples_still_moves_the_mean():
    old = Moments(1e9, np.zeros(1), np.full(1, 1e9))
    assert old.merge(Moments.of(np.full((1000, 1), 10.0))).mean[0] > 9e-6


def test_std_has_a_floor():
    assert Moments.of(np.ones((5, 1))).std(0.1)[0] == 0.1


def test_equal_observations_have_no_negative_variance():
    # three times 0.1, as sums of float64
    moments = Moments.of_episodes(np.array([3]), np.array([[0.1 + 0.1 + 0.1, 3 * 0.1**2 - 1e-17]]), np.zeros(1))
    assert moments.m2[0] >= 0
    assert moments.std(0.1)[0] == 0.1
