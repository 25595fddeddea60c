"""Which cases `make test` leaves to `make test-thorough`: further ones of a kind whose first ones it runs.

They are those that take long to compile, or many of one kind; what a change touches is run with all of them.
"""

from typing import Any

import pytest

thorough = pytest.mark.thorough


def further(*cases: Any) -> list[Any]:
    """Cases of `pytest.mark.parametrize` that are left to `make test-thorough`; tuples are of several parameters."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=thorough) for case in cases]
