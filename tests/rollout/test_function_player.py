import pytest
import torch

from torch_es import ES
from torch_es.errors import WorkerError
from torch_es.rollout import FunctionPlayer, Snapshot
from torch_es.search import Mirrored
from torch_es.search.low_rank import LowRank, factored
from torch_es.search.parameters import FlatParameters
from torch_es.types import Task


def test_buffers_are_fresh_for_each_member_of_a_function():
    class Counting(torch.nn.Linear):
        def __init__(self):
            super().__init__(1, 1)
            self.register_buffer("calls", torch.zeros(()))

    def fitness(module):
        assert not module.training
        module.calls += 1
        return float(module.calls)

    player = FunctionPlayer(Counting(), fitness)
    player.begin(Snapshot(torch.zeros(2), Mirrored(0, 0, 2, 0.1)))
    for member in (0, 1):
        player.submit(Task(0, member))
        assert player.advance()[0].return_ == 1.0


@pytest.mark.parametrize("rank", [None, 1], ids=["dense", "low rank"])
def test_autocast_does_not_keep_the_rounded_weights_of_another_member(rank, monkeypatch):
    module = torch.nn.Linear(8, 4)
    parameters = FlatParameters(module)
    theta, parts = parameters.read_masters(), factored(parameters, 1)
    noise = Mirrored(0, 0, 36, 0.1) if rank is None else LowRank(0, 0, 36, 0.1, parts)
    x = torch.ones(1, 8)
    for by_parts in (False, True):  # written as a whole, and one by one
        monkeypatch.setattr("torch_es.search.parameters.LARGE", 0 if by_parts else 1 << 25)
        player = FunctionPlayer(module, lambda module: float(module(x).sum()))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            player.begin(Snapshot(theta, noise))
            found = []
            for member in (0, 1, 2):
                player.submit(Task(0, member))
                found.append(player.advance()[0].return_)
        for member, together in enumerate(found):
            parameters.write_module(noise.member(theta, member, torch.empty(36)))
            with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
                assert float(module(x).sum()) == together
        parameters.write_module(theta)
        assert len(set(found)) == 3


def test_modes_that_the_function_changes_are_put_back():
    module = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Dropout()).eval()
    module[1].train()
    player = FunctionPlayer(module, lambda module: float(module.train().training))
    player.begin(Snapshot(torch.zeros(2), Mirrored(0, 0, 2, 0.1)))
    player.submit(Task(0, 0))
    assert player.advance()[0].return_ == 1.0
    assert [part.training for part in module.modules()] == [False, False, True]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_function_that_replaces_a_parameter_is_refused(num_workers):
    def rounded(module):
        module.weight = torch.nn.Parameter((module.weight * 64).round() / 64)
        return float(module.weight.detach().sum())

    with (
        ES(torch.nn.Linear(3, 1), fitness_fn=rounded, num_pairs=2, num_workers=num_workers) as es,
        pytest.raises((ValueError, WorkerError), match=r"must keep the trainable parameters.*weight was replaced"),
    ):
        es.learn(4)
