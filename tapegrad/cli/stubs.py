"""Write the stubs, `__init__.pyi` and `methods.pyi`, which type checkers and editors read (`make stubs`).

Functions and methods are made from the op table when the package is imported. Their signatures are read off here: an
annotation is what a function's own lines see, and becomes what users may give for it.
"""

from __future__ import annotations

import ast
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tapegrad
from tapegrad.dtypes import DType, NamedDType
from tapegrad.tensor import Tensor

DTYPES = DType, NamedDType  # those there are tensors of, and those that are only named
PACKAGE = Path(tapegrad.__file__).parent
WIDTH = 120

# What is given for an annotation; and for an argument of that name, or a result, whose annotation leaves it open.
GIVEN = {
    "Dims | None": "Dim", "Number | Tensor | None": "Operand | None", "Number | Tensor": "Operand",
    "DType | None": "DTypeLike", "Dims": "_int | Sequence[_int]", "Number": "_float", "DType": "DTypeLike",
    "Sizes": "Sequence[_int]", "Flag": "_bool", "int": "_int", "bool": "_bool", "float": "_float",
}  # fmt: skip
OPEN = {
    "return": "Tensor", "input": "Operand", "other": "Operand", "exponent": "Operand", "value": "Operand",
    "condition": "Operand", "dtype": "DTypeLike", "device": "str | None", "size": "_int | Sequence[_int]",
    "shape": "_int | Sequence[_int]", "sizes": "_int | Sequence[_int]", "dims": "_int | Sequence[_int]",
    "given": "_int | Sequence[_int]", "bounds": "_int | Sequence[_int]", "tensors": "Iterable[Operand]",
}  # fmt: skip

FUNCTIONS = """\
# The public names, for type checkers and editors: written by `make stubs`, never by hand.

from builtins import bool as _bool
from builtins import float as _float
from builtins import int as _int
from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

import numpy as np

from tapegrad.functions.elementwise import FrexpResult
from tapegrad.functions.factorizations import SlogdetResult
from tapegrad.methods import Aminmax, Dim, DTypeLike, Extremum, Histogram, Operand
"""

METHODS = """\
# The methods and operators that `functions/`, `autograd/` and `interop.py` give to Tensor, for type checkers and
# editors: written by `make stubs`, never by hand.

from builtins import bool as _bool
from builtins import float as _float
from builtins import int as _int
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple, SupportsIndex, TypeAlias, overload

import numpy as np

from tapegrad.autograd.graph import AccumulateGrad, Node
from tapegrad.autograd.hooks import RemovableHandle
from tapegrad.dtypes import DType
from tapegrad.functions.elementwise import FrexpResult
from tapegrad.functions.factorizations import SlogdetResult
from tapegrad.functions.shaping import NumberOfElements
from tapegrad.storages import Storage
from tapegrad.tensor import Tensor

Operand: TypeAlias = Tensor | np.ndarray | np.generic | _float
DTypeLike: TypeAlias = DType | str | type | np.dtype[Any] | None
Dim: TypeAlias = _int | Sequence[_int] | None

class Extremum(NamedTuple):
    values: Tensor
    indices: Tensor

class Aminmax(NamedTuple):
    min: Tensor
    max: Tensor

class Histogram(NamedTuple):
    hist: Tensor
    bin_edges: Tensor

class Methods:
"""

# What Python, or NumPy, says about methods of theirs, and annotations don't.
PROTOCOLS = {
    "__eq__": "(self, other: object) -> Tensor: ...  # type: ignore[override]",
    "__ne__": "(self, other: object) -> Tensor: ...  # type: ignore[override]",
    "__hash__": "(self) -> _int: ...",
    "__round__": "(self, ndigits: _int | None = None) -> Tensor: ...",
    "__pow__": "(self, other: Operand) -> Tensor: ...",
    "__matmul__": "(self, other: Tensor | np.ndarray) -> Tensor: ...",
    "__rmatmul__": "(self, other: Tensor | np.ndarray) -> Tensor: ...",
    "__contains__": "(self, item: object) -> _bool: ...",
    "__reduce_ex__": "(self, protocol: SupportsIndex) -> tuple[Any, ...]: ...",
    "__array__": "(self, dtype: Any = None, copy: _bool | None = None) -> np.ndarray: ...",
    "__array_function__": "(self, function: Any, types: Any, args: Any, facts: dict[str, Any]) -> Any: ...",
    "__array_ufunc__": "(self, ufunc: np.ufunc, method: str, *inputs: Any, **facts: Any) -> Any: ...",
    "tolist": "(self) -> Any: ...",
    "to": """(
        self,
        *args: Tensor | DTypeLike | _bool,
        dtype: DTypeLike = None,
        device: str | None = None,
        non_blocking: _bool = False,
        copy: _bool = False,
        memory_format: Any = ...,
    ) -> Tensor: ...""",
}


def _type(annotation: Any, name: str) -> str:
    if annotation is inspect.Parameter.empty:
        annotation = "Any"
    text = annotation if isinstance(annotation, str) else annotation.__name__
    if text == "Any":
        return OPEN.get(name, "Any")
    if text == "DType" and name == "return":
        return "dtype"
    if text == "Tensor" and name != "return":
        return "Operand"
    for ours, theirs in GIVEN.items():
        text = re.sub(rf"(?<![\w.]){re.escape(ours)}(?!\w)", theirs, text)
    return text


def _default(value: Any) -> str:
    plain = value is None or isinstance(value, (bool, int, float, str)) or value == ()
    return repr(value).replace("'", '"') if plain else "..."


def _parameters(signature: inspect.Signature, is_method: bool) -> Iterator[str]:
    bare = False
    for place, (name, parameter) in enumerate(signature.parameters.items()):
        if is_method and place == 0:
            yield "self"
            continue
        if name == "out":  # `_definition` says who takes it
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not bare:
            bare = True
            yield "*"
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        bare |= star == "*"
        text = f"{star}{name}: {_type(parameter.annotation, name)}"
        yield text if parameter.default is parameter.empty else f"{text} = {_default(parameter.default)}"


def _lines(name: str, parameters: list[str], result: str, indent: str) -> Iterator[str]:
    """A definition, laid out as ruff does."""
    end = f" -> {result}: ..."
    if len(indent) + len(f"def {name}({', '.join(parameters)}){end}") <= WIDTH:
        yield f"{indent}def {name}({', '.join(parameters)}){end}"
        return
    yield f"{indent}def {name}("
    if len(indent) + 4 + len(", ".join(parameters)) <= WIDTH:
        yield f"{indent}    {', '.join(parameters)}"
    else:
        yield from (f"{indent}    {parameter}," for parameter in parameters)
    yield f"{indent}){end}"


def _definition(name: str, function: Callable[..., Any], indent: str = "") -> Iterator[str]:
    overloads = typing.get_overloads(inspect.unwrap(function))
    takes_out = "out" in inspect.signature(function).parameters and not indent
    for form in overloads or [function]:
        if overloads:
            yield f"{indent}@overload"
        signature = inspect.signature(form)
        result = _type(signature.return_annotation, "return")
        parameters = [*_parameters(signature, indent != "")]
        if takes_out and not result.startswith("tuple"):
            bare = [] if any(p[0] == "*" for p in parameters) else ["*"]
            parameters += [*bare, f"out: {'Tensor' if result == 'Tensor' else 'tuple[Tensor, ...]'} | None = None"]
        yield from _lines(name, parameters, result, indent)


def _names() -> Iterator[str]:
    """The imports of `__init__.py`, and the names it gives to values."""
    for node in ast.parse((PACKAGE / "__init__.py").read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                shown = name.asname or name.name
                if shown[0] != "_" and not isinstance(getattr(tapegrad, shown), DTYPES) and not _is_made(shown):
                    yield f"from {node.module} import {name.name} as {shown}"
    for name, module in vars(tapegrad)["_LATER"].items():
        if not _is_made(name):
            yield f"from tapegrad{'.' + module if module else ''} import {name} as {name}"


def _is_made(name: str) -> bool:
    """Whether a function's signature is read off."""
    value, read = getattr(tapegrad, name), ("tapegrad.functions", "tapegrad.creation", "tapegrad.nn")
    return isinstance(value, types.FunctionType) and (
        value.__module__ == "tapegrad" or value.__module__.startswith(read)
    ) and name != "manual_seed"  # fmt: skip


def functions() -> str:
    """The text of `__init__.pyi`."""
    imports, values, definitions = sorted(_names()), list[str](), list[str]()
    for name in sorted(vars(tapegrad)["__all__"]):
        value = getattr(tapegrad, name)
        if isinstance(value, (*DTYPES, float)):
            values.append(f"{name}: {'_float' if isinstance(value, float) else 'dtype'}")
        elif value is None:
            values.append(f"{name}: None")
        elif _is_made(name):
            definitions += _definition(name, value)
    head = FUNCTIONS.splitlines()
    ours = sorted([line for line in head if line.startswith("from tapegrad")] + imports, key=_in_order)
    head = [line for line in head if not line.startswith("from tapegrad")]
    return "\n".join([*head, *ours, "", "__version__: str", "", *values, "", *definitions, ""])


def _in_order(line: str) -> tuple[str, ...]:
    """As ruff sorts imports."""
    _, module, _, name, *_ = line.split()
    return module, "" if "," in line else name


def methods() -> str:
    """The text of `methods.pyi`."""
    source = ast.parse((PACKAGE / "tensor.py").read_text())
    (written,) = (node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "Tensor")
    own = {"nelement"} | {node.name for node in written.body if isinstance(node, ast.FunctionDef)}
    inherited = {"__init__", "__module__", "__doc__", "__slots__", "__annotations__", "__firstlineno__"}
    lines = []
    for name, value in sorted(vars(Tensor).items(), key=lambda item: (item[0][:2] == "__", item[0])):
        if name in own or name in inherited or (name[0] == "_" and name[:2] != "__"):
            continue
        if isinstance(value, property):
            result = _type(inspect.signature(value.fget or len).return_annotation, "return")
            lines += ["    @property", f"    def {name}(self) -> {result}: ..."]
            if value.fset is not None:
                lines += [f"    @{name}.setter", f"    def {name}(self, value: {result}) -> None: ..."]
        elif name in PROTOCOLS:
            lines.append(f"    def {name}{PROTOCOLS[name]}")
        elif name.startswith("new_"):  # as the function that it is named after
            signature = inspect.signature(getattr(tapegrad, name[4:]))
            lines += _lines(name, ["self", *_parameters(signature, False)], "Tensor", "    ")
        elif isinstance(value, types.FunctionType):
            lines += _definition(name, value, "    ")
    return METHODS + "\n".join(lines) + "\n"


def main() -> int:
    """Write both."""
    for name, text in {"__init__.pyi": functions(), "methods.pyi": methods()}.items():
        (PACKAGE / name).write_text(text)
        print(f"{name}: {text.count(chr(10))} lines")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
