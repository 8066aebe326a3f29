import numpy as np
import pytest
from torch import nn

from torch_es import OpenAIES, SearchGradient
from torch_es.errors import NonFiniteError
from torch_es.search.openai_es import search_gradient
from torch_es.search.rule import kept_pairs, spread, sums_for
from torch_es.search.shaping import SHAPINGS


@pytest.mark.parametrize("name", SHAPINGS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_return_is_never_best(name, bad):
    fitness = np.array([[1.0, bad], [3.0, 2.0], [0.0, 5.0]])
    kept = kept_pairs(fitness, "drop")
    assert kept.tolist() == [False, True, True]
    plan = search_gradient(fitness[kept], SHAPINGS[name])
    asked = []
    sums_for(plan, kept, None, lambda noise, linear, squared: asked.append((linear, squared)))
    ((linear, squared),) = asked
    assert squared is None
    assert linear[0] == 0
    weights = SHAPINGS[name](fitness[1:])
    np.testing.assert_array_equal(linear[1:], weights[:, 0] - weights[:, 1])


def test_all_non_finite_raises():
    with pytest.raises(NonFiniteError, match="1 of 1 pairs"):
        kept_pairs(np.array([[np.nan, 1.0]]), "drop")


def test_coefficients_of_members_are_spread_by_pairs():
    whole = spread(np.array([[1.0, 2.0]]), np.array([False, True]))
    np.testing.assert_array_equal(whole, [[0, 0], [1, 2]])


@pytest.mark.parametrize("rank", [None, 1])
def test_coefficients_beyond_float32_are_refused(rank):
    strategy = OpenAIES(nn.Linear(8, 4), shaping="identity", num_pairs=2, rank=rank)
    with pytest.raises(NonFiniteError, match="The gradient is not finite; scale the returns down"):
        strategy.tell([1e39, 0.0, 1.0, 2.0])
    with pytest.raises(NonFiniteError, match="The gradient is not finite; scale the returns down"):
        SearchGradient(nn.Linear(8, 4), shaping="identity", rank=rank).backward(lambda m: 1e39 * float(m.bias[0]))
