"""Programs written for PyTorch, run on tapegrad with nothing but the import changed.

Each `.toml` in `tutorials/` holds the cells of a PyTorch tutorial on gradients, in order, with what each prints in
current PyTorch; each `.py` is a program of the kind that people write, its `.txt` what PyTorch prints of it.
Where PyTorch is installed it runs them too, so that the expectations stay its own.
"""

import ast
import contextlib
import importlib
import io
import re
import tomllib
from pathlib import Path

import pytest

import tapegrad as tg

TUTORIALS = sorted(Path(__file__).with_name("tutorials").glob("*.toml"))
PROGRAMS = sorted(Path(__file__).with_name("tutorials").glob("*.py"))


def printed_by(code: str, namespace: dict) -> str:
    """Run a cell as a notebook does: a trailing expression shows its repr, unless that is None."""
    cell = ast.parse(code)
    last = cell.body.pop() if cell.body and isinstance(cell.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as shown:
        exec(compile(cell, "<cell>", "exec"), namespace)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)
            if value is not None:
                print(repr(value))
    return shown.getvalue()


@pytest.mark.parametrize("library", ["tapegrad", "torch"])
@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_prints_what_it_promises(tutorial: Path, library: str):
    pytest.importorskip(library)
    namespace: dict = {}
    for cell in tomllib.loads(tutorial.read_text())["cell"]:
        code = cell["code"].replace("import torch", f"import {library} as torch")
        assert printed_by(code, namespace).strip() == cell["prints"].strip(), cell["code"]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("library", ["tapegrad", "torch"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_program_prints_what_pytorch_does(program: Path, library: str):
    module = pytest.importorskip(library)
    importlib.import_module(f"{library}.func")
    code = re.sub(r"^import torch$", f"import {library} as torch", program.read_text(), flags=re.MULTILINE)
    code = re.sub(r"^(import|from) torch\b", rf"\1 {library}", code, flags=re.MULTILINE)
    default = module.get_default_dtype()
    module.set_default_dtype(module.float32)  # PyTorch's default, that the programs count on
    try:
        assert printed_by(code, {"__name__": "__main__"}) == program.with_suffix(".txt").read_text()
    finally:
        module.set_default_dtype(default)


def test_every_tutorial_is_here():
    assert len(TUTORIALS) == 3
    assert len(PROGRAMS) == 12


# What the tutorials say in words only.


def test_an_integer_tensor_cannot_require_gradients():
    with pytest.raises(RuntimeError, match="Only Tensors of floating point and complex dtype can require gradients"):
        tg.tensor(2, requires_grad=True)


def test_gradients_accumulate():
    x = tg.ones(2, requires_grad=True)
    for times in (1.0, 2.0, 3.0):
        (0.5 * (5 * (x + 1) ** 2).sum()).backward()
        assert x.grad.tolist() == [10.0 * times] * 2


def test_backward_wants_a_scalar_or_a_gradient():
    x = tg.ones(2, requires_grad=True)
    y = 5 * (x + 1) ** 2
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        y.backward()
    y.backward(gradient=tg.tensor([1.0, 0.5]))
    assert x.grad.tolist() == [20.0, 10.0]


def test_tracking_is_switched_in_place():
    x = tg.ones(2)
    for switch in (True, False, True):
        assert x.requires_grad_(switch) is x
        assert x.requires_grad is switch


def test_no_grad_and_detach_stop_tracking():
    x = tg.ones(2, requires_grad=True)
    with tg.no_grad():
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad
    assert not x.detach().requires_grad
    assert not x.detach().clone().requires_grad
    assert x.requires_grad
