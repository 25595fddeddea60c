"""The stubs are those that `make stubs` writes: `__init__.pyi` the package's names, `methods.pyi` those of Tensor."""

import ast
import inspect
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import tapegrad as tg

PACKAGE = Path(tg.__file__).parent
FUNCTIONS = ast.parse((PACKAGE / "__init__.pyi").read_text()).body
(METHODS,) = (
    node.body
    for node in ast.parse((PACKAGE / "methods.pyi").read_text()).body
    if isinstance(node, ast.ClassDef) and node.name == "Methods"
)


def names_in(body: list[ast.stmt]) -> set[str]:
    """What a stub declares: functions, names with a type, and imports `as` a name."""
    declared = set()
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                declared.add(name)
            case ast.ImportFrom():
                declared |= {alias.asname for alias in node.names if alias.asname and alias.asname[0] != "_"}
    return declared


def definitions() -> Iterator[tuple[object, ast.FunctionDef]]:
    for owner, body in ((tg, FUNCTIONS), (tg.Tensor, METHODS)):
        for node in body:
            if isinstance(node, ast.FunctionDef) and inspect.isroutine(getattr(owner, node.name, None)):
                yield owner, node


def test_the_stubs_are_written_by_the_command():
    """In a process of its own: where native code records, methods are no functions."""
    program = "from tapegrad.cli import stubs; print(stubs.functions(), stubs.methods(), sep='', end='')"
    written = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert written == "".join((PACKAGE / name).read_text() for name in ("__init__.pyi", "methods.pyi")), "make stubs"


def test_the_stub_names_what_the_package_has():
    late = tg._LATER.keys()
    there = {name for name, value in vars(tg).items() if name[0] != "_" and not isinstance(value, types.ModuleType)}
    modules = {"autograd", "backends", "cuda", "func", "jitted", "linalg", "mps", "special", "version"}
    assert names_in(FUNCTIONS) - {"__version__"} == there | modules | late
    assert all(hasattr(tg, name) for name in late)


def test_dir_shows_what_is_public_and_nothing_else():
    assert set(dir(tg)) == names_in(FUNCTIONS) | {"__version__"}
    for module in tg.autograd, tg.func, tg.jitted, tg.linalg, tg.special:
        assert set(dir(module)) == set(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)
    assert all(hasattr(tg, name) for name in tg.__all__)


def test_the_stub_names_what_is_put_into_tensor():
    source = ast.parse((PACKAGE / "tensor.py").read_text())
    (written,) = (node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
    own = {"nelement"} | {node.name for node in written.body if isinstance(node, ast.FunctionDef)}
    public = {name for name in vars(tg.Tensor) if name[0] != "_"}
    assert {name for name in names_in(METHODS) if name[0] != "_"} == public - own
    assert all(name in vars(tg.Tensor) for name in names_in(METHODS))


@pytest.mark.parametrize(
    ("owner", "node"), [pytest.param(*given, id=f"{given[1].name}-{given[1].lineno}") for given in definitions()]
)
def test_the_stub_has_arguments_that_the_function_takes(owner: object, node: ast.FunctionDef):
    given = node.args
    keywords = {argument.arg: None for argument in given.kwonlyargs}
    if given.vararg or given.posonlyargs or node.name.startswith("__"):
        n_positional = len(given.posonlyargs) + len(given.args)
    else:  # what may be named, must have the same name
        n_positional = 1 if owner is tg.Tensor else 0
        keywords |= {argument.arg: None for argument in given.args[n_positional:]}
    inspect.signature(getattr(owner, node.name)).bind(*[None] * n_positional, **keywords)
