"""A simulator that has a port or a licence to itself: the index says which."""

from functools import partial
from pathlib import Path

import pytest
from helpers import Stepper

from torch_es import ES, mlp
from torch_es.envs import env_index


class Simulator(Stepper):
    """Takes a licence that no other may have at the same time."""

    def __init__(self, licences):
        super().__init__()
        self.licence = Path(licences) / str(env_index())
        self.licence.open("x").close()
        with (Path(licences) / "taken").open("a") as file:
            file.write(f"{env_index()} ")

    def close(self):
        self.licence.unlink()


@pytest.mark.parametrize(("num_workers", "num_lanes"), [(0, 3), (2, 2)])
def test_each_environment_has_a_number_of_its_own(num_workers, num_lanes, tmp_path):
    factory = partial(Simulator, str(tmp_path))
    with ES(mlp(3, 1), factory, num_workers=num_workers, num_lanes=num_lanes, num_pairs=4) as es:
        es.learn(20)
    taken = (tmp_path / "taken").read_text().split()
    assert taken[:2] == ["0", "0"]  # the trainer's own, one after another
    assert sorted(taken[2:]) == [str(number) for number in range(max(1, num_workers) * num_lanes)]
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_replaced_worker_has_the_numbers_of_the_lost_one(tmp_path):
    fuse = str(tmp_path / "fuse")

    def factory():
        return Stepper(mishap="kill" if env_index() == 1 else None, fuse=fuse)

    with ES(mlp(3, 1), factory, num_workers=1, num_lanes=2, num_pairs=4) as es:
        es.learn(20)
        assert es.evaluator().restarts == 1
