import numpy as np
import pytest
import torch
from scipy_free import ks_distance

from torch_es.search.noise import quantiles, resolve_generator
from torch_es.search.perturbation import NOISES

DIM = 200_000


def draw(kind, seed=0, dim=DIM, generation=0, pair=0):
    out = torch.empty(1, dim)
    NOISES[kind](seed, dim).fill(out, generation, [pair])
    return out[0].numpy()


def test_the_table_is_symmetric_with_variance_one():
    table = quantiles().astype(np.float64)
    np.testing.assert_array_equal(table, -table[::-1])
    assert np.mean(table**2) == pytest.approx(1, abs=1e-6)
    assert 4.1 < table.max() < 4.4


@pytest.mark.parametrize("kind", NOISES)
def test_the_law_is_the_standard_normal(kind):
    z = draw(kind).astype(np.float64)
    n = len(z)
    assert abs(z.mean()) < 5 / np.sqrt(n)
    assert abs(z.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert ks_distance(z) < 1.95 / np.sqrt(n)  # the one-in-a-thousand point of Kolmogorov's law
    assert abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("other", [{"seed": 1}, {"generation": 1}, {"pair": 1}, {"seed": 2**32}, {"seed": 2**63 - 1}])
def test_streams_are_independent(kind, other):
    a, b = draw(kind), draw(kind, **other)
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / np.sqrt(len(a))


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize(("start", "size"), [(0, 70_000), (32_768, 32_768), (5, 3), (40_001, 29_999), (16, 16)])
def test_any_part_of_the_vector_can_be_drawn_by_itself_for_several_pairs(kind, start, size):
    noise, pairs = NOISES[kind](3, 70_000), [4, 0, 2**40]
    part = torch.empty(3, size)
    noise.fill(part, 7, pairs, start)
    for row, pair in zip(part, pairs, strict=True):
        np.testing.assert_array_equal(row, draw(kind, 3, 70_000, 7, pair)[start : start + size])


@pytest.mark.parametrize("kind", NOISES)
def test_no_global_state_is_touched(kind):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - it is the global state that is looked at
    torch_before = torch.get_rng_state()
    draw(kind)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.get_rng_state().equal(torch_before)


def test_where_the_parameters_are_decides_unless_the_user_does():
    assert [resolve_generator(None, on_cpu) for on_cpu in (True, False)] == ["sfc64", "philox"]
    assert resolve_generator("philox", True) == "philox"
    with pytest.raises(ValueError, match="`noise` must be philox for parameters that are not on the CPU, got sfc64"):
        resolve_generator("sfc64", False)
    with pytest.raises(ValueError, match="`noise` must be one of philox, sfc64; got 'pcg'"):
        resolve_generator("pcg", True)
