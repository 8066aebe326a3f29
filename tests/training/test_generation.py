import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torch_es import EpisodeRules, OpenAIES
from torch_es.search import Population, Unperturbed
from torch_es.training.generation import Generation
from torch_es.types import EpisodeResult, Task


def begin(num_pairs, quota=(0, 0), evaluations=0, per_member=1):
    population = OpenAIES(torch.zeros(2), num_pairs=num_pairs).ask()
    return Generation(population, EpisodeRules(per_member=per_member), *quota, evaluations)


def play(generation, length_of, order):
    """Answer tasks in any order, one round after another."""
    while True:
        tasks = []
        while len(tasks) < 12 and (unit := generation.next_tasks()):
            tasks.extend(unit)
        if not tasks:
            return generation
        for i in order(len(tasks)):
            generation.add(EpisodeResult(tasks[i], float(tasks[i].member), length_of(tasks[i]), False, None))


def test_membership_is_fixed_whatever_comes_first():
    def length_of(task):
        return 1 + (task.member // 2 * 7 + 1 - task.member % 2 * 2) % 13

    forward = play(begin(1, (0, 150)), length_of, range)
    backward = play(begin(1, (0, 150)), length_of, lambda n: reversed(range(n)))
    np.testing.assert_array_equal(forward.returns, backward.returns)
    assert forward.lengths.sum() >= 150 > forward.lengths[:-2].sum()
    assert forward.steps == forward.lengths.sum()


def test_a_budget_needs_episodes_and_steps():
    assert len(play(begin(1, (20, 30)), lambda task: 100, range).returns) == 20
    generation = play(begin(4, evaluations=3), lambda task: 5, range)
    assert len(generation.returns) == 8
    assert len(generation.centre) == 3


@pytest.mark.parametrize(("together", "sizes"), [(1, [2] * 5), (4, [4, 4, 2]), (3, [6, 4]), (30, [10])])
def test_members_of_one_call_are_handed_out_together(together, sizes):
    population = OpenAIES(torch.zeros(2), num_pairs=5).ask()
    generation = Generation(population, EpisodeRules(), evaluations=1, together=together)
    assert generation.next_tasks() == (Task(0, -1, 0),)
    units = [generation.next_tasks() for _ in sizes]
    assert [len(unit) for unit in units] == sizes
    assert [task.member for unit in units for task in unit] == list(range(10))
    assert generation.next_tasks() == ()


@given(st.randoms(use_true_random=False))
def test_results_are_in_member_order(random):
    def shuffled(number):
        return random.sample(range(number), number)

    generation = play(begin(5, per_member=3), lambda task: 1 + task.episode, shuffled)
    np.testing.assert_array_equal(generation.returns, np.repeat(np.arange(10.0)[:, None], 3, axis=1))
    np.testing.assert_array_equal(generation.lengths, np.tile([1, 2, 3], (10, 1)))
    assert [generation.task(i) for i in (0, 4, 29)] == [Task(0, 0, 0, 0), Task(0, 1, 1, 0), Task(0, 9, 2, 4)]
    assert generation.result(4) == EpisodeResult(Task(0, 1, 1, 0), 1.0, 2, False, None)


def test_answers_are_tasks_then_wait_then_done():
    generation = begin(1, evaluations=1)
    centre, pair = generation.next_tasks(), generation.next_tasks()
    assert centre == (Task(0, -1, 0),)
    assert pair == (Task(0, 0), Task(0, 1))
    assert generation.next_tasks() == ()
    for task in pair:
        generation.add(EpisodeResult(task, 1.0, 1, False, None))
    assert generation.next_tasks() is None


def test_members_may_come_alone_and_behave():
    strategy = OpenAIES(nn.Linear(1, 1), num_pairs=1)
    population = Population(0, Unperturbed(3), lambda: strategy.theta, strategy.parameters, num_units=3, unit_size=1)
    generation = Generation(population, EpisodeRules(reward_shift=0.5))
    for number in range(3):
        (task,) = generation.next_tasks()
        generation.add(EpisodeResult(task, 3.0, 2, True, None, behaviour=np.array([number, 1.0])))
    assert task == Task(0, 2, 0, 2)
    assert generation.outcome.fitness.tolist() == [2.0, 2.0, 2.0]
    np.testing.assert_array_equal(generation.outcome.behaviours, [[0, 1], [1, 1], [2, 1]])
    assert generation.truncated.all()


def test_an_element_that_is_not_measured_may_be_infinite():
    def far(task):
        return 1.0 if task.member else np.inf

    generation = begin(1)
    for task in generation.next_tasks():
        moments = np.array([3.0, far(task), 5.0, far(task)])  # of two steps
        generation.add(EpisodeResult(task, 1.0, 2, False, moments))
    for measured, count, bad in (((True, False), 4, []), ((True, True), 2, [0])):
        seen, left_out = generation.seen(np.zeros(2), np.array(measured))
        assert (seen.count, seen.mean[0], list(left_out)) == (count, 1.5, bad)


def test_an_episode_that_was_given_up_has_no_bad_observation():
    population = OpenAIES(torch.zeros(1), num_pairs=2).ask()
    generation = Generation(population, EpisodeRules())
    tasks = [task for _ in range(2) for task in generation.next_tasks()]
    for task in tasks[:3]:
        generation.add(EpisodeResult(task, 1.0, 2, False, np.array([1.0, 1.0])))
    generation.add(EpisodeResult(tasks[3], float("nan"), 0, False, None))
    seen, bad = generation.seen(np.zeros(1), np.array([True]))
    assert seen.count == 6
    assert bad.tolist() == []
