"""What compiled code is made of: memory at an address, calls to an address, and the linker.

The same functions run three ways. Usually they are compiled by Numba and linked by `link`. With `NUMBA_BOUNDSCHECK=1`
every access through the arrays made here is checked. With `NUMBA_DISABLE_JIT=1` they are plain Python over NumPy arrays
at the same addresses, and the "address" of a kernel is its number in a list: slow, and open to any debugger.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import ctypes
import dis
import functools
import inspect
import operator
import os
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tapegrad import locks, vectormath
from tapegrad.kernels import cache, digests
from tapegrad.kinds import KIND
from tapegrad.ops.declare import OP
from tapegrad.tape import ROW, SLOT, H

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
CHECKED = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")
_ARRAYS = {"f8": np.float64, "f4": np.float32, "i8": np.int64, "i4": np.int32, "u1": np.uint8, "b1": np.bool_}
_RECORDS = {"rows_at": ROW, "slots_at": SLOT, "kinds_at": KIND, "ops_at": OP}
CODES = ("array_b1", "array_i4", "array_i8", "array_f4", "array_f8")  # the array maker of each dtype code

_engines: list[Any] = []  # what they hold must stay in memory
_functions: list[Callable[..., Any]] = []  # without the compiler: kernels by number
_lock = locks.lock()
_primitives: dict[str, Any] = {}


def primitives() -> dict[str, Any]:
    """The names of compiled code besides its own: array makers, `call*`, `allocate`, `release`, `vectormath`."""
    if not _primitives:
        with _lock:
            if not _primitives:
                made = _compiled_primitives() if JIT else _plain_primitives()
                _primitives.update(made)
    return _primitives


def _compiled_primitives() -> dict[str, Any]:
    import numba
    from llvmlite import ir
    from numba import carray, njit, types
    from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

    def pointer(dtype: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        @intrinsic
        def at(typingctx: Any, address: Any, n: Any) -> Any:
            return types.CPointer(dtype)(types.int64, types.int64), codegen

        return at

    class Records(types.Type):  # type: ignore[misc]
        """Records at an address: an array without the reference count that Numba keeps for arrays."""

        def __init__(self, dtype: np.dtype) -> None:
            self.record, self.size = numba.from_dtype(dtype), dtype.itemsize
            super().__init__(f"Records({dtype})")

    @register_model(Records)
    class _Address(models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, ir.IntType(64))

    @type_callable(operator.getitem)
    def record_type(context: Any) -> Any:
        return lambda records, index: records.record if isinstance(records, Records) else None

    @lower_builtin(operator.getitem, Records, types.Integer)
    def record_at(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        records, index = signature.args
        wide = context.cast(builder, args[1], index, types.int64)
        address = builder.add(args[0], builder.mul(wide, ir.IntType(64)(records.size)))
        return builder.inttoptr(address, context.get_value_type(records.record))

    def record_maker(dtype: np.dtype) -> Any:
        records = Records(dtype)

        @intrinsic
        def at(typingctx: Any, address: Any, n: Any) -> Any:
            return records(types.int64, types.int64), lambda context, builder, signature, args: args[0]

        return at

    def array_maker(dtype: Any) -> Any:
        as_pointer = pointer(dtype)

        @njit(error_model="numpy")
        def at(address, n):
            return carray(as_pointer(address, n), (n,))

        return at

    def caller(n_arguments: int, returns: bool = False) -> Any:
        result = types.int64 if returns else types.void

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = ir.IntType(64)
            function = ir.FunctionType(word if returns else ir.VoidType(), [word] * n_arguments)
            value = builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])
            return value if returns else context.get_dummy_value()

        names = ", ".join(f"p{i}" for i in range(n_arguments))
        scope = {"types": types, "result": result, "codegen": codegen, "n": n_arguments}
        exec(f"def call(typingctx, address, {names}):\n return result(*[types.int64] * (n + 1)), codegen", scope)
        return intrinsic(scope["call"])

    def atomic(operation: str) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
            if operation == "load":
                return builder.load_atomic(word, "acquire", 8)
            return builder.atomic_rmw(operation, word, args[1], "seq_cst")

        @intrinsic
        def change(typingctx: Any, address: Any, value: Any) -> Any:
            return types.int64(types.int64, types.int64), codegen

        @intrinsic
        def look(typingctx: Any, address: Any) -> Any:
            return types.int64(types.int64), codegen

        return look if operation == "load" else change

    @intrinsic
    def stream_line(typingctx: Any, target: Any, source: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            line = ir.VectorType(ir.IntType(64), 8).as_pointer()
            value = builder.load(builder.inttoptr(args[1], line), align=8)
            store = builder.store(value, builder.inttoptr(args[0], line), align=64)
            store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    @intrinsic
    def fetch_line(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
            kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
            prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
            builder.call(prefetch, [builder.inttoptr(args[0], pointer), word(0), word(2), word(1)])
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    def of_two(floating: Callable[..., Any], integral: Callable[..., Any], logical: Callable[..., Any]) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = signature.return_type
            chosen = floating if isinstance(kind, types.Float) else logical if kind == types.boolean else integral
            return chosen(builder, *args)

        @intrinsic
        def join(typingctx: Any, a: Any, b: Any) -> Any:
            kind = typingctx.unify_types(a, b)
            return kind(kind, kind), codegen

        return join

    def extreme(name: str) -> Callable[..., Any]:
        def call(builder: Any, a: Any, b: Any) -> Any:
            kind = a.type
            function = builder.module.declare_intrinsic(name, [kind], ir.FunctionType(kind, [kind, kind]))
            return builder.call(function, [a, b])

        return call

    # Sweeps index bare pointers, which Numba compiles several times faster than arrays; arrays are what can check
    # bounds.
    plain = array_maker if CHECKED else pointer
    made: dict[str, Any] = {name: plain(numba.from_dtype(np.dtype(t))) for name, t in _ARRAYS.items()}
    made |= {name: array_maker(numba.from_dtype(t)) if CHECKED else record_maker(t) for name, t in _RECORDS.items()}
    made |= {f"array_{name}": array_maker(numba.from_dtype(np.dtype(t))) for name, t in _ARRAYS.items()}
    made |= {f"call{n}": caller(n) for n in (1, 3, 4, 5, 6, 8, 11, 13)}
    made |= {f"part{n}": caller(n, returns=True) for n in (1, 2, 3, 4, 5, 7, 8, 10)}
    either, both = (lambda b, p, q: b.or_(p, q)), (lambda b, p, q: b.and_(p, q))
    made["plus"] = of_two(lambda b, p, q: b.fadd(p, q, flags=("reassoc",)), lambda b, p, q: b.add(p, q), either)
    made["larger"] = of_two(extreme("llvm.maximum"), extreme("llvm.smax"), either)
    made["smaller"] = of_two(extreme("llvm.minimum"), extreme("llvm.smin"), both)
    made |= {"fetch_add": atomic("add"), "exchange": atomic("xchg"), "load": atomic("load")}
    made |= {"stream_line": stream_line, "fetch_line": fetch_line}
    made["allocate"] = caller(1, returns=True)
    made["allocate_zeroed"] = caller(2, returns=True)
    made["release"] = caller(1)
    made["vectormath"] = vectormath.compiled(*cache.target())
    return made


def _plain_primitives() -> dict[str, Any]:
    def array_maker(dtype: np.dtype) -> Callable[[int, int], np.ndarray]:
        def at(address: int, n: int) -> np.ndarray:
            if n == 0:
                return np.empty(0, dtype)
            memory: Any = (ctypes.c_char * (int(n) * dtype.itemsize)).from_address(int(address))
            return np.frombuffer(memory, dtype)

        return at

    def call(address: int, *arguments: int) -> Any:
        if address <= len(_functions):
            return _functions[int(address) - 1](*map(int, arguments))
        foreign = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))  # BLAS has a real address
        return foreign(int(address))(*map(int, arguments))

    runtime = functions_of_python()
    made: dict[str, Any] = {name: array_maker(np.dtype(t)) for name, t in (_ARRAYS | _RECORDS).items()}
    made |= {f"array_{name}": made[name] for name in _ARRAYS}
    made |= {f"call{n}": call for n in (1, 3, 4, 5, 6, 8, 11, 13)}
    made |= {f"part{n}": call for n in (1, 2, 3, 4, 5, 7, 8, 10)}
    made |= {"plus": operator.add, "larger": np.maximum, "smaller": np.minimum}
    words = made["i8"]

    def fetch_add(address: int, value: int) -> int:  # there are no workers without the compiler
        before = int(words(address, 1)[0])
        words(address, 1)[0] = before + value
        return before

    def exchange(address: int, value: int) -> int:
        before = int(words(address, 1)[0])
        words(address, 1)[0] = value
        return before

    def stream_line(target: int, source: int) -> None:
        words(target, 8)[:] = words(source, 8)

    made |= {"stream_line": stream_line, "fetch_line": lambda address: None}
    made |= {"fetch_add": fetch_add, "exchange": exchange, "load": lambda address: int(words(address, 1)[0])}
    made["allocate"] = lambda address, n: runtime["allocate"](n) or 0
    made["allocate_zeroed"] = lambda address, n, size: runtime["allocate_zeroed"](n, size) or 0
    made["release"] = lambda address, memory: runtime["release"](memory)
    return made


def functions_of_python() -> dict[str, Any]:
    """Python's allocator, which needs no lock: `allocate(bytes)`, `allocate_zeroed(n, bytes)`, `release(address)`."""
    word, api = ctypes.c_int64, ctypes.pythonapi
    functions: dict[str, Any] = {}
    for name, symbol, arguments in (
        ("allocate", "PyMem_RawMalloc", 1),
        ("allocate_zeroed", "PyMem_RawCalloc", 2),
        ("release", "PyMem_RawFree", 1),
    ):
        address = ctypes.cast(getattr(api, symbol), ctypes.c_void_p).value or 0
        returns = None if name == "release" else word
        functions[name] = ctypes.CFUNCTYPE(returns, *[word] * arguments)(address)
        functions[name].address = address
    return functions


def function_address(name: str) -> int:
    """The address of a function of the C library; 0 where it has none of this name, or nothing is compiled."""
    function = getattr(ctypes.CDLL(None), name, None) if JIT else None
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0


def define(source: str, name: str, scope: dict[str, Any]) -> Callable[..., Any]:
    """The function `name` of a source text, with the primitives and `scope` for its globals."""
    names = {**primitives(), **scope}
    exec(source, names)
    return names[name]


_rebound: dict[Any, Callable[..., Any]] = {}


def inlined(function: Callable[..., Any], scalar_of: Callable[[Any], Any] = lambda value: None) -> Callable[..., Any]:
    """`function` for compiled code: the primitives get their meaning, and tapegrad's functions that it calls likewise.

    `scalar_of` maps other objects it names (operations) to functions; None where it doesn't know.
    """
    made = _rebound.get(function)
    if made is None:
        rebound = rebind(function, scalar_of)
        if JIT:
            from numba import njit

            if "H" in function.__globals__ and not CHECKED:
                rebound = _part_compiler()[0](rebound)
            else:
                rebound = njit(error_model="numpy", nogil=True)(rebound)
        made = _rebound[function] = rebound
    return made


def rebind(function: Any, scalar_of: Callable[[Any], Any] = lambda value: None) -> Callable[..., Any]:
    """The same code with other globals: see `inlined`."""
    code, names = _expanded(function) if "H" in function.__globals__ else (function.__code__, function.__globals__)
    names = {**names, **primitives()}
    for name in {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}:
        value = names.get(name)
        scalar = scalar_of(value)
        if (
            scalar is None
            and isinstance(value, FunctionType)
            and value.__module__.startswith("tapegrad.")
            and name not in primitives()
        ):
            scalar = value
        if scalar is not None:
            names[name] = inlined(scalar, scalar_of)
    return FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)


class _Inliner(ast.NodeTransformer):
    """Numbers for the fields of the header, and the expression for a call of a function that is nothing else.

    Numba takes seconds over a named tuple's constants, and a twentieth of one over the least function.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and self.names.get(node.value.id) is H:
            return ast.copy_location(ast.Constant(getattr(H, node.attr)), node)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = self.names.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if not isinstance(called, FunctionType) or not called.__module__.startswith("tapegrad."):
            return node
        definition = _definition(called)
        body = definition.body[-1]
        described = len(definition.body) == 2 and ast.get_docstring(definition) is not None
        if not described or not isinstance(body, ast.Return) or body.value is None:
            return node
        meant = {n: called.__globals__[n] for n in called.__code__.co_names if n in called.__globals__}
        if any(self.names.get(n, value) is not value for n, value in meant.items()):
            return node  # here one of its names means something else
        values = dict(zip((a.arg for a in definition.args.args), node.args, strict=True))
        inside = _Inliner({**called.__globals__, **self.names})
        return ast.copy_location(_Substitution(values).visit(inside.visit(copy.deepcopy(body.value))), node)


class _Substitution(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return copy.deepcopy(self.values[node.id]) if node.id in self.values else node


@functools.cache
def _definition(function: FunctionType) -> ast.FunctionDef:
    lines, first = inspect.getsourcelines(function)
    tree = ast.increment_lineno(ast.parse(textwrap.dedent("".join(lines))), first - 1)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    return definition


def _expanded(function: FunctionType) -> tuple[CodeType, dict[str, Any]]:
    """The code of a part of the sweeps with `_Inliner` at work on it, and the globals it then needs."""
    names = dict(function.__globals__)
    for value in list(names.values()):
        if isinstance(value, FunctionType) and value.__module__.startswith("tapegrad."):
            names = {**value.__globals__, **names}
    tree = ast.Module([_Inliner(names).visit(copy.deepcopy(_definition(function)))], [])
    ast.fix_missing_locations(tree)
    module = compile(tree, function.__code__.co_filename, "exec")
    return next(c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__), names


def symbol(name: str, *of: Any) -> str:
    """The name of code that is made of these (see `digests.of`), for the linker; its entry's is this with ".o"."""
    return f"{name}-{digests.of(*of)}"


def link(
    name: str, n_arguments: int, build: Callable[[], Callable[..., Any]], of: tuple[Any, ...], returns: bool = False
) -> int:
    """The address of the function that `build` gives, of `n_arguments` int64: from the disk, or compiled and kept.

    `of` is all that it is made from.
    """
    if not JIT:
        _functions.append(build())
        return len(_functions)
    name = symbol(name, *of)
    return _obtain(name, name, lambda: _compile(name, n_arguments, build(), returns))


def _obtain(name: str, function: str, compiled: Callable[[], tuple[dict[str, Any], bytes]]) -> int:
    """The address of a function in an entry, which is compiled where there is none, or none that can be linked.

    Numba's lock is taken before ours: a thread that compiles a user's function asks for kernels.
    """
    with _lock:
        address = _kept(name, function)
    if address == 0:
        from numba.core.compiler_lock import global_compiler_lock

        with global_compiler_lock, _lock:
            address = _kept(name, function)
            if address == 0:
                entry = compiled()
                cache.write(f"{name}.o", *entry)
                address = _load(function, *entry)
    return address


def _kept(name: str, function: str) -> int:
    """The address of a function in an entry; 0 where there is none, or none that can be linked."""
    entry = cache.read(f"{name}.o")
    if entry is not None:
        with contextlib.suppress(KeyError, TypeError, RuntimeError):  # it isn't what its checksum makes it seem
            return _load(function, *entry)
    return 0


@functools.cache
def _part_compiler() -> tuple[Callable[..., Any], Callable[..., tuple[Any, str]]]:
    """How parts of the sweeps are compiled: the helpers that they call, and a part (a module, the name in it).

    Numba compiles a helper for each combination of argument types it is called with, with wrappers for Python and C,
    and runs all of LLVM on each, callees included. Here every integer is an int64, there are no wrappers, and LLVM sees
    a part once, whole: half of the time.
    """
    from numba.core import compiler, dispatcher, registry, types
    from numba.core.codegen import JITCodeLibrary

    class Library(JITCodeLibrary):  # type: ignore[misc]
        """The LLVM of a function and of what it calls, not optimised, not made machine code."""

        def _optimize_functions(self, module: Any) -> None:
            module.data_layout = self._codegen._data_layout

        def finalize(self) -> None:
            for library in dict.fromkeys(self._linking_libraries):
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
            self._finalized = True

    target = registry.cpu_target

    def compiled(function: Callable[..., Any], arguments: Any, result: Any, is_part: bool) -> Any:
        flags = compiler.Flags()
        flags.no_compile = flags.no_cpython_wrapper = flags.release_gil = flags.nrt = True
        flags.no_cfunc_wrapper, flags.error_model = not is_part, "numpy"
        library = Library(target.target_context.codegen(), function.__qualname__)
        library.enable_object_caching()
        context = target.typing_context
        return compiler.compile_extra(
            context, target.target_context, function, arguments, result, flags, {}, library=library
        )

    class Helper(dispatcher.Dispatcher):
        targetdescr = target
        _compiler: Any

        def get_call_template(self, args: Any, kws: Any) -> Any:
            _, args = self._compiler.fold_argument_types(args, kws)
            args = tuple(types.int64 if isinstance(a, (types.Integer, types.Boolean)) else a for a in args)
            return super().get_call_template(args, {})

        def compile(self, sig: Any) -> Any:
            if sig not in self.overloads:
                self.overloads[sig] = made = compiled(self.py_func, sig, None, is_part=False)
                target.target_context.insert_user_function(made.fndesc, made.fndesc, [made.library])

        def get_overload(self, arguments: Any) -> Any:
            return self.overloads[tuple(arguments)].fndesc

    def part(function: Callable[..., Any], n_arguments: int, returns: bool) -> tuple[Any, str]:
        target.target_context.refresh()
        result = types.int64 if returns else types.void
        made = compiled(function, (types.int64,) * n_arguments, result, is_part=True)
        made.library._ensure_finalized()
        return made.library._final_module, made.fndesc.llvm_cfunc_wrapper_name

    return (lambda function: Helper(function, targetoptions={"nopython": True})), part


def _compile(name: str, n_arguments: int, function: Callable[..., Any], returns: bool) -> tuple[dict[str, Any], bytes]:
    from numba import cfunc, types
    from numba.core.compiler_lock import global_compiler_lock

    machine = _machine()
    if CHECKED:
        result = types.int64 if returns else types.void
        compiled = cfunc(result(*[types.int64] * n_arguments), nopython=True, error_model="numpy")(function)
        module, entry = llvm.parse_assembly(compiled.inspect_llvm()), compiled.native_name
    else:
        with global_compiler_lock:
            unoptimised, entry = _part_compiler()[1](function, n_arguments, returns)
        module = llvm.parse_assembly(str(unoptimised))
    for definition in [*module.functions, *module.global_variables]:
        if definition.is_declaration or definition.name.startswith("llvm."):
            continue
        if definition.name == entry:
            definition.name = name  # names made by Numba repeat from process to process
        else:
            definition.linkage = "internal"
    if not CHECKED:
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = options.slp_vectorization = True
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
    return {"needs": _needs(module)}, machine.emit_object(module)


def link_loops(
    name: str,
    build: Callable[[], Callable[..., Any]],
    codes: tuple[int, ...],
    result: int,
    ir: Callable[[str, list[str]], str],
    plain: Callable[[Callable[..., Any], list[Callable[..., Any]]], Callable[..., Any]],
    of: tuple[Any, ...],
    extra: tuple[int, ...] = (),
) -> int:
    """The address of loops around the scalar function that `build` gives, of these dtypes: see `loops.py`.

    `ir(scalar, types of its parameters)` is their text, `plain(scalar, array makers)` the same in Python; `extra` are
    the dtypes of arrays beside operands and result.
    """
    if not JIT:
        made = primitives()
        _functions.append(plain(build(), [made[CODES[code]] for code in (*codes, *extra, result)]))
        return len(_functions)
    name = symbol(name, codes, result, extra, *of)
    return _obtain(name, name, lambda: _compile_loops(name, build(), codes, result, ir))


def _compile_loops(
    name: str, function: Callable[..., Any], codes: tuple[int, ...], result: int, ir: Callable[[str, list[str]], str]
) -> tuple[dict[str, Any], bytes]:
    from numba import cfunc, types

    kinds = (types.boolean, types.int32, types.int64, types.float32, types.float64)
    signature = kinds[result](*(kinds[code] for code in codes))
    compiled = cfunc(signature, nopython=True, error_model="numpy")(getattr(function, "py_func", function))
    scalar = compiled.native_name.removeprefix("cfunc.")
    module = llvm.parse_assembly(compiled.inspect_llvm())
    inner = module.get_function(scalar)
    parameters = [str(argument.type) for argument in inner.arguments][2:]  # after those for result and exception
    loops = llvm.parse_assembly(ir(scalar, parameters))
    loops.triple, loops.data_layout = module.triple, module.data_layout
    module.link_in(loops)
    for definition in [*module.functions, *module.global_variables]:
        if definition.name == "kernel":
            definition.name = name
        elif not (definition.is_declaration or definition.name.startswith("llvm.")):
            definition.linkage = "internal"
    inner.add_function_attribute("alwaysinline")
    machine = _machine()
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return {"needs": _needs(module)}, machine.emit_object(module)


def _needs(module: Any) -> list[str]:
    """The symbols that a module takes from elsewhere."""
    return [f.name for f in module.functions if f.is_declaration and not f.name.startswith("llvm.")]


def link_assembly(name: str, text: Callable[[], str]) -> Any:
    """The same for C functions in LLVM assembly, one of which is called `name`.

    Returns the linker: its `get_function_address` finds each of them.
    """
    assembly = text()

    def compiled() -> tuple[dict[str, Any], bytes]:
        module, machine = llvm.parse_assembly(assembly), _machine()
        module.triple, module.data_layout = machine.triple, str(machine.target_data)
        return {"needs": []}, machine.emit_object(module)

    _obtain(symbol(name, assembly), name, compiled)
    return _engines[0]


def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, cpu, features = cache.target()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="default", codemodel="jitdefault", jit=True
    )


def _load(name: str, header: dict[str, Any], code: bytes) -> int:
    for symbol in header["needs"]:
        _resolve(symbol)
    if not _engines:
        _engines.append(llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine()))
    engine = _engines[0]
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address: int = engine.get_function_address(name)
    return address


def _resolve(symbol: str) -> None:
    """Make a symbol known to the linker.

    Numba's wrapper refers to helpers for exceptions and reference counts, which this code never reaches unless bounds
    are checked. Without Numba in the process they lead to `abort`.
    """
    if llvm.address_of_symbol(symbol) is not None:
        return
    for library in (ctypes.pythonapi, ctypes.CDLL(None)):
        function = getattr(library, symbol, None)
        if function is not None:
            break
    else:
        function = ctypes.CDLL(None).abort
    llvm.add_symbol(symbol, ctypes.cast(function, ctypes.c_void_p).value)


def callable_at(address: int, n_arguments: int) -> Callable[..., int]:
    """A Python callable for a linked function that returns an int64. It lets go of the GIL."""
    if not JIT:
        return np.errstate(all="ignore")(_functions[address - 1])  # compiled arithmetic doesn't warn either
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * n_arguments)(address)
