"""The mutations of `mutations.py` fit the code as it stands; `make faults-mutations` runs them."""

import re

import pytest
from mutations import MUTATIONS, ROOT, applied


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.fault}-{m.protection}")
def test_a_mutation_fits_the_code(mutation, tmp_path):
    target = tmp_path / mutation.file
    target.parent.mkdir(parents=True)
    target.write_text((ROOT / mutation.file).read_text())
    applied(mutation, tmp_path)
    compile(target.read_text(), mutation.file, "exec")
    file, _, name = mutation.test.partition("::")
    assert re.search(rf"^def {name}", (ROOT / file).read_text(), re.M)
