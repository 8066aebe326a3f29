"""The Hebbian layer against its rule, written out weight by weight."""

import math

import pytest
import torch

from torch_es.nn import HebbianLinear


@pytest.mark.parametrize("rate", [0.05, 5.0])  # the larger one reaches the bound of 1
@torch.no_grad()
def test_weights_change_by_the_rule(rate):
    layer = HebbianLinear(3, 2)
    layer.rate.mul_(rate / layer.rate.abs().max())
    (a, b, c, d), rates = layer.rule.tolist(), layer.rate.tolist()
    inputs = torch.randn(4, 2, 3)
    weight, bounded = layer.initial_state(2), False
    expected = [[[0.0] * 3 for _ in range(2)] for _ in range(2)]
    for x in inputs:
        y, weight = layer(x, weight)
        for n in range(2):
            old = expected[n]
            out = [math.tanh(sum(old[o][i] * x[n, i].item() for i in range(3))) for o in range(2)]
            torch.testing.assert_close(y[n], torch.tensor(out), rtol=1e-4, atol=1e-5)
            for o in range(2):
                for i in range(3):
                    before = x[n, i].item()
                    change = a[o][i] * before * out[o] + b[o][i] * before + c[o][i] * out[o] + d[o][i]
                    old[o][i] += rates[o][i] * change
            largest = max(abs(w) for row in old for w in row)
            bounded |= largest > 1
            expected[n] = [[w / max(largest, 1) for w in row] for row in old]
    torch.testing.assert_close(weight, torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert bounded == (rate > 1)


@pytest.mark.parametrize("argument", ["inputs", "outputs"])
def test_refuses_empty_sizes(argument):
    with pytest.raises(ValueError, match=f"`{argument}` must be at least 1, got 0"):
        HebbianLinear(**{"inputs": 2, "outputs": 2, argument: 0})
