import numpy as np

from torch_es.training.generation import Generation, Quota
from torch_es.types import EpisodeResult, Task


def play(generation, length_of, order):
    """Answer tasks in any order, one round after another."""
    while True:
        tasks = []
        while len(tasks) < 12 and (unit := generation.next_tasks()):
            tasks.extend(unit)
        if not tasks:
            return generation
        for i in order(len(tasks)):
            generation.add(EpisodeResult(tasks[i], float(tasks[i].pair), length_of(tasks[i]), False, None))


def test_membership_is_fixed_whatever_comes_first():
    def length_of(task):
        return 1 + (task.pair * 7 + task.sign) % 13

    forward = play(Generation(0, Quota(1, 0, 150), 0), length_of, range)
    backward = play(Generation(0, Quota(1, 0, 150), 0), length_of, lambda n: reversed(range(n)))
    np.testing.assert_array_equal(forward.returns, backward.returns)
    lengths = [r.length for r in forward.episodes]
    assert sum(lengths) >= 150 > sum(lengths[:-2])


def test_a_budget_needs_episodes_and_steps():
    generation = play(Generation(0, Quota(1, 20, 30), 0), lambda task: 100, range)
    assert len(generation.returns) == 10
    generation = play(Generation(0, Quota(4, 0, 0), 3), lambda task: 5, range)
    assert len(generation.returns) == 4
    assert len(generation.centre) == 3


def test_results_are_in_pair_order():
    generation = play(Generation(2, Quota(5), 0), lambda task: 1, lambda n: reversed(range(n)))
    assert [r.task for r in generation.episodes] == [Task(2, p, s) for p in range(5) for s in (1, -1)]
