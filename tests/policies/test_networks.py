import pytest
import torch

from torch_es.nn import collect_statistics, virtual_batch_norms
from torch_es.policies import atari_cnn, mlp


def test_mlp_is_seeded_and_leaves_the_global_state():
    state = torch.get_rng_state()
    a, b, c = mlp(3, 2, seed=1), mlp(3, 2, seed=1), mlp(3, 2, seed=2)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a[1].weight, b[1].weight)
    assert not torch.equal(a[1].weight, c[1].weight)
    assert torch.allclose(a[1].weight.norm(dim=1), torch.ones(64))
    assert torch.allclose(a[5].weight.norm(dim=1), torch.full((2,), 0.01))


def test_the_network_is_that_of_the_paper():
    network = atari_cnn((4, 84, 84), 6, output_scale=1.0, seed=3)
    pictures = torch.randint(0, 256, (5, 4, 84, 84), generator=torch.Generator().manual_seed(0)).float()
    weights = dict(network.named_parameters())
    assert [tuple(p.shape) for n, p in weights.items() if p.dim() > 1] == [
        (16, 4, 8, 8),
        (32, 16, 4, 4),
        (256, 32 * 9 * 9),
        (6, 256),
    ]
    collect_statistics(network, pictures)
    convolved, dense = torch.nn.functional.conv2d, torch.nn.functional.linear

    def normalised(x, dims):  # over the reference batch, which is this batch
        return torch.relu((x - x.mean(dims, keepdim=True)) / (x.var(dims, correction=0, keepdim=True) + 1e-3).sqrt())

    x = normalised(convolved(pictures / 255, weights["1.weight"], stride=4), (0, 2, 3))
    x = normalised(convolved(x, weights["4.weight"], stride=2), (0, 2, 3))
    x = normalised(dense(x.flatten(1), weights["8.weight"]), 0)
    torch.testing.assert_close(network(pictures), dense(x, weights["11.weight"]), rtol=1e-4, atol=1e-4)


def test_the_network_follows_its_arguments():
    first, second = atari_cnn((4, 84, 84), 6), atari_cnn((4, 84, 84), 6, batch_norm=False)
    assert len(virtual_batch_norms(first)) == 3
    assert not virtual_batch_norms(second)
    assert torch.equal(first[1].weight, second[1].weight)
    assert not torch.equal(first[1].weight, atari_cnn((4, 84, 84), 6, seed=1)[1].weight)
    assert atari_cnn((2, 42, 60), 6, batch_norm=False)(torch.zeros(3, 2, 42, 60)).shape == (3, 6)
    with pytest.raises(ValueError, match=r"`observation_shape` must be \(frames, size, size\).* got \(17,\)"):
        atari_cnn((17,), 6)
    small = atari_cnn((2, 42, 42), 6, channels=(8, 12), hidden=16, batch_norm=False)
    assert [tuple(p.shape) for p in small.parameters() if p.ndim > 1] == [
        (8, 2, 8, 8), (12, 8, 4, 4), (16, 108), (6, 16),
    ]  # fmt: skip
    assert small(torch.zeros(3, 2, 42, 42)).shape == (3, 6)
    for channels, got in (((8,), r"\(8,\)"), (8, r"8\.")):
        with pytest.raises(ValueError, match=rf"`channels` must be of two convolutions, as \(16, 32\), got {got}"):
            atari_cnn((2, 42, 42), 6, channels=channels)
    with pytest.raises(ValueError, match="`hidden` must be at least 1, got 0"):
        atari_cnn((2, 42, 42), 6, hidden=0)
