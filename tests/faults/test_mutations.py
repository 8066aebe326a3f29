"""The mutations of `mutations.py` fit the package; `make faults-mutations` runs them."""

import re
from collections import Counter

import pytest
from mutations import MUTATIONS, ROOT, marks, mutated


def test_every_mark_stands_once_and_has_a_mutation():
    found = Counter(mark for mark, _ in marks(ROOT))
    assert set(found.values()) == {1}, found.most_common(3)
    assert set(found) == {mutation.mark for mutation in MUTATIONS}


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.mark}-{m.protection}")
def test_what_is_mutated_compiles_and_has_its_test(mutation):
    (path,) = [path for mark, path in marks(ROOT) if mark == mutation.mark]
    text = mutated(path.read_text(), mutation.mark, mutation.new)
    assert mutation.mark not in re.findall(r"# (\S+)$", text, re.M)
    compile(text, str(path), "exec")
    assert re.search(rf"^def {mutation.test.partition('::')[2]}", (ROOT / mutation.file).read_text(), re.M)


CODE = """
if (
    a  # F01
):
    g(
        a,
    )  # F02
elif a:  # F03
    pass
"""


def test_a_statement_is_replaced_whole_and_a_compound_one_by_its_header():
    assert mutated(CODE, "F01", "if False:").split("\n")[1:3] == ["if False:", "    g("]
    assert mutated(CODE, "F02", "pass").split("\n")[4:6] == ["    pass", "elif a:  # F03"]
    assert mutated(CODE, "F03", "elif False:").split("\n")[7:9] == ["elif False:", "    pass"]
