import pytest
import torch

from torch_es.nn import HardAttention, hard_attention


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_attention_takes_the_value_of_the_best_key():
    query, key, value = randn(2, 3, 4), randn(2, 5, 4, seed=1), randn(2, 5, 6, seed=2)
    got = hard_attention(query, key, value)
    for b in range(2):
        for q in range(3):
            best = max(range(5), key=lambda p, b=b, q=q: float(query[b, q] @ key[b, p]))
            assert torch.equal(got[b, q], value[b, best])


@pytest.mark.parametrize("argument", ["inputs", "size", "outputs"])
def test_attention_refuses_empty_sizes(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be at least 1, got 0"):
        HardAttention(**{"inputs": 2, "size": 2, "outputs": 2, argument: 0})
