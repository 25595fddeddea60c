"""What compiled code is made of: memory at an address, calls to an address, and the linker.

Functions run three ways. Usually they are compiled by Numba and linked by `link`. With `NUMBA_BOUNDSCHECK=1`
every access through the arrays made here is checked. With `NUMBA_DISABLE_JIT=1` they are plain Python over NumPy arrays
at the same addresses, and the "address" of a kernel is its number in a list: slow, and open to any debugger.
"""

from __future__ import annotations

import contextlib
import ctypes
import dis
import functools
import gc
import inspect
import operator
import os
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from tapegrad import foreign, interrupts, locks, vectormath
from tapegrad.dtypes import BOOL, DTYPES
from tapegrad.kernels import cache, digests, records
from tapegrad.kernels.parts import expanded, is_core, part_compiler, scalar_compiler
from tapegrad.memory import is_record, parts, records_of

JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
CHECKED = os.environ.get("NUMBA_BOUNDSCHECK", "0") not in ("", "0")
_ARRAYS = {
    "f8": np.float64, "f4": np.float32, "i8": np.int64, "i4": np.int32, "i2": np.int16, "i1": np.int8,
    "u2": np.uint16, "u1": np.uint8, "b1": np.bool_,
}  # fmt: skip
# The array maker of each dtype code.
CODES = tuple(f"array_{next(short for short, of in _ARRAYS.items() if of == d.numpy.type)}" for d in DTYPES)

linkers: dict[str, Callable[[], int]] = {}  # what links a part, by its symbol
_linked: dict[str, int] = {}  # addresses of functions, by their entries
_engines: list[Any] = []  # what they hold must stay in memory
_functions: list[Callable[..., Any]] = []  # without the compiler: kernels by number
_lock = locks.lock()  # reentrant: parts that a part calls are linked first
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
    from numba.core import cgutils
    from numba.extending import intrinsic

    def pointer(dtype: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        @intrinsic
        def at(typingctx: Any, address: Any, n: Any) -> Any:
            return types.CPointer(dtype)(types.int64, types.int64), codegen

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

        names = "".join(f", p{i}" for i in range(n_arguments))
        scope = {"types": types, "result": result, "codegen": codegen, "n": n_arguments}
        exec(f"def call(typingctx, address{names}):\n return result(*[types.int64] * (n + 1)), codegen", scope)
        return intrinsic(scope["call"])

    @intrinsic
    def address_of_part(typingctx: Any, function: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            word = ir.IntType(64)
            kind = ir.FunctionType(word, [word] * len(function.sig.args))
            return builder.ptrtoint(cgutils.get_or_insert_function(builder.module, kind, function.symbol), word)

        return types.int64(function), codegen

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

    def of_two(floating: Any, signed: Any, unsigned: Any, logical: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = signature.return_type
            if isinstance(kind, types.Integer):
                return (signed if kind.signed else unsigned)(builder, *args)
            return (logical if kind == types.boolean else floating)(builder, *args)

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

    records.compiled(CHECKED)  # Numba looks for what is new in this before it compiles, not while it does
    # Sweeps index bare pointers, which Numba compiles several times faster than arrays; arrays are what can check
    # bounds.
    plain = array_maker if CHECKED else pointer
    made: dict[str, Any] = {name: plain(numba.from_dtype(np.dtype(t))) for name, t in _ARRAYS.items()}
    made |= {f"array_{name}": array_maker(numba.from_dtype(np.dtype(t))) for name, t in _ARRAYS.items()}
    made |= {f"call{n}": caller(n) for n in (1, 3, 4, 5, 6, 8, 9, 11, 13, 14)}
    made |= {f"part{n}": caller(n, returns=True) for n in (0, 1, 2, 3, 5, 9)}
    either, both = (lambda b, p, q: b.or_(p, q)), (lambda b, p, q: b.and_(p, q))
    added = lambda b, p, q: b.add(p, q)  # noqa: E731
    made["plus"] = of_two(lambda b, p, q: b.fadd(p, q, flags=("reassoc",)), added, added, either)
    made["larger"] = of_two(extreme("llvm.maximum"), extreme("llvm.smax"), extreme("llvm.umax"), either)
    made["smaller"] = of_two(extreme("llvm.minimum"), extreme("llvm.smin"), extreme("llvm.umin"), both)
    made |= {"fetch_add": atomic("add"), "exchange": atomic("xchg"), "load": atomic("load")}
    made |= {"stream_line": stream_line, "fetch_line": fetch_line, "address_of_part": address_of_part}
    made["allocate"] = caller(1, returns=True)
    made["allocate_zeroed"] = caller(2, returns=True)
    made["release"] = caller(1)
    made["vectormath"] = vectormath.compiled(*cache.target())
    return made


def _plain_primitives() -> dict[str, Any]:
    def array_maker(dtype: np.dtype) -> Callable[[int, int], np.ndarray]:
        return lambda address, n: records.elements_at(address, n, dtype)

    def address_of_part(function: Callable[..., Any]) -> int:
        if function not in _functions:
            _functions.append(function)
        return 1 + _functions.index(function)

    def call(address: int, *arguments: int) -> Any:
        if address <= len(_functions):
            return _functions[int(address) - 1](*map(int, arguments))
        foreign = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))  # BLAS has a real address
        return foreign(int(address))(*map(int, arguments))

    runtime = functions_of_python()
    made: dict[str, Any] = {name: array_maker(np.dtype(t)) for name, t in _ARRAYS.items()}
    made |= {f"array_{name}": made[name] for name in _ARRAYS}
    made |= {f"call{n}": call for n in (1, 3, 4, 5, 6, 8, 9, 11, 13, 14)}
    made |= {f"part{n}": call for n in (0, 1, 2, 3, 5, 9)}
    made |= {"address_of_part": address_of_part, "plus": operator.add, "larger": np.maximum, "smaller": np.minimum}
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


@functools.cache
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
    of_records = {n: _record_maker(v) for n, v in scope.items() if is_record(v)}
    names = {**primitives(), **scope, **of_records}
    exec(source, names)
    return names[name]


_rebound: dict[Any, Callable[..., Any]] = {}


def inlined(
    function: Callable[..., Any], scalar_of: Callable[[Any], Any] = lambda value: None, by_address: bool = False
) -> Callable[..., Any]:
    """`function` for compiled code: the primitives get their meaning, and tapegrad's functions that it calls likewise.

    `scalar_of` maps other objects it names (operations) to functions; None where it doesn't know. SciPy's functions are
    symbols of our linker's, or called by their addresses, as code must that may be linked without it: users'.
    """
    made = _rebound.get((function, by_address))
    if made is None:
        rebound = rebind(function, scalar_of, by_address)
        if JIT:
            from numba import njit

            of_users = by_address and not is_core(function)  # then it is compiled as Numba compiles their functions
            if of_users:  # without what Python would call it by, for which it would get machine code of its own
                options = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
                rebound = njit(error_model="numpy", nogil=True, **options)(rebound)
            elif CHECKED:
                rebound = njit(error_model="numpy", nogil=True)(rebound)
            else:
                rebound = part_compiler()[0](rebound)
        made = _rebound[function, by_address] = rebound
    return made


def rebind(
    function: Any, scalar_of: Callable[[Any], Any] = lambda value: None, by_address: bool = False
) -> Callable[..., Any]:
    """A function's code with other globals: see `inlined`."""
    code, names = expanded(function) if is_core(function) else (function.__code__, function.__globals__)
    names = {**names, **primitives()}
    for name in {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}:
        value = names.get(name)
        if is_record(value):
            names[name] = _record_maker(value)
            continue
        if JIT and isinstance(value, FunctionType) and value in parts:
            names[name] = _external(value)
            continue
        if isinstance(value, foreign.Foreign):
            names[name] = _foreign(value, by_address) if JIT else value
            continue
        scalar = scalar_of(value)
        if (
            scalar is None
            and isinstance(value, FunctionType)
            and value.__module__.startswith("tapegrad.")
            and name not in primitives()
        ):
            scalar = value
        if scalar is not None:
            names[name] = inlined(scalar, scalar_of, by_address)
    rebound = FunctionType(code, names, function.__name__, function.__defaults__, function.__closure__)
    rebound.__annotations__ = function.__annotations__
    return rebound if JIT else _given_addresses(rebound)


def _given_addresses(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function in plain Python, which is called with addresses of records."""
    known = records_of(function)
    if not known:
        return function
    names = inspect.signature(function).parameters

    def called(*arguments: Any) -> Any:
        return function(
            *(records.View(known[name], a) if name in known else a for name, a in zip(names, arguments, strict=True))
        )

    return called


def _external(part: Any) -> Any:
    """A part for compiled code that calls it."""
    from numba import types

    if CHECKED:  # Numba links what it compiles at once
        _resolve(parts[part])
    return types.ExternalFunction(parts[part], types.int64(*[types.int64] * part.__code__.co_argcount))


@functools.cache
def _foreign(function: foreign.Foreign, by_address: bool) -> Any:
    """A function of SciPy's for compiled code that calls it, in the width of its operands."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    if not by_address:
        _resolve(function.symbol)  # Numba links what it compiles at once
    double, word = ir.DoubleType(), ir.IntType(32)
    if function.result is None:
        kind = ir.FunctionType(double, [double] * function.arity + [word])
    else:
        kind = ir.FunctionType(ir.VoidType(), [double] * function.arity + [double.as_pointer()] * 2)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if by_address:  # Numba keeps no code on disk that has one in it
            address = context.add_dynamic_addr(builder, foreign.address(function.symbol), function.symbol)
            code = builder.bitcast(address, kind.as_pointer())
        else:
            code = cgutils.get_or_insert_function(builder.module, kind, function.symbol)
        given = zip(args, signature.args, strict=True)
        wide = [context.cast(builder, value, narrow, types.float64) for value, narrow in given]
        if function.result is None:
            result = builder.call(code, [*wide, word(0)])
        else:
            results = [cgutils.alloca_once(builder, double) for _ in range(2)]
            builder.call(code, [*wide, *results])
            result = builder.load(results[function.result])
        return context.cast(builder, result, types.float64, signature.return_type)

    def choose(*operands: Any) -> Any:
        number = types.float32 if all(operand == types.float32 for operand in operands) else types.float64
        return number(*[number] * len(operands)), codegen

    names = ", ".join("abcd"[: function.arity])
    scope = {"choose": choose}
    exec(f"def called(typingctx, {names}):\n return choose({names})", scope)
    return intrinsic(scope["called"])


@functools.cache
def _record_maker(record: Any) -> Callable[..., Any]:
    """What makes a record of an address, for compiled code."""
    if not JIT:
        return functools.partial(records.View, record)
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def at(typingctx: Any, address: Any) -> Any:
        return records.compiled(CHECKED)(record)(types.int64), lambda context, builder, signature, args: args[0]

    return at


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


def keep(name: str, n_arguments: int, build: Callable[[], Callable[..., Any]], of: tuple[Any, ...]) -> bool:
    """Compile a function that returns an int64 into the cache; False if it is there."""
    name = symbol(name, *of)
    with cache.claimed(f"{name}.o"), compiling(), _lock:
        if cache.holds(f"{name}.o"):
            return False
        cache.write(f"{name}.o", *_compile(name, n_arguments, build(), returns=True))
    return True


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Numba's lock, under which no garbage is looked for: a compiler makes much that stays, and many searches.

    Nor is Numba told of each call of LLVM, whose time it keeps for each function on the way to what is compiled.
    """
    from numba.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        was_enabled = gc.isenabled()
        lock: Any = getattr(llvm.ffi.lib, "_lock", None)
        timers = getattr(lock, "_cblist", None)  # llvmlite's own: another version may have it elsewhere
        gc.disable()
        if timers is not None:
            lock._cblist = []
        try:
            yield
        finally:
            if timers is not None:
                lock._cblist = timers
            if was_enabled:
                gc.enable()


def _obtain(name: str, function: str, compiled: Callable[[], tuple[dict[str, Any], bytes]]) -> int:
    """The address of a function in an entry, which is compiled where there is none, or none that can be linked.

    Numba's lock is taken before ours: a thread that compiles a user's function asks for kernels. No lock is held while
    what is compiled is linked, with what it calls: that may be what other threads and processes compile.
    """
    known = cache.read(f"{name}.o")
    if known is not None:
        with contextlib.suppress(KeyError, TypeError, RuntimeError):  # it isn't what its checksum makes it seem
            if address := _load(name, function, *known):
                return address
    with cache.claimed(f"{name}.o"), compiling(), _lock, interrupts.later():
        entry = cache.read(f"{name}.o")
        if entry is None or entry == known:
            entry = compiled()
            cache.write(f"{name}.o", *entry)
    return _load(name, function, *entry)


def _compile(name: str, n_arguments: int, function: Callable[..., Any], returns: bool) -> tuple[dict[str, Any], bytes]:
    from numba import cfunc, types

    machine = _machine()
    known = records_of(function)
    arguments = tuple(
        records.compiled(CHECKED)(known[n]) if n in known else types.int64
        for n in function.__code__.co_varnames[:n_arguments]
    )
    if CHECKED:
        result = types.int64 if returns else types.void
        compiled = cfunc(result(*arguments), nopython=True, error_model="numpy")(function)
        module, entry = llvm.parse_assembly(compiled.inspect_llvm()), compiled.native_name
    else:
        unoptimised, entry = part_compiler()[1](function, arguments, returns)
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
    from numba import types

    kinds = [getattr(types, "boolean" if d is BOOL else d.name) for d in DTYPES]
    signature = kinds[result](*(kinds[code] for code in codes))
    module, scalar = scalar_compiler()(getattr(function, "py_func", function), signature)
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
    """Link C functions in LLVM assembly, one of which is called `name`: from the disk, or compiled and kept.

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


def _load(name: str, function: str, header: dict[str, Any], code: bytes) -> int:
    """Link an entry, once. The parts that it calls are linked first, while no lock is held: they may be compiled."""
    for symbol in header["needs"]:
        _resolve(symbol)
    with _lock:
        if name in _linked:
            return _linked[name]
        if not _engines:
            _engines.append(llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine()))
        engine = _engines[0]
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        address: int = engine.get_function_address(function)
        if address:
            _linked[name] = address
        return address


def _resolve(symbol: str) -> None:
    """Make a symbol known to the linker: a part is linked when the first that calls it is.

    Numba's wrapper refers to helpers for exceptions and reference counts, which this code never reaches unless bounds
    are checked: then Numba makes them known. Without Numba in the process they lead to `abort`.
    """
    if CHECKED and symbol.startswith(("numba_", "NRT_")):
        from numba.core import registry

        registry.cpu_target.target_context.refresh()
    if llvm.address_of_symbol(symbol) is not None:
        return
    if symbol in linkers:
        llvm.add_symbol(symbol, linkers[symbol]())
        return
    if foreign.is_symbol(symbol):
        llvm.add_symbol(symbol, foreign.address(symbol))
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
        function = np.errstate(all="ignore")(_functions[address - 1])  # compiled arithmetic doesn't warn either
        return lambda *arguments: int(function(*arguments))
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * n_arguments)(address)
