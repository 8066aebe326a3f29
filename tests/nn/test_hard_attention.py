import pytest
import torch

from torch_es.nn import HardAttention


def test_attention_takes_the_value_of_the_best_key():
    torch.manual_seed(0)
    layer, x = HardAttention(3, 4, 6).requires_grad_(False), torch.randn(2, 5, 3)
    query, key, value, got = layer.query(x), layer.key(x), layer.value(x), layer(x)
    for b in range(2):
        for q in range(5):
            best = max(range(5), key=lambda p, b=b, q=q: float(query[b, q] @ key[b, p]))
            assert torch.equal(got[b, q], value[b, best])


@pytest.mark.parametrize("argument", ["inputs", "size", "outputs"])
def test_attention_refuses_empty_sizes(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be at least 1, got 0"):
        HardAttention(**{"inputs": 2, "size": 2, "outputs": 2, argument: 0})
