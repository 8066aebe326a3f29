from dataclasses import dataclass
from functools import partial

import pytest

from torch_es.errors import WorkerError
from torch_es.evaluators import FaultTolerance
from torch_es.evaluators.ledger import Ledger
from torch_es.types import Task


@dataclass(eq=False)
class Node:
    number: int
    num_lanes: int = 2

    def __str__(self):
        return f"Worker {self.number}"


def name(task):
    return f"member {task.member}"


def ledger(**tolerance):
    return Ledger(FaultTolerance(**tolerance), name)


def answers(*given):
    waiting = list(given)
    return lambda: waiting.pop(0) if waiting else None


def test_tasks_go_to_free_lanes_and_the_end_comes_when_all_are_in():
    book, nodes = ledger(), [Node(0), Node(1)]
    pairs = [(Task(0, 0), Task(0, 1)), (Task(0, 2), Task(0, 3)), (Task(0, 4), Task(0, 5))]
    ask = answers(*pairs, ())
    assert list(book.assign(nodes, ask)) == [(nodes[0], pairs[0]), (nodes[1], pairs[1])]
    assert list(book.assign(nodes, ask)) == []  # no lane is free
    for task in pairs[0]:
        assert book.done(nodes[0], task)
    assert list(book.assign(nodes, ask)) == [(nodes[0], pairs[2])]
    for node, pair in ((nodes[1], pairs[1]), (nodes[0], pairs[2])):
        for task in pair:
            assert book.done(node, task)
    assert list(book.assign(nodes, ask)) == []
    assert not book.over  # the answer was to wait
    assert list(book.assign(nodes, ask)) == []
    assert book.over


def test_a_lost_workers_tasks_go_to_another_and_its_late_answer_counts_for_nothing():
    book, nodes = ledger(), [Node(0), Node(1)]
    pair = (Task(0, 0), Task(0, 1))
    list(book.assign(nodes, answers(pair)))
    assert book.lose(nodes[0], "died", "") == "member 0, member 1"
    assert not book.over
    assert list(book.assign(nodes[1:], answers())) == [(nodes[1], pair[:1]), (nodes[1], pair[1:])]
    assert not book.done(nodes[0], pair[0])
    assert book.done(nodes[1], pair[0])
    assert book.restarts == 1


def test_who_is_lost_twice_plays_alone_and_is_found():
    book, nodes = ledger(on_failure="drop_pair"), [Node(0, num_lanes=4), Node(1)]
    pair = (Task(0, 0), Task(0, 1))
    list(book.assign(nodes[:1], answers(pair)))
    for _ in range(2):
        book.lose(nodes[0], "died", "")
        given = list(book.assign(nodes[:1], answers((Task(0, 2),))))
    assert given == [(nodes[0], pair[:1])]  # the other suspect waits, and so do new tasks
    book.lose(nodes[0], "died", "")
    (result,) = book.given_up()
    assert result.task == pair[0]
    assert result.return_ != result.return_


def test_the_restarts_of_a_generation_are_counted():
    book, node = ledger(max_restarts=1), Node(3)
    list(book.assign([node], answers((Task(0, 7),))))
    book.lose(node, "died", "")
    list(book.assign([node], answers()))
    with pytest.raises(WorkerError, match=r"Worker 3 died; no restarts are left. Its tasks: member 7."):
        book.lose(node, "died", "")
    book.begin()
    assert book.lose(node, "died", "") == "none"


def test_a_task_has_as_many_chances_among_others_as_it_is_given():
    book = Ledger(FaultTolerance(max_retries=4), name, chances=3)
    other = Task(0, 1)
    waiting = answers((Task(0, 0), other))
    for number in range(3):
        node = Node(number)
        given = [task for _, tasks in book.assign([node], waiting) for task in tasks]
        assert sorted(given) == [Task(0, 0), other]
        book.lose(node, "died", "")
    node = Node(3)
    given = [task for _, tasks in book.assign([node], waiting) for task in tasks]
    assert sorted(given) == [Task(0, 0), other]  # the fourth time
    book.lose(node, "died", "")
    assert [tasks for _, tasks in book.assign([Node(4)], waiting)] == [(Task(0, 0),)]  # then alone


def test_losses_of_an_earlier_call_are_forgotten():
    """Evaluations of one generation have the same tasks each time."""
    book, node, task = Ledger(FaultTolerance(max_retries=1), str), Node(0), Task(0, -1)
    for _ in range(3):
        ask = partial(next, iter([(task,)]), None)
        book.begin()
        list(book.assign([node], ask))
        book.lose(node, "died", "")
        list(book.assign([node], ask))
        assert book.done(node, task)
