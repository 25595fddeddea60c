"""How parts of the core are compiled, and kernels: calls as Numba has them quickest, no more passes than they need.

A part is a function of the core that the linker knows (`part` in `memory.py`); the others are helpers, which become
part of it.
"""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import operator
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from tapegrad.memory import parts

_CORE = "tapegrad.core.", "tapegrad.native_recording", "tapegrad.native_steps", "tapegrad.jitted.jacobian_tape"


def is_core(function: Any) -> bool:
    """Whether a function is of the sweeps, of recording, or of the scalar tape, which are compiled as parts."""
    return str(function.__module__).startswith(_CORE)


class _Inliner(ast.NodeTransformer):
    """Calls of the core's own functions as Numba has them quickest.

    All arguments are given, by position; and where a function is nothing but an expression, that is in the place of the
    call: Numba takes long over the least function.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names

    def visit_If(self, node: ast.If) -> Any:
        if isinstance(node.test, ast.Name) and self.names.get(node.test.id) is False:  # a debug mode
            return [self.visit(n) for n in node.orelse]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = self.names.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if not isinstance(called, FunctionType) or not is_core(called):
            return node
        bound = inspect.signature(called).bind(*node.args, **{k.arg: k.value for k in node.keywords if k.arg})
        bound.apply_defaults()
        given = [v if isinstance(v, ast.AST) else ast.Constant(v) for v in bound.args]
        node.args, node.keywords = given, []  # type: ignore[assignment]
        definition = _definition(called)
        body = definition.body[-1]
        described = len(definition.body) == 2 and ast.get_docstring(definition) is not None
        if called in parts or not described or not isinstance(body, ast.Return) or body.value is None:
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


def expanded(function: FunctionType) -> tuple[CodeType, dict[str, Any]]:
    """The code of a part with its calls written as Numba has them quickest, and the globals that it then needs."""
    names = dict(function.__globals__)
    waiting = list(names.values())
    for value in waiting:
        if isinstance(value, FunctionType) and is_core(value):
            new = {n: v for n, v in value.__globals__.items() if n not in names}
            names |= new
            waiting += new.values()
    tree = ast.Module([_Inliner(names).visit(_definition.__wrapped__(function))], [])
    ast.fix_missing_locations(tree)
    module = compile(tree, function.__code__.co_filename, "exec")
    return next(c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__), names


@functools.cache
def part_compiler() -> tuple[Callable[..., Any], Callable[..., tuple[Any, str]]]:
    """How code of ours is compiled: helpers, which are called, and a part or a kernel (gives a module, the name in it).

    Numba compiles a helper for each combination of argument types it is called with, with wrappers for Python and C and
    counts of references, and runs all of LLVM on each, callees included. Here are no wrappers, there is nothing to
    count, and LLVM sees a part once, whole: half of the time. In the core, every integer is an int64.
    """
    from numba.core import (
        compiler,
        compiler_machinery,
        dispatcher,
        lowering,
        registry,
        typed_passes,
        types,
        untyped_passes,
    )
    from numba.core.codegen import JITCodeLibrary
    from numba.core.runtime.context import NRTContext
    from numba.core.typing import Context

    class Library(JITCodeLibrary):  # type: ignore[misc]
        """The LLVM of a function and of what it calls, not optimised, not made machine code."""

        def _optimize_functions(self, module: Any) -> None:
            module.data_layout = self._codegen._data_layout

        def finalize(self) -> None:
            for library in dict.fromkeys(self._linking_libraries):
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
            self._finalized = True

    class Typing(Context):  # type: ignore[misc]
        """Looks once for what an operator or a builtin function is among types: Numba tries a dozen ways at a call."""

        def __init__(self, of_core: bool) -> None:
            super().__init__()
            self.of_core = of_core
            self.known: dict[Any, Any] = {}

        def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
            name = getattr(func, "typing_key", func)
            if kws or getattr(name, "__module__", None) not in ("_operator", "builtins"):
                return super().resolve_function_type(func, args, kws)
            if self.of_core and all(isinstance(a, types.Integer) for a in args):
                args = (types.int64,) * len(args)
            key = func, args
            if key not in self.known:
                self.known[key] = super().resolve_function_type(func, args, kws)
            return self.known[key]

    def lowering_with(typing: Typing) -> Any:
        class Lower(lowering.Lower):  # type: ignore[misc]
            """Takes what typing has found of an operator among numbers, and of an element.

            Numba looks for it anew, after it has looked for what constants among the operands could mean.
            """

            def init(self) -> None:
                super().init()
                # Nothing here owns memory: there are no references to count, but copies of slices that overlap.
                self.context.enable_nrt, self.context.nrt = False, NRTContext(self.context, enabled=True)

            def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
                signature = self.fndesc.calltypes[expr]
                of_numbers = all(isinstance(kind, (types.Number, types.Boolean)) for kind in signature.args)
                if op in (operator.pow, operator.ipow) or not of_numbers:  # constant exponents have code of their own
                    return super().lower_binop(resty, expr, op)
                return self._called(op, signature, (expr.lhs, expr.rhs), resty)

            def lower_getitem(self, resty: Any, _expr: Any, value: Any, index: Any, signature: Any) -> Any:
                return self._called(operator.getitem, signature, (value, index), resty)

            def _called(self, function: Any, signature: Any, operands: Any, result: Any) -> Any:
                context, builder = self.context, self.builder
                known = typing.resolve_value_type(function)
                signature = typing.resolve_function_type(known, signature.args, {})
                values = [
                    context.cast(builder, self.loadvar(operand.name), self.typeof(operand.name), kind)
                    for operand, kind in zip(operands, signature.args, strict=True)
                ]
                made = context.get_function(known, signature)(builder, values)
                return context.cast(builder, made, signature.return_type, result)

        @compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)
        class Lowering(typed_passes.NativeLowering):  # type: ignore[misc]
            _name = "lowering"
            lowering_class = Lower

        return Lowering

    target, of_core, of_kernels = registry.cpu_target, Typing(of_core=True), Typing(of_core=False)
    core_lowering, kernel_lowering = lowering_with(of_core), lowering_with(of_kernels)

    class Compiler(compiler.CompilerBase):  # type: ignore[misc]
        """Only what the core needs of Numba's passes: most are for Python that isn't in it."""

        def define_pipelines(self) -> list[Any]:
            passes = compiler_machinery.PassManager("core")
            for done_by in (
                untyped_passes.TranslateByteCode, untyped_passes.FixupArgs, untyped_passes.IRProcessing,
                untyped_passes.ReconstructSSA, typed_passes.NopythonTypeInference, typed_passes.PreLowerStripPhis,
                core_lowering, typed_passes.NoPythonBackend,
            ):  # fmt: skip
                passes.add_pass(done_by, done_by.__name__)
            passes.finalize()
            return [passes]

    class KernelCompiler(compiler.CompilerBase):  # type: ignore[misc]
        """All passes of Numba's."""

        def define_pipelines(self) -> list[Any]:
            passes = compiler_machinery.PassManager("kernel")
            for done_by, name in compiler.DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
                passes.add_pass(kernel_lowering if done_by is typed_passes.NativeLowering else done_by, name)
            passes.finalize()
            return [passes]

    def compiled(function: Callable[..., Any], arguments: Any, result: Any, is_part: bool) -> Any:
        flags = compiler.Flags()
        flags.no_compile = flags.no_cpython_wrapper = flags.release_gil = flags.nrt = True
        flags.no_cfunc_wrapper, flags.error_model = not is_part, "numpy"
        library = Library(target.target_context.codegen(), function.__qualname__)
        library.enable_object_caching()
        typing, passes = (of_core, Compiler) if is_core(function) else (of_kernels, KernelCompiler)
        return compiler.compile_extra(
            typing, target.target_context, function, arguments, result, flags, {}, library, passes
        )

    class Helper(dispatcher.Dispatcher):
        """A function that is called by those that are compiled here, for all types that it is called with."""

        targetdescr = target
        _compiler: Any

        def compile(self, sig: Any) -> Any:
            if sig not in self.overloads:
                self.overloads[sig] = made = compiled(self.py_func, sig, None, is_part=False)
                target.target_context.insert_user_function(made.fndesc, made.fndesc, [made.library])

        def get_overload(self, arguments: Any) -> Any:
            return self.overloads[tuple(arguments)].fndesc

    class CoreHelper(Helper):
        """One of the core's."""

        def get_call_template(self, args: Any, kws: Any) -> Any:
            _, args = self._compiler.fold_argument_types(args, kws)
            args = tuple(types.int64 if isinstance(a, (types.Integer, types.Boolean)) else a for a in args)
            return super().get_call_template(args, {})

    def helper(function: Callable[..., Any]) -> Any:
        return (CoreHelper if is_core(function) else Helper)(function, targetoptions={"nopython": True})

    def part(function: Callable[..., Any], arguments: tuple[Any, ...], returns: bool) -> tuple[Any, str]:
        for context in (target.target_context, of_core, of_kernels, target.typing_context):
            context.refresh()
        result = types.int64 if returns else types.void
        made = compiled(function, arguments, result, is_part=True)
        made.library._ensure_finalized()
        return made.library._final_module, made.fndesc.llvm_cfunc_wrapper_name

    return helper, part


@functools.cache
def scalar_compiler() -> Callable[..., tuple[Any, str]]:
    """What compiles a function of elements, which loops are put around. It gives a module, and the name in it.

    Numba would make machine code of it alone, and a wrapper to call it by: the loops' is all that is called.
    """
    from numba import cfunc
    from numba.core import compiler
    from numba.core.codegen import JITCodeLibrary

    class Library(JITCodeLibrary):  # type: ignore[misc]
        """The LLVM of a function, optimised as Numba does."""

        def _finalize_final_module(self) -> None:
            self._finalized = True

        def get_pointer_to_function(self, _name: str) -> int:
            return 0

    class Compiler(compiler.Compiler):  # type: ignore[misc]
        """Numba's passes."""

        def define_pipelines(self) -> Any:
            state = self.state
            state.flags.no_cfunc_wrapper = True
            state.library = Library(state.targetctx.codegen(), state.func_id.func_qualname)
            return super().define_pipelines()

    def scalar(function: Callable[..., Any], signature: Any) -> tuple[Any, str]:
        made = cfunc(signature, nopython=True, error_model="numpy", pipeline_class=Compiler)(function)
        made._library._ensure_finalized()
        return made._library._final_module, made.native_name.removeprefix("cfunc.")

    return scalar
