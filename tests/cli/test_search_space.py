import json
from functools import cache

import pytest
import yaml

from torch_es.cli import config
from torch_es.cli.search_space import distributions, split

TASKS = sorted(file.stem for file in (config.conf_dir() / "env").glob("*.yaml"))


@cache
def swept(task):
    return config.compose_config([f"env={task}", "evaluator=serial"], "sweep")


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_space_whose_ends_are_values_of_the_config(task):
    composed = swept(task)
    space = composed["sweep"]["space"]
    assert {"strategy.sigma", "strategy.num_pairs", "optimizer.lr"} <= space.keys()
    found = distributions(space)
    ends = [f"{key}={d.choices[-1] if hasattr(d, 'choices') else d.high}" for key, d in found.items()]
    again = config.compose_config([f"env={task}", *ends], "sweep")
    assert again["strategy"]["sigma"] == found["strategy.sigma"].high
    assert composed["total_timesteps"] < config.compose_config()["total_timesteps"]


@pytest.mark.parametrize("task", TASKS)
def test_every_population_of_a_space_can_be_built(task):
    composed = swept(task)
    for pairs in distributions(composed["sweep"]["space"])["strategy.num_pairs"].choices:
        config.build({**composed, "strategy": {**composed["strategy"], "num_pairs": int(pairs)}}).close()


@pytest.mark.parametrize("task", config.tuned_envs())
def test_a_space_has_what_was_tuned(task):
    tuned = yaml.safe_load((config.conf_dir() / "env" / f"{task}.yaml").read_text())["tuned"]
    for key, space in distributions(swept(task)["sweep"]["space"]).items():
        value = tuned.get(key)
        if isinstance(value, list):
            value = json.dumps(value).replace(" ", "")
        if value is not None:
            assert value in space.choices if hasattr(space, "choices") else space.low <= value <= space.high, key


def test_hydras_words_become_optunas_distributions():
    fixed, space = split([
        "env=hopper", "a=interval(0,1)", "b=int(interval(1,5))", "c=tag(log,interval(0.01,1))",
        "d=tag(log,int(interval(2,64)))", "e=range(8,33,8)", "f=range(0.5,2,0.5)", "g=[64,64],[8]", "+h=null,'mean:2'",
    ])  # fmt: skip
    assert fixed == ["env=hopper"]
    found = distributions(space)
    numbers = {key: (type(d).__name__[:-12], d.low, d.high, d.log) for key, d in found.items() if hasattr(d, "low")}
    assert numbers == {
        "a": ("Float", 0, 1, False), "b": ("Int", 1, 5, False), "c": ("Float", 0.01, 1, True),
        "d": ("Int", 2, 64, True), "e": ("Int", 8, 32, False), "f": ("Float", 0.5, 1.5, False),
    }  # fmt: skip
    assert found["g"].choices == ("[64,64]", "[8]")
    assert found["+h"].choices == ("null", "'mean:2'")
