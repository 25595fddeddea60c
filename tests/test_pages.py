"""The pages: their examples are doctests; here is what they are made from."""

import ast
import runpy
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def test_the_picture_is_drawn_from_the_tape_as_it_is():
    drawing = runpy.run_path(str(DOCS / "drawing.py"))
    assert drawing["PICTURE"].read_text() == drawing["drawn"](), "run `make docs`"


@pytest.fixture(scope="module")
def definitions():
    return runpy.run_path(str(DOCS / "reference.py"))["definitions"]()


def test_the_reference_is_readable_code(definitions):
    for text in definitions.values():
        ast.parse(text)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("tapegrad", "tanh"), ("tapegrad", "Tensor"), ("tapegrad", "compile"), ("tapegrad.func", "vmap"),
        ("tapegrad.nn", "Linear"), ("tapegrad.optimize", "minimize"), ("tapegrad.jitted", "checkpoint_loop"),
    ],
)  # fmt: skip
def test_the_reference_has_docstrings(definitions, module, name):
    found = {node.name: node for node in ast.parse(definitions[module]).body if hasattr(node, "name")}
    assert ast.get_docstring(found[name])
