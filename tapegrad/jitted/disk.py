"""Compiled drivers on disk, beside the kernels and guarded like them (`kernels/cache.py`).

An entry's name is a digest of all that the code was made of: the user's function and what it depends on
(`dependencies.py`), the form of the driver, the types of its arguments, tapegrad's sources, Numba's settings. The
folder's name adds the versions and the processor. So what is found is right, and a change in a callee is noticed.

The entry is object code, LLVM's code for jitted functions that call the driver, and a table of plain facts:

      {"symbol", "environment": names in the object code, "defines": all of them, "object": how long it is,
       "returns": a type, "constants": {name of an environment: the objects that its function uses},
       "operations", "parts": those of `array_rows.py`, and of `jacobian_tape.py`, that it calls}

Nothing is unpickled to load it. A driver of which more would have to be known is not kept.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from numba import config
from numba.core import types
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompileResult
from numba.core.environment import Environment, lookup_environment
from numba.core.funcdesc import PythonFunctionDescriptor
from numba.core.typing import signature

from tapegrad.jitted import dependencies, jacobian_tape
from tapegrad.jitted.dependencies import is_importable
from tapegrad.kernels import cache, digests
from tapegrad.kernels.digests import NoDigestError

OPERATION = "tapegrad_operation_"  # how symbols of operations' records begin

# What a program may have set in Numba, whatever the environment says.
_SETTINGS = (
    "BOUNDSCHECK", "CPU_FEATURES", "CPU_NAME", "DEBUGINFO_DEFAULT", "DEBUG_NRT", "DISABLE_INTEL_SVML", "ENABLE_AVX",
    "EXTEND_VARIABLE_LIFETIMES", "LLVM_REFPRUNE_FLAGS", "LLVM_REFPRUNE_PASS", "LOOP_VECTORIZE", "NRT_STATS", "OPT",
    "PARFOR_MAX_TUPLE_SIZE", "SLP_VECTORIZE", "USING_SVML",
)  # fmt: skip
_SIMPLE = {
    str(kind): kind
    for kind in (*types.integer_domain, *types.real_domain, *types.complex_domain, types.boolean, types.none,
                 types.unicode_type)
}  # fmt: skip


class DriverCache(NullCache):  # type: ignore[misc]
    """What a driver's dispatcher asks, when it would compile."""

    def __init__(self, driver: Any, original: Any, form: Any) -> None:
        self.driver, self.original, self.form = driver, original, form

    def _name(self, args: Any) -> tuple[str, list[Any]] | None:
        """An entry's name, and the jitted functions whose code may be in it; None where nothing is kept."""
        if cache.folder() is None:
            return None
        try:
            state, dispatchers = dependencies.digest(self.original)
            kinds = json.dumps([_written(kind) for kind in args])
        except NoDigestError:
            return None
        settings = tuple(str(getattr(config, name, None)) for name in _SETTINGS)
        made_by = digests.package(), np.__version__, settings
        return f"driver-{digests.of(state, repr(self.form), kinds, *made_by)}.jit", dispatchers

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code of a signature; None where there is none."""
        args = _arguments(sig)
        named = self._name(args)
        entry = None if named is None else cache.read(named[0])
        if entry is None:
            return None
        target_context.refresh()
        try:
            return _loaded(self.driver, args, target_context, *entry)
        except (KeyError, TypeError, ValueError, RuntimeError, NoDigestError):  # it isn't what it seems
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, unless it has addresses of this process in it, or classes of it."""
        named = self._name(_arguments(sig))
        if named is None or data.library.has_dynamic_globals or data.lifted or data.reload_init:
            return
        name, dispatchers = named
        linked = _linked(data.library)
        called = ((d, made) for d in dispatchers for made in d.overloads.values() if made.library in linked)
        if not all(dependencies.is_as_named(d, made) for d, made in called):
            return
        try:
            cache.write(name, *_entry(data))
        except NoDigestError:
            return


def _arguments(sig: Any) -> Any:
    return sig if isinstance(sig, tuple) else sig.args


def _linked(library: Any) -> set[Any]:
    """The libraries whose code is in one."""
    found, waiting = set[Any](), [library]
    while waiting:
        library = waiting.pop()
        if library not in found:
            found.add(library)
            waiting += library._linking_libraries
    return found


def _entry(made: Any) -> tuple[dict[str, Any], bytes]:
    _, _, (code, linkable) = made.library.serialize_using_object_code()
    description = made.fndesc
    environments = {e.env_name: e for e in (made.environment, *made._find_referenced_environments())}
    module = made.library._get_module_for_linking()
    table = {
        "symbol": description.mangled_name,
        "environment": description.env_name,
        "defines": [v.name for v in (*module.functions, *module.global_variables) if not v.is_declaration],
        "object": len(code),
        "returns": _written(made.signature.return_type),
        "constants": {name: [_constant(value) for value in e.consts] for name, e in environments.items()},
        "operations": operations_in(module),
        "parts": jacobian_tape.named_in(module),
    }
    return table, code + linkable


def operations_in(module: Any) -> list[str]:
    """The operations of `array_rows.py` whose records compiled code names."""
    names = (variable.name for variable in module.global_variables if variable.is_declaration)
    return [name.removeprefix(OPERATION) for name in names if name.startswith(OPERATION)]


class _LoadedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A driver's object code, and what jitted code that calls the driver is linked with."""

    def __init__(self, codegen: Any, name: str, code: bytes, linkable: bytes, defines: list[str]) -> None:
        super().__init__(codegen, name)
        self._linkable = linkable
        self.enable_object_caching()
        self._set_compiled_object(code)
        self._finalize_final_module()
        codegen._engine._defined_symbols.update(defines)

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            self._shared_module = llvm.parse_bitcode(self._linkable)
        return self._shared_module


def _loaded(driver: Any, args: Any, context: Any, table: dict[str, Any], content: bytes) -> Any:
    """What Numba has of a function that it compiled, for an entry."""
    returns = _kind(table["returns"])
    constants = {name: [_value(written) for written in values] for name, values in table["constants"].items()}
    description = PythonFunctionDescriptor(
        native=True, modname=driver.__module__, qualname=driver.__qualname__, unique_name=driver.__name__, doc="",
        typemap=None, restype=returns, calltypes=None, args=driver.__code__.co_varnames[: len(args)], kws=(),
        argtypes=tuple(args), env_name=table["environment"],
    )  # fmt: skip
    description.mangled_name = table["symbol"]
    code, linkable = content[: table["object"]], content[table["object"] :]
    if not {description.llvm_cpython_wrapper_name, table["environment"], *constants} <= set(table["defines"]):
        raise ValueError(f"the entry lacks what {table['symbol']} needs")
    jacobian_tape.connect(table["parts"])
    if table["operations"]:
        from tapegrad.jitted import array_rows

        for name in table["operations"]:
            array_rows.supply(name)
    library = _LoadedLibrary(context.codegen(), table["symbol"], code, linkable, table["defines"])
    environments = {name: _environment(driver, name, values) for name, values in constants.items()}
    for name, environment in environments.items():
        library.codegen.set_env(name, environment)
    return CompileResult(
        typing_context=context.typing_context, target_context=context, typing_error=None, type_annotation="",
        entry_point=context.get_executable(library, description, environments[table["environment"]]),
        signature=signature(returns, *args), objectmode=False, lifted=(), fndesc=description, library=library,
        call_helper=None, environment=environments[table["environment"]], metadata=None, reload_init=[],
        referenced_envs=list(environments.values()),
    )  # fmt: skip


def _environment(driver: Any, name: str, constants: list[Any]) -> Any:
    known = lookup_environment(name)
    if known is None:
        known = Environment._memo[name] = Environment(driver.__globals__)
        known.env_name = name
        known.consts[:] = constants
    return known


# --- types and constants, as plain text -------------------------------------------------------------------------------


def _written(kind: Any) -> Any:
    if _SIMPLE.get(str(kind)) == kind:
        return str(kind)
    if type(kind) is types.Array:
        return ["array", _written(kind.dtype), kind.ndim, kind.layout, not kind.mutable, kind.aligned]
    if isinstance(kind, types.BaseNamedTuple) and is_importable(kind.instance_class):
        made = kind.instance_class
        return ["named tuple", made.__module__, made.__qualname__, made._fields, *map(_written, kind.types)]
    if isinstance(kind, (types.Tuple, types.UniTuple)):
        return ["tuple", *map(_written, kind.types)]
    raise NoDigestError(f"{kind} is not plain")


def _kind(written: Any) -> Any:
    if isinstance(written, str):
        return _SIMPLE[written]
    if written[0] == "array":
        dtype, n_dimensions, layout, is_readonly, is_aligned = written[1:]
        return types.Array(_kind(dtype), n_dimensions, layout, is_readonly, aligned=is_aligned)
    if written[0] == "tuple":
        return types.BaseTuple.from_types(tuple(map(_kind, written[1:])))
    _, module, name, fields, *kinds = written
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    if list(getattr(found, "_fields", ())) != fields:
        raise ValueError(f"{module}.{name} is another class now")
    return types.BaseTuple.from_types(tuple(map(_kind, kinds)), found)


def _constant(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.dtype) and value.isbuiltin == 1 and not value.hasobject:
        return ["dtype", value.str]
    raise NoDigestError(f"{value!r} is not plain")


def _value(written: Any) -> Any:
    return np.dtype(written[1]) if isinstance(written, list) else written
