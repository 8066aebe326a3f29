from torch_es.runs.machine import arithmetic, describe


def test_the_machine_is_described_the_same_each_time():
    assert describe() == describe()
    first = arithmetic()
    arithmetic.cache_clear()
    assert arithmetic() == first
