"""Compilation of functions that are only ever part of others: without machine code of their own.

Numba gives every function machine code, and optimises it in full, before it is linked into its callers and optimised
again. What differentiated code is made of is called from nowhere else, so it is optimised a little, linked, and left to
the driver. It halves the time to the first gradient. What others may call as well (Numba's own functions, and the
user's, that a driver is the first to call) is treated likewise, and gets its machine code when it is asked for.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections import Counter
from typing import Any

import llvmlite.binding as llvm
from numba import config, njit
from numba.core import compiler, ir
from numba.core.bytecode import FunctionIdentity
from numba.core.codegen import JITCodeLibrary, RuntimeLinker, _parse_refprune_flags
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.environment import lookup_environment
from numba.core.lowering import Lower
from numba.core.registry import cpu_target
from numba.core.targetconfig import ConfigStack
from numba.core.typed_passes import BaseNativeLowering, NativeLowering, NopythonTypeInference

from tapegrad.jitted import jacobian_tape
from tapegrad.jitted.active import Dual
from tapegrad.kernels import native

# Numba numbers functions from 1 on in each process, and makes their symbols of names and numbers. Code from the disk
# has the numbers of another process: a driver, or a lambda in it, could be taken for one of the same name that has the
# same number here. So the numbers begin anywhere.
FunctionIdentity._unique_ids = itertools.count(int.from_bytes(os.urandom(6), "big"))


class InnerLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A library that is linked into others, and never run itself."""

    def _optimize_functions(self, module: Any) -> None:
        """Make them short: those of this library alone, since what is linked into it has been, too."""
        module.data_layout = self._codegen._data_layout
        passes = llvm.create_new_function_pass_manager()
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.add_instruction_combine_pass()
        passes.add_jump_threading_pass()
        if config.LLVM_REFPRUNE_PASS:
            passes.add_refprune_pass(_parse_refprune_flags())
        how = llvm.create_pass_builder(self._codegen._tm, llvm.create_pipeline_tuning_options(1))
        for function in module.functions:
            if not function.is_declaration:
                passes.run(function, how)

    def _optimize_final_module(self) -> None:
        _call_directly(self._final_module)

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """The module itself, with functions that callers may take or leave: it is used for nothing else."""
        self._ensure_finalized()
        if self._shared_module is None:
            self._shared_module = self._final_module
            for function in self._shared_module.functions:
                if not function.is_declaration and function.linkage == llvm.Linkage.external:
                    function.linkage = "linkonce_odr"
        return self._shared_module

    def get_pointer_to_function(self, name: str) -> int:
        """There is none."""
        return 0

    @property
    def codegen(self) -> Any:
        """The code generator, as far as it needs no machine code."""
        return _WithoutEnvironments(self._codegen, {})


class _WithoutEnvironments:
    """A code generator that sets no environments: Numba's constants for a function, at an address in machine code.

    What is linked sets them (see `OuterLowering`), or what gets machine code later, from `kept`.
    """

    def __init__(self, codegen: Any, kept: dict[str, Any]) -> None:
        self._codegen, self._kept = codegen, kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, environment: Any) -> None:
        """Keep it."""
        self._kept[name] = environment


class DeferredLibrary(InnerLibrary):
    """A library that gets its machine code when others than drivers, and what is linked into them, ask for it."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self._is_compiled = False
        self._environments: dict[str, Any] = {}

    def _finalize_final_module(self) -> None:
        if getattr(self, "_compiled_object", None) is None:
            super()._finalize_final_module()
        else:  # it comes from Numba's cache
            self._is_compiled = True
            JITCodeLibrary._finalize_final_module(self)

    def compile(self) -> None:
        """Make machine code, as Numba does at once."""
        if self._is_compiled:
            return
        self._is_compiled = True
        for library in self._linking_libraries:
            if isinstance(library, DeferredLibrary):
                library.compile()
        self._shared_module = None
        self._dynamic_globals.clear()
        JITCodeLibrary._optimize_final_module(self)
        JITCodeLibrary._finalize_final_module(self)
        for name, environment in self._environments.items():
            self._codegen.set_env(name, environment)

    def _get_module_for_linking(self) -> Any:
        if not is_deferring(self._codegen):
            self.compile()
        return JITCodeLibrary._get_module_for_linking(self)  # a copy: machine code may be made of the module itself

    def get_pointer_to_function(self, name: str) -> int:
        """The address of a function of this library; 0 where there is none."""
        self._ensure_finalized()
        if not self._is_compiled and all(f.name != name or f.is_declaration for f in self._final_module.functions):
            return 0
        self.compile()
        address: int = JITCodeLibrary.get_pointer_to_function(self, name)
        return address

    def serialize_using_object_code(self) -> Any:
        """For Numba's cache."""
        self.compile()
        return super().serialize_using_object_code()

    @property
    def codegen(self) -> Any:
        """The code generator; environments wait for machine code."""
        return self._codegen if self._is_compiled else _WithoutEnvironments(self._codegen, self._environments)


def is_deferring(codegen: Any) -> bool:
    """Whether a driver is being compiled."""
    return codegen._library_class is DeferredLibrary


class Lowering(Lower):  # type: ignore[misc]
    """Numba's way, but for arguments, which the caller holds as long as the call lasts: they aren't counted again.

    That is so for those that keep their names and types. Numba's own passes take the counting out where all ends of a
    function let go of an argument; here those where it raises, and doesn't, are one by then.
    """

    def init(self) -> None:
        """Find those arguments."""
        super().init()
        assigned = [a for block in self.func_ir.blocks.values() for a in block.find_insts(ir.Assign)]
        n_times = Counter(a.target.name for a in assigned)
        self.borrowed = {
            a.target.name for a in assigned
            if isinstance(a.value, ir.Arg) and n_times[a.target.name] == 1 and not self.func_ir.generator_info
            and self.typeof(a.target.name) == self.typeof(f"arg.{a.value.name}")
        }  # fmt: skip

    def lower_assign(self, ty: Any, inst: Any) -> Any:
        """Nothing is counted where an argument gets its name."""
        if inst.target.name in self.borrowed:
            return self.fnargs[inst.value.index]
        return super().lower_assign(ty, inst)

    def delvar(self, name: str) -> None:
        """Nor where the name is used no more."""
        if name not in self.borrowed:
            super().delvar(name)


def as_plain(state: Any) -> Any:
    """A context in which what is called is compiled as for a function of the user's, and so found if it was for one.

    Numba keeps code of its own functions by the flags of the caller. These say whether that has wrappers, or holds the
    GIL, which makes no difference to what it calls.
    """
    flags = state.flags.copy()
    for name in ("no_cpython_wrapper", "no_cfunc_wrapper", "release_gil"):
        flags.discard(name)
    return ConfigStack().enter(flags)


@register_pass(mutates_CFG=True, analysis_only=False)
class TypeInference(NopythonTypeInference):  # type: ignore[misc]
    """As Numba's own."""

    _name = "tapegrad_type_inference"

    def run_pass(self, state: Any) -> bool:
        """Infer types."""
        with as_plain(state):
            result: bool = super().run_pass(state)
        return result


class InnerLowering(BaseNativeLowering):  # type: ignore[misc]
    """Lowering into such a library."""

    def run_pass(self, state: Any) -> bool:
        """As Numba's own."""
        if state.library is None:
            state.library = InnerLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
            state.library.enable_object_caching()
        with as_plain(state):
            result: bool = super().run_pass(state)
        _libraries[state.cr.fndesc.mangled_name] = state.library
        return result


class OuterLibrary(JITCodeLibrary):  # type: ignore[misc]
    """A driver's library."""

    unrolls = False

    def _optimize_final_module(self) -> None:
        module = self._final_module
        _call_directly(module)
        while missing := _called_by_address(module):  # of functions that call each other, one alone was linked
            for name in missing:
                library = _library_of(name)
                _name_address(module, name, library.get_function(name))
                module.link_in(library, preserve=True)
        cheap, how = self._codegen._module_pass_manager(loop_vectorize=False, slp_vectorize=False, opt=0, cost="cheap")
        cheap.run(module, how)
        options = llvm.create_pipeline_tuning_options(2)
        options.loop_vectorization = True
        # Loops that are unrolled are made of gathers, when they become vectors; rows are calls and stores, and no
        # quicker so, but take longer to compile. Tangents are vectors already.
        options.slp_vectorization = options.loop_unrolling = self.unrolls
        builder = llvm.create_pass_builder(self._codegen._tm, options)
        passes = builder.getModulePassManager()
        if config.LLVM_REFPRUNE_PASS:
            passes.add_refprune_pass(_parse_refprune_flags())
        passes.run(module, builder)
        jacobian_tape.connect(jacobian_tape.named_in(module))


# --- functions that call themselves, or each other --------------------------------------------------------------------
# Numba lets them do so through addresses that it fills in when there is machine code, which mean nothing in another
# process. As soon as the functions are in one module, the addresses are constants of it.

_libraries: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()  # of all inner functions, by name


def _call_directly(module: Any) -> None:
    """Let functions that are there be called by their names."""
    defined = {function.name: function for function in module.functions if not function.is_declaration}
    for name in _called_by_address(module):
        if name in defined:
            _name_address(module, name, defined[name])


def _called_by_address(module: Any) -> list[str]:
    """The functions whose addresses are not known."""
    prefix = RuntimeLinker.PREFIX
    unknown = [v.name for v in module.global_variables if v.is_declaration and v.name.startswith(prefix)]
    return [name.removeprefix(prefix) for name in unknown]


def _library_of(name: str) -> Any:
    """The module that defines a function: an inner one, or one that Numba has compiled for itself.

    A plain function that calls itself with other types knows that version by its address alone.
    """
    if name in _libraries:
        return _libraries[name]._get_module_for_linking()
    for found in cpu_target.target_context._defns.values():
        for _, function in found.versions:
            for library in getattr(function, "libs", ()):
                if library.name in name and _defines(library._get_module_for_linking(), name):
                    return library._get_module_for_linking()
    raise KeyError(name)


def _defines(module: Any, name: str) -> bool:
    return any(function.name == name and not function.is_declaration for function in module.functions)


def _name_address(module: Any, name: str, function: Any) -> None:
    """Let the address of a function be that of the function of this name, which is linked now or later."""
    result, _, parameters = str(function.global_value_type).partition(" ")
    address = f'@"{RuntimeLinker.PREFIX}{name}" = linkonce_odr constant ptr @"{name}"'
    module.link_in(llvm.parse_assembly(f'{address}\ndeclare {result} @"{name}"{parameters}'))


@register_pass(mutates_CFG=True, analysis_only=False)
class _PlainLowering(InnerLowering):
    _name = "tapegrad_inner_lowering"

    @property
    def lowering_class(self) -> Any:
        return Lowering


@register_pass(mutates_CFG=True, analysis_only=False)
class OuterLowering(BaseNativeLowering):  # type: ignore[misc]
    """Lowering of a driver: the functions that were linked into it get their environments."""

    _name = "tapegrad_outer_lowering"

    @property
    def lowering_class(self) -> Any:
        """What lowers."""
        return Lowering

    def run_pass(self, state: Any) -> bool:
        """As Numba's own."""
        state.library = OuterLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        kind = state.func_id.func.__globals__.get("kind")  # of the numbers in a driver
        state.library.unrolls = isinstance(kind, Dual) and kind.is_wide
        with as_plain(state):
            result: bool = super().run_pass(state)
        for variable in state.library._final_module.global_variables:
            environment = lookup_environment(variable.name)
            if environment is not None:
                state.library.codegen.set_env(variable.name, environment)
        return result


class Pass(FunctionPass):  # type: ignore[misc]
    """One of our passes over a function's code. Numba wants a constructor of it."""

    def __init__(self) -> None:
        super().__init__()


class Pipeline(compiler.CompilerBase):  # type: ignore[misc]
    """Numba's passes, for drivers and what stands in for users' functions: the code with its types isn't kept.

    It takes much memory; and Numba, which holds what it has compiled until its function goes, would hold by it what
    refers to that function, and so keep both for ever.
    """

    def _compile_core(self) -> Any:
        return super()._compile_core()._replace(type_annotation="")


class OuterPipeline(Pipeline):
    """Numba's passes, for a driver."""

    def define_pipelines(self) -> Any:
        """As Numba asks for them."""
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        replace_pass(passes, NopythonTypeInference, TypeInference)
        replace_pass(passes, NativeLowering, OuterLowering)
        return [passes]

    def _compile_core(self) -> Any:
        codegen = self.state.targetctx.codegen()
        libraries, codegen._library_class = codegen._library_class, DeferredLibrary
        try:
            with native.compiling():
                return super()._compile_core()
        finally:
            codegen._library_class = libraries


def replace_pass(passes: Any, known: Any, other: Any) -> None:
    """Put another pass in the place of one of Numba's."""
    at = [entry[0] for entry in passes.passes].index(known)
    passes.passes[at] = other, passes.passes[at][1]
    passes.finalize()


class _Pipeline(compiler.CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> Any:
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        replace_pass(passes, NopythonTypeInference, TypeInference)
        replace_pass(passes, NativeLowering, _PlainLowering)
        return [passes]


TEXT = "<tapegrad>"  # the file that functions made of texts are said to be in


def define(text: str, name: str, scope: dict[str, Any]) -> Any:
    """The function `name` of a text, with `scope` for its globals: tuples and dimensions differ from case to case."""
    names = {**scope, "__name__": __name__}  # compiled code on disk names its module
    exec(compile(text, TEXT, "exec"), names)
    return names[name]


OPTIONS = {"pipeline_class": _Pipeline, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inside = njit(**OPTIONS)  # for functions of ours that jitted code alone calls
