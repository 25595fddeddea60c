"""A user's function again, for active scalars: the same Python code, compiled with other meanings of a few names.

Between Numba's translation of the bytecode and its type inference, the intermediate code is rewritten:

- small jitted functions that it calls are put in its place, so that a statement can reach across the call; the others
  become `ActiveDispatcher`s in turn, when they are called with active arguments;
- NumPy's functions, and methods of arrays, become those of `arrays.py` and `linalg.py`;
- lists of floats become lists of active scalars, since an active value may be stored into them.

After type inference every construct that an active value meets is looked up among those that are known to be
differentiated. One that isn't is an error that names it: see `errors.py`.
"""

from __future__ import annotations

import dis
import functools
import types as pytypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core import compiler, ir, ir_utils, postproc, sigutils, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.datamodel import models
from numba.core.dispatcher import ObjModeLiftedWith
from numba.core.imputils import lower_constant
from numba.core.inline_closurecall import InlineWorker, callee_ir_validator
from numba.core.registry import CPUDispatcher
from numba.core.typeconv import Conversion
from numba.core.typed_passes import NativeLowering, NopythonRewrites, NopythonTypeInference
from numba.core.typing import signature
from numba.core.typing.templates import make_concrete_template
from numba.core.untyped_passes import FixupArgs, InlineInlinables
from numba.extending import register_model
from numba.typed import Dict, List

from tapegrad.jitted import bindings, checking, choices
from tapegrad.jitted.active import Active, ActiveRecord, Complex, Independents, Narrow, Taped, holds_active
from tapegrad.jitted.beside import Beside
from tapegrad.jitted.errors import NotDifferentiableError, where_is_function
from tapegrad.jitted.expressions import Rewrites
from tapegrad.jitted.inner import InnerLowering, Pass, Pipeline, TypeInference, replace_pass
from tapegrad.jitted.lowering import StatementLower
from tapegrad.jitted.marking import MarkingLower
from tapegrad.jitted.outlining import Substitute
from tapegrad.jitted.signatures import IN_PLACE
from tapegrad.jitted.tuples import TakeApart, is_named_tuple

MAX_INLINED = 200  # instructions of bytecode

# What NumPy's functions become, and methods of arrays: filled by `arrays.py` and those beside it.
FUNCTIONS: dict[Any, Any] = {np.complex128: complex}
METHODS: dict[str, Any] = {}
ATTRIBUTES: dict[str, Any] = {}  # likewise, attributes
ITERATING: dict[Any, Any] = {}  # functions of Python's that go through tuples, and what makes these ready
REPLACED: list[Callable[[Any], Any]] = []  # what finds replacements of objects that users make: `vectorised.py`
WITHOUT_HASH: list[Callable[[Any], Any]] = []  # those of them that are asked of objects without a hash: `addresses.py`
NESTS: list[Callable[[Any, Any], bool]] = []  # what puts calls of nests before loops: `nest_calls.py`
AFTER_TYPES: list[Any] = []  # the pass that does so for straight code: `stretches.py`
LIMITED: list[Callable[[Active], Any]] = []  # what makes the pass that cuts loops out: `limits.py`
PARALLEL: list[Any] = []  # the pass that cuts out loops that run in parallel: `parallel_loops.py`


class ActiveFunction(types.Dispatcher):  # type: ignore[misc]
    """The type of an `ActiveDispatcher`: as a value it is nothing, since the type tells all.

    Numba's own has the dispatcher's address in this process for a value, which keeps the code that is given one as an
    argument from being kept on disk.
    """

    def unify(self, typingctx: Any, other: Any) -> Any:
        """A choice between this function and others."""
        return choices.union(self, other)

    def can_convert_to(self, typingctx: Any, other: Any) -> Any:
        """It is one of a choice."""
        return Conversion.safe if isinstance(other, choices.Choice) and self in other.functions else None


register_model(ActiveFunction)(models.OpaqueModel)


@lower_constant(ActiveFunction)
def _nothing(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.get_constant_null(kind)


class ActiveDispatcher(CPUDispatcher):  # type: ignore[misc]
    """A user's jitted function, compiled for arguments that are active; the function itself for others."""

    def __init__(
        self,
        original: Any,
        kind: Active,
        names: dict[str, Any] | None = None,
        is_marked: bool = False,
        is_limited: bool = False,
    ) -> None:
        function = original.py_func
        if original.targetoptions.get("forceobj"):
            raise NotDifferentiableError(
                f"`{function.__name__}`, which is run by Python, not compiled (forceobj=True)",
                where_is_function(function), "jit it with numba.njit",
            )  # fmt: skip
        copied = bindings.rebound(function, names or {})
        copied.__kwdefaults__, copied.__module__ = function.__kwdefaults__, function.__module__
        copied.__qualname__ = f"{function.__qualname__}${kind}"
        kept = ("fastmath", "error_model", "boundscheck", "_nrt", "forceinline")
        options = {name: value for name, value in original.targetoptions.items() if name in kept}
        options |= {"nopython": True, "nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        ours = {types.float64: kind, types.float32: Narrow(kind), types.complex128: Complex(kind)}
        known = {name: ours.get(given, given) for name, given in original.locals.items()}
        super().__init__(
            copied, locals=known, targetoptions=options,
            pipeline_class=pipeline(kind, is_marked, is_limited, bool(original.targetoptions.get("parallel"))),
        )  # fmt: skip
        self.original, self.kind, self.is_marked, self.is_limited = original, kind, is_marked, is_limited
        self.is_version, self._versions = bool(names), dict[tuple[tuple[str, int], ...], ActiveDispatcher]()
        self._type = ActiveFunction(self)
        self.typingctx._remove_global(self)
        self.typingctx.insert_global(self, self._type)

    @property
    def _numba_type_(self) -> Any:
        return ActiveFunction(self)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """As Numba asks for it, when it types a call."""
        if not any(holds_active(a) for a in (*args, *kws.values())):
            return self.original.get_call_template(args, kws)
        parameters, args = self._compiler.fold_argument_types(args, kws)
        if args and isinstance(args[-1], types.StarArgTuple):
            args = (*args[:-1], _uniform(args[-1]))
        declared = None if self.original._can_compile else self._declared(args)
        taken = args if declared is None else declared.args
        version = self._version(taken)
        version.compile(taken if declared is None or declared.return_type != self.kind else declared)
        found = version.overloads[tuple(taken)].signature
        if declared is not None and not _agree(found.return_type, declared.return_type):
            raise self._conversion(found.return_type, declared.return_type)
        return make_concrete_template(self.__name__, self.__name__, [found]), parameters, args, {}

    def _declared(self, args: Any) -> Any:
        """The signature for such arguments, of those that the function declares: with active types for float64."""
        wanted = [plain(a) for a in args]
        found = self.original._type.get_call_type(self.typingctx, wanted, {})
        if found is None:
            listed = ", ".join(map(str, wanted))
            raise NotDifferentiableError(
                f"`{self.original.py_func.__name__}({listed})`", where_is_function(self.original.py_func),
                "none of the signatures that it declares is for these arguments",
            )  # fmt: skip
        for given, wanted in zip(args, found.args, strict=True):
            if holds_active(given) and not _agree(given, wanted):
                raise self._conversion(given, wanted)
        taken = [g if holds_active(g) else w for g, w in zip(args, found.args, strict=True)]
        return signature(self.kind if found.return_type == types.float64 else found.return_type, *taken)

    def _conversion(self, given: Any, wanted: Any) -> NotDifferentiableError:
        function = self.original.py_func
        return NotDifferentiableError(
            f"`{function.__name__}`, whose signature converts {plain(given)} with derivatives to {wanted}",
            where_is_function(function), "declare float64, or no signature",
        )  # fmt: skip

    def get_overload(self, sig: Any) -> Any:
        """As Numba asks for it, when it lowers a call."""
        args = sigutils.normalize_signature(sig)[0]
        if not any(holds_active(a) for a in args):
            return self.original.get_overload(sig)
        version = self._version(args)
        return super().get_overload(sig) if version is self else version.get_overload(sig)

    def get_compile_result(self, sig: Any) -> Any:
        """As Numba asks for it, when it links."""
        version = self._version(sigutils.normalize_signature(sig)[0])
        return super().get_compile_result(sig) if version is self else version.get_compile_result(sig)

    def _version(self, args: Any) -> ActiveDispatcher:
        """What is compiled for arguments: the function with the meanings that names have in the plain one."""
        if self.is_version or not self.original.overloads:
            return self
        names = bindings.bound(self.original, args)
        if not names:
            return self
        key = tuple(sorted((name, id(value)) for name, value in names.items()))
        if key not in self._versions:
            self._versions[key] = ActiveDispatcher(self.original, self.kind, names, self.is_marked, self.is_limited)
        return self._versions[key]


def _uniform(rest: Any) -> Any:
    """The type of further arguments, which are of one type where they are in the plain function."""
    is_one = all(isinstance(kind, (Active, types.Float)) for kind in rest) and len({plain(kind) for kind in rest}) == 1
    found = next((kind for kind in rest if isinstance(kind, Active)), None) if is_one else None
    return rest if found is None else types.StarArgUniTuple(found, len(rest))


def plain(kind: Any) -> Any:
    """The type that an active one stands for."""
    if isinstance(kind, Active):
        return types.float64
    if isinstance(kind, Complex):
        return types.complex128
    if isinstance(kind, Narrow):
        return types.float32
    if isinstance(kind, ActiveRecord):
        return kind.original
    if isinstance(kind, ActiveFunction):
        return kind.dispatcher.original._type
    if isinstance(kind, Independents):
        return kind.array
    if isinstance(kind, (types.Array, types.List)):
        return kind.copy(dtype=plain(kind.dtype))
    if isinstance(kind, types.ListType):
        return types.ListType(plain(kind.item_type))
    if isinstance(kind, types.DictType):
        return types.DictType(kind.key_type, plain(kind.value_type))
    if isinstance(kind, types.BaseNamedTuple):
        return types.BaseTuple.from_types([plain(part) for part in kind], kind.instance_class)
    return types.BaseTuple.from_types([plain(part) for part in kind]) if isinstance(kind, types.BaseTuple) else kind


def _agree(given: Any, wanted: Any) -> bool:
    """Whether a value of a type, which may be active, is of the wanted one as it is, however it is laid out."""
    if isinstance(given, types.Array) and isinstance(wanted, types.Array):
        return given.ndim == wanted.ndim and _agree(given.dtype, wanted.dtype)
    return given == wanted or plain(given) == wanted


_stand_ins = Beside[dict[Any, Any]]("stand_ins")


def active(original: Any, kind: Active, is_marked: bool = False, is_limited: bool = False) -> Any:
    """The dispatcher that stands in for the user's where values are active; if asked for, one that marks its lines.

    Or one whose loops are checkpointed by themselves, where memory is limited.
    """
    if isinstance(original, ActiveDispatcher):
        return original
    known, form = _stand_ins.setdefault(original, {}), (kind, is_marked, is_limited)
    if form not in known:
        if original in bindings.SPECIAL:
            known[form] = bindings.SPECIAL[original](original, kind, is_marked)
        else:
            known[form] = ActiveDispatcher(original, kind, is_marked=is_marked, is_limited=is_limited)
    return known[form]


def forget() -> None:
    """Have functions compiled again: what their code means has changed."""
    _stand_ins.clear()


@functools.cache
def pipeline(kind: Active, is_marked: bool = False, is_limited: bool = False, is_parallel: bool = False) -> Any:
    """Numba's passes, with ours between them."""

    class ActivePipeline(Pipeline):
        def define_pipelines(self) -> Any:
            passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
            if self.state.func_ir is None:
                passes.add_pass_after(Substitute, FixupArgs)
            passes.add_pass_after(_rewriting_pass(kind, is_marked, is_limited), InlineInlinables)
            if isinstance(kind, Taped) and not kind.n_tangents:
                passes.add_pass_after(Nests, InlineInlinables)
            if is_limited:
                passes.add_pass_after(LIMITED[0](kind), InlineInlinables)
            elif is_parallel and kind == Taped(0) and not is_marked:
                passes.add_pass_after(PARALLEL[0], InlineInlinables)
            passes.add_pass_after(TakeApart, InlineInlinables)
            passes.add_pass_after(Inline, InlineInlinables)
            replace_pass(passes, NopythonTypeInference, TypeInference)
            passes.add_pass_after(Check, TypeInference)
            replace_pass(passes, NopythonRewrites, Rewrites)
            if isinstance(kind, Taped) and not kind.n_tangents:
                passes.add_pass_after(AFTER_TYPES[0], Rewrites)
            replace_pass(passes, NativeLowering, MarkingLowering if is_marked else Lowering)
            return [passes]

    return ActivePipeline


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(InnerLowering):
    """Lowering by `plan.py`."""

    _name = "tapegrad_lowering"

    @property
    def lowering_class(self) -> Any:
        """What lowers."""
        return StatementLower


@register_pass(mutates_CFG=True, analysis_only=False)
class MarkingLowering(InnerLowering):
    """The same, of a function that is explained."""

    _name = "tapegrad_marking_lowering"

    @property
    def lowering_class(self) -> Any:
        """What lowers."""
        return MarkingLower


@register_pass(mutates_CFG=False, analysis_only=True)
class Check(AnalysisPass):  # type: ignore[misc]
    """Whether all that active values meet is differentiated."""

    _name = "tapegrad_check"

    def __init__(self) -> None:
        AnalysisPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        """Raise where it isn't."""
        checking.check(state.func_ir, state.typemap, state.calltypes)
        return False


@register_pass(mutates_CFG=True, analysis_only=False)
class Nests(Pass):
    """Put calls of nests of loops before these."""

    _name = "tapegrad_nests"

    def run_pass(self, state: Any) -> bool:
        """Find them."""
        if state.locals:
            return False
        found = False
        for insert in NESTS:
            found |= insert(state.func_ir, state.flags)
        if found:
            postproc.PostProcessor(state.func_ir).run()
        return found


@register_pass(mutates_CFG=True, analysis_only=False)
class Inline(Pass):
    """Put small jitted functions in the place of their calls."""

    _name = "tapegrad_inline"

    def run_pass(self, state: Any) -> bool:
        """Do so until none is left."""
        worker = InlineWorker(state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags,
                              validator=callee_ir_validator)  # fmt: skip
        waiting, found, budget = list(state.func_ir.blocks.values()), False, 40
        repeated = _repeated(state.func_ir)
        while waiting and budget:
            block = waiting.pop()
            for i, statement in enumerate(block.body):
                callee = _called(state.func_ir, statement)
                if (
                    callee is not None
                    and callee.py_func is not state.func_id.func
                    and _is_small(callee, statement, id(block) in repeated)
                    and _is_alike(callee, state.flags)
                ):
                    blocks = worker.inline_function(state.func_ir, block, i, callee.py_func)[3]
                    waiting += [known for _, known in blocks]
                    found, budget = True, budget - 1
                    break
        if found:
            for dead in compute_cfg_from_blocks(state.func_ir.blocks).dead_nodes():
                del state.func_ir.blocks[dead]
            postproc.PostProcessor(state.func_ir).run()
            state.func_ir.blocks = ir_utils.simplify_CFG(state.func_ir.blocks)
        return found


def _called(func_ir: Any, statement: Any) -> Any:
    """The jitted function that a statement calls, or None."""
    if not isinstance(statement, ir.Assign) or not isinstance(statement.value, ir.Expr) or statement.value.op != "call":
        return None
    value = resolve(func_ir, statement.value.func)
    if not isinstance(value, CPUDispatcher) or value in bindings.SPECIAL or bindings.is_stale(value):
        return None
    return value


def _repeated(func_ir: Any) -> set[int]:
    """The blocks that are in loops."""
    cfg = compute_cfg_from_blocks(func_ir.blocks)
    return {id(func_ir.blocks[label]) for loop in cfg.loops().values() for label in loop.body}


def _is_small(callee: Any, statement: Any, is_repeated: bool) -> bool:
    """Whether it is straight code, or nearly so, and called plainly; in a loop it may have loops over ranges."""
    code, call = callee.py_func.__code__, statement.value
    if call.kws or call.vararg is not None or len(call.args) != code.co_argcount or code.co_flags & 0x2C:
        return False  # varargs, keywords, a generator
    instructions = list(dis.get_instructions(code))
    names = {i.opname for i in instructions}
    if len(instructions) > MAX_INLINED or names & {"MAKE_FUNCTION", "SETUP_FINALLY", "PUSH_EXC_INFO", "RAISE_VARARGS"}:
        return False
    has_loops = any("BACKWARD" in name or name == "FOR_ITER" for name in names)
    has_ranges = "FOR_ITER" in names and "range" in code.co_names and len(instructions) <= MAX_INLINED // 2
    return (not has_loops or (is_repeated and has_ranges)) and callee.py_func.__name__ not in code.co_names


def _is_alike(callee: Any, flags: Any) -> bool:
    """Whether its code means the same under a caller's flags: then it can stand there."""
    own = compiler.Flags()
    callee.targetdescr.options.parse_as_flags(own, callee.targetoptions)
    same = all(getattr(own, name) == getattr(flags, name) for name in ("error_model", "fastmath", "boundscheck"))
    if callee.targetoptions.get("parallel") and "prange" in bindings.names_of(callee.py_func.__code__):
        return False  # its loops would be the caller's, which may be none of those that run in parallel
    return same and callee._can_compile and not callee.locals  # declared signatures, and types of locals, convert


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def resolve(func_ir: Any, variable: Any) -> Any:
    """The Python object that a variable is bound to, through modules; None where it isn't known."""
    definition = ir_utils.guard(ir_utils.get_definition, func_ir, variable)
    if isinstance(definition, (ir.Global, ir.FreeVar)):
        return definition.value
    if isinstance(definition, ir.Expr) and definition.op == "getattr":
        owner = resolve(func_ir, definition.value)
        if isinstance(owner, (pytypes.ModuleType, type)):
            return getattr(owner, definition.attr, None)
    return None


def _tells_nothing(called: Any) -> bool:
    """Whether it is an `objmode` block from which no number with a derivative comes back."""
    if not isinstance(called, ObjModeLiftedWith):
        return False
    constant = (types.Integer, types.Boolean, types.UnicodeType, types.NoneType)
    return all(isinstance(kind, constant) for kind in called.output_types)


@functools.cache
def _rewriting_pass(kind: Active, is_marked: bool, is_limited: bool) -> Any:
    @register_pass(mutates_CFG=False, analysis_only=False)
    class Rewrite(Pass):
        _name = f"tapegrad_rewrite_{kind}_{is_marked}_{is_limited}"

        def run_pass(self, state: Any) -> bool:
            _Rewriter(state.func_ir, kind, is_marked, is_limited).run()
            return True

    return Rewrite


class _Rewriter:
    def __init__(self, func_ir: Any, kind: Active, is_marked: bool, is_limited: bool) -> None:
        self.func_ir, self.kind, self.is_marked, self.is_limited, self.n = func_ir, kind, is_marked, is_limited, 0
        self.telling_nothing = set[str]()  # variables that are `objmode` blocks, which are called next

    def run(self) -> None:
        for block in self.func_ir.blocks.values():
            body: list[Any] = []
            for statement in block.body:
                if isinstance(statement, ir.Assign):
                    if isinstance(statement.value, ir.Const) and _tells_nothing(statement.value.value):
                        self.telling_nothing.add(statement.target.name)
                    self.assignment(statement, body)
                elif isinstance(statement, (ir.SetItem, ir.StaticSetItem)) and self.is_dictionary(statement.target):
                    statement.value = self.promoted(statement.value, statement, body)
                elif isinstance(statement, ir.Print):
                    statement.args = [
                        a if k in statement.consts else self.shown(a, statement, body)
                        for k, a in enumerate(statement.args)
                    ]
                elif isinstance(statement, (ir.DynamicRaise, ir.DynamicTryRaise)):
                    statement.exc_args = tuple(
                        self.shown(a, statement, body) if isinstance(a, ir.Var) else a for a in statement.exc_args
                    )
                body.append(statement)
            block.body = body
        for block in self.func_ir.blocks.values():  # only now: calls are resolved through what assignments were
            for statement in block.body:
                if isinstance(statement, ir.Assign):
                    self.name(statement)

    def name(self, statement: Any) -> None:
        """A global name, or an attribute of a module, gets its other meaning."""
        value = statement.value
        if not (isinstance(value, (ir.Global, ir.FreeVar)) or (isinstance(value, ir.Expr) and value.op == "getattr")):
            return
        known = value.value if isinstance(value, (ir.Global, ir.FreeVar)) else resolve(self.func_ir, statement.target)
        other = self.replacement(known)
        if other is not None:
            statement.value = ir.Global(f"tapegrad.{getattr(known, '__name__', 'function')}", other, value.loc)

    def replacement(self, known: Any) -> Any:
        """What to take in the place of a Python object; None to leave it."""
        if isinstance(known, CPUDispatcher):
            return active(known, self.kind, self.is_marked, self.is_limited)
        is_hashable = _is_hashable(known)
        other = FUNCTIONS.get(known) if is_hashable else None
        if other is None:
            finders = REPLACED if is_hashable else WITHOUT_HASH
            other = next(filter(None, (find(known) for find in finders)), None)
        return other.of(self.kind) if hasattr(other, "of") else None

    def assignment(self, statement: Any, before: list[Any]) -> None:
        """Calls of methods, lists, and calls of conversions."""
        value = statement.value
        if not isinstance(value, ir.Expr):
            return
        if value.op == "inplace_binop":
            value.fn = IN_PLACE.get(value.fn, value.fn)
        elif value.op == "getattr" and value.attr in ATTRIBUTES and resolve(self.func_ir, value.value) is None:
            called = ATTRIBUTES[value.attr].of(self.kind)
            statement.value = ir.Expr.call(
                self.variable(ir.Global(f"tapegrad.{value.attr}", called, value.loc), statement, before),
                (value.value,), (), value.loc,
            )  # fmt: skip
        elif value.op == "call":
            function = resolve(self.func_ir, value.func)
            definition = ir_utils.guard(ir_utils.get_definition, self.func_ir, value.func)
            if isinstance(function, type) and function in FUNCTIONS:
                value.func = self.variable(ir.Global("float", FUNCTIONS[function], value.loc), statement, before)
            elif (function is max or function is min) and len(value.args) > 2:
                first = value.args[0]
                for argument in value.args[1:-1]:
                    call = ir.Expr.call(value.func, (first, argument), (), value.loc)
                    first = self.variable(call, statement, before)
                statement.value = ir.Expr.call(value.func, (first, value.args[-1]), (), value.loc)
            elif value.func.name in self.telling_nothing:
                value.args = [self.lent(a, statement, before) for a in value.args]
            elif _is_hashable(function) and function in ITERATING:
                value.args = [
                    self.of(ITERATING[function], a, statement, before) if self.is_tuple(a) else a for a in value.args
                ]
            elif is_named_tuple(function) and self.is_one_of_several(statement.target.name):
                value.args = [self.promoted(a, statement, before) for a in value.args]
                value.kws = [(name, self.promoted(a, statement, before)) for name, a in value.kws]
            elif _is_hashable(function) and function in (List.empty_list, Dict.empty):
                arguments = [self.promoted_type(a, statement, before) for a in value.args]
                statement.value = ir.Expr.call(value.func, arguments, [
                    (name, self.promoted_type(a, statement, before)) for name, a in value.kws
                ], value.loc)  # fmt: skip
            elif function is None and isinstance(definition, ir.Expr) and definition.op == "getattr":
                if definition.attr in ("append", "insert", "add", "__setitem__"):  # this of comprehensions
                    of_set = definition.attr == "add"
                    value.args = [self.promoted(a, statement, before, not of_set) for a in value.args]
                method = METHODS.get(definition.attr)
                if method is not None and method.takes(value):
                    called = self.variable(
                        ir.Global(f"tapegrad.{definition.attr}", method.of(self.kind), value.loc), statement, before
                    )
                    arguments = [definition.value, *value.args]
                    statement.value = ir.Expr.call(called, arguments, value.kws, value.loc, vararg=value.vararg)
        elif value.op in ("build_list", "build_set"):
            value.items = [self.promoted(item, statement, before, value.op == "build_list") for item in value.items]
        elif value.op == "build_map":
            value.items = [(key, self.promoted(item, statement, before, True)) for key, item in value.items]

    def promoted(self, item: Any, statement: Any, before: list[Any], within: bool = False) -> Any:
        """An item of a list: a float becomes active, since what is put there later may be; `within` tuples, too."""
        return self.of(checking.promote_to(self.kind, within), item, statement, before)

    def is_dictionary(self, variable: Any) -> bool:
        """Whether a variable may be a dictionary that was made here, whose type Numba takes from what is put in."""
        waiting, seen, is_found = [variable], set[str](), False
        while waiting and not is_found:
            name = waiting.pop().name
            if name in seen:
                continue
            seen.add(name)
            for definition in self.func_ir._definitions.get(name, ()):
                if isinstance(definition, ir.Var):
                    waiting.append(definition)
                elif isinstance(definition, ir.Expr) and definition.op == "phi":
                    waiting += [value for value in definition.incoming_values if isinstance(value, ir.Var)]
                elif isinstance(definition, ir.Expr) and definition.op == "build_map":
                    is_found = True
                elif isinstance(definition, ir.Expr) and definition.op == "call":
                    is_found |= resolve(self.func_ir, definition.func) in (Dict, dict)
        return is_found

    def is_one_of_several(self, name: str) -> bool:
        """Whether a variable, or one that is given its value, has other values too; or it is returned."""
        waiting, seen = [name], set[str]()
        while waiting:
            name = waiting.pop()
            if len(self.func_ir._definitions.get(name, ())) > 1:
                return True
            seen.add(name)
            for block in self.func_ir.blocks.values():
                for statement in block.find_insts(ir.Assign):
                    value, target = statement.value, statement.target.name
                    op = value.op if isinstance(value, ir.Expr) else ""
                    if op == "cast" and value.value.name == name:
                        return True
                    read = value.items if op == "build_tuple" else [value]  # several names may be assigned at once
                    read = [value.value] if op in ("exhaust_iter", "static_getitem") else read
                    if target not in seen and any(isinstance(x, ir.Var) and x.name == name for x in read):
                        waiting.append(target)
        return False

    def is_tuple(self, variable: Any) -> bool:
        """Whether a variable is a tuple that was built here."""
        definition = ir_utils.guard(ir_utils.get_definition, self.func_ir, variable)
        return isinstance(definition, ir.Expr) and definition.op == "build_tuple"

    def shown(self, item: Any, statement: Any, before: list[Any]) -> Any:
        """An item that is printed, or told by an error: its values."""
        from tapegrad.jitted.lifting import strip

        return self.of(strip, item, statement, before)

    def lent(self, item: Any, statement: Any, before: list[Any]) -> Any:
        """What an `objmode` block is given: values."""
        from tapegrad.jitted.lifting import lent

        return self.of(lent, item, statement, before)

    def of(self, function: Any, item: Any, statement: Any, before: list[Any]) -> Any:
        """A function of ours, of a variable."""
        named = self.variable(ir.Global(f"tapegrad.{function.__name__}", function, statement.loc), statement, before)
        return self.variable(ir.Expr.call(named, (item,), (), statement.loc), statement, before)

    def promoted_type(self, argument: Any, statement: Any, before: list[Any]) -> Any:
        """A type argument: float64 becomes the active type."""
        if resolve(self.func_ir, argument) is types.float64:
            return self.variable(ir.Global(str(self.kind), self.kind, statement.loc), statement, before)
        return argument

    def variable(self, value: Any, statement: Any, before: list[Any]) -> Any:
        """A new variable of a value, assigned before the statement."""
        self.n += 1
        known = next(iter(statement.list_vars()))
        variable = known.scope.redefine(f"$tapegrad{self.n}", statement.loc, rename=True)
        before.append(ir.Assign(value, variable, statement.loc))
        self.func_ir._definitions[variable.name] = [value]
        return variable
