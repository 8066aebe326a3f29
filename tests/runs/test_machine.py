import platform

from torch_es.runs.machine import _named, arithmetic, describe


def test_the_machine_is_described_the_same_each_time():
    assert describe() == describe()
    first = arithmetic()
    arithmetic.cache_clear()
    assert arithmetic() == first


def test_two_generations_of_one_name_are_told_apart():
    cpuinfo = "processor\t: 0\ncpu family\t: 25\nmodel\t\t: {}\nmodel name\t: AMD EPYC\nstepping\t: 1\n"
    assert _named(cpuinfo.format(1) * 2) == "AMD EPYC (family 25, model 1)"
    assert _named(cpuinfo.format(17) * 2) == "AMD EPYC (family 25, model 17)"


def test_a_processor_without_generations_has_a_name():
    assert _named("processor\t: 0\nCPU architecture: 8\n") == platform.processor()
    assert _named("model name\t: ARMv7 rev 4\n") == "ARMv7 rev 4"
