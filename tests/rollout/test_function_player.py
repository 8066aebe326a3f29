import torch

from torch_es.rollout import FunctionPlayer, Snapshot
from torch_es.search import Mirrored
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
