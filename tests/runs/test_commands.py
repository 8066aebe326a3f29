"""What is printed to be pasted into a shell is read there, and by Hydra, as what was meant."""

import shlex
from pathlib import Path

import pytest

from torch_es.cli.config import parsed_overrides
from torch_es.runs import commands

NAMES = [
    "runs/a", "eq/lr=0.1", "my runs/a b", 'q"x', 'b\\"q', "tail\\", "7", "1_0", "1e5", "null", "TRUE", "nan", "\u00e9",
    "a,b", "(x)", "[y]", "{z}", "it's", "a:b", "~x", "-x", "a$b", "a#b", "a;b", "*",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_any_name_comes_back_from_the_printed_command(name):
    program, command, override, more = shlex.split(commands.resume(Path(name), "seed=1"))
    assert (program, command, more) == ("torch-es", "train", "seed=1")
    (parsed,) = parsed_overrides([override])
    assert (parsed.key_or_group, parsed.value()) == ("resume", name)
    assert shlex.split(commands.command("plot", Path(name))) == ["torch-es", "plot", name]
