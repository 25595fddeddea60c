"""PyTorch's own table of operators: values and gradients of every entry are as OPERATORS.md says, or better.

`make operators` runs all of its checks, and writes that page.
"""

import re

import pytest

pytest.importorskip("torch.testing._internal.common_methods_invocations", reason="PyTorch's own tests are not there")

from . import operator_table

CHECKS = ("value", "order 1")


def _known_to_fail() -> dict[str, dict[str, int]]:
    """Of entries that are not whole, how many samples pass, by check."""
    found = {}
    for line in operator_table.WRITTEN.read_text().splitlines():
        if match := re.match(r"\| `([^`]+)` \| (.*)", line):
            cells = match[2].split(" | ")[: len(operator_table.CHECKS)]
            counts = {check: cell.split(" of ") for check, cell in zip(operator_table.CHECKS, cells, strict=True)}
            found[match[1]] = {check: int(count[0]) for check, count in counts.items() if len(count) == 2}
    return found


KNOWN = _known_to_fail()


@pytest.mark.parametrize("index", operator_table.entries(), ids=lambda k: operator_table.title(operator_table.op_db[k]))
def test_entry(index):
    entry = operator_table.examined(index, CHECKS)
    known = KNOWN.get(entry["title"], {})
    for check, (passed, asked) in entry["checks"].items():
        assert passed >= known.get(check, asked), entry["first"].get(check)
