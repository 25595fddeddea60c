"""`compile`: a function that records at its first call, and from then on replays."""

from __future__ import annotations

import contextlib
import functools
import gc
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from numba.core.errors import NumbaError

from tapegrad import dtypes, trees
from tapegrad.autograd.hooks import going
from tapegrad.batched import levels
from tapegrad.debug import MEMORY
from tapegrad.kernels import native
from tapegrad.nn.module import Module
from tapegrad.replay import entry, machine
from tapegrad.replay.batches import Results, Rows, map_rows
from tapegrad.replay.chance import Sources
from tapegrad.replay.handed import Handed
from tapegrad.replay.program import PLAIN, Memory, Miss, Program
from tapegrad.replay.standins import Argument, Number, StandIn, bits_of
from tapegrad.replay.surroundings import Modes
from tapegrad.replay.watch import Watch
from tapegrad.tape import Tape, current_tape
from tapegrad.tensor import Tensor, depth_of_user

_MOST_IN_VAIN = 16  # recordings in a row, none of whose programs was run, after which calls are plain for a while
_LONGEST_REST = 1 << 14  # calls
_FAMILIES = 4  # for each program that is kept
# What is raised where something takes no stand-in. All else is the function's own.
_OF_STANDINS = (TypeError, AttributeError, BufferError, SystemError, NumbaError)
_LEAVES = {np.ndarray, Tensor, float, int, bool, str, type(None)}
_FLAGS = 0x100 | 0x400  # of arrays: aligned, writeable


class _Node:
    """What programs have in common: those that Python code has seen the same bits in, up to a guard."""

    __slots__ = ("after", "program")

    def __init__(self) -> None:
        self.after: dict[bytes, _Node] = {}  # by what is seen next
        self.program: Program | None = None  # one that comes here


class _Root(_Node):
    """Where all begin that are for numbers of which the same is to be seen."""

    __slots__ = ("conditions",)

    def __init__(self, conditions: list[tuple[Any, Any]]) -> None:
        super().__init__()
        self.conditions = conditions

    def fits(self, leaves: Sequence[Any]) -> bool:
        """Whether Python code would see the same of numbers."""
        try:
            for make, answer in self.conditions:
                if make(leaves, []) != answer:
                    return False
        except ArithmeticError:  # of numbers for which the function raises
            return False
        return True


class _Kin:
    """What families share whose arguments have the same structure and classes."""

    __slots__ = ("in_vain", "ints", "resting")

    def __init__(self) -> None:
        self.in_vain, self.resting = 0, 0  # recordings; calls that are plain before one records again
        self.ints: dict[int, int] = {}  # one that was seen, by its place

    def may_record(self) -> bool:
        """Whether to record: each in vain is followed by a longer rest."""
        if self.resting:
            self.resting -= 1
            return False
        self.in_vain += 1
        if self.in_vain > _MOST_IN_VAIN:
            self.resting = min(1 << (self.in_vain - _MOST_IN_VAIN + 3), _LONGEST_REST)
        return True


class _Family:
    """The programs for arguments of the same structure, kinds and static values."""

    __slots__ = ("has_changed", "kept", "kin", "roots", "used", "why")

    def __init__(self, kin: _Kin) -> None:
        # By places of numbers that Python code looks at, and by their values.
        self.roots: dict[tuple[int, ...], dict[Any, list[_Root]]] = {}
        self.kin, self.used = kin, 0
        self.why = ""  # there is no program
        self.has_changed = False  # whether a recording has changed what was there before
        self.kept: Any = None  # static arguments that are known by identity

    def attempts(
        self, tape: Tape, leaves: Any, run: Callable[[Program, Tape, Any], Any] = Program.run
    ) -> Iterator[tuple[Program, Any]]:
        """Programs that may be for a call, with what each answers; after a miss, that for what was seen."""
        for places, at in self.roots.items():
            for root in at.get(tuple([bits_of(leaves[place]) for place in places]), ()):
                program = root.program if not root.conditions or root.fits(leaves) else None
                while program is not None:
                    found = run(program, tape, leaves)
                    yield program, found
                    if found.__class__ is not Miss:
                        break
                    node = program.nodes[found.guard].after.get(found.bits)
                    program = None if node is None else node.program


class Compiled(entry.Fronted):
    """What `compile` makes of a function: see there."""

    def __init__(self, function: Callable[..., Any], capacity: int, must_be_program: bool = False) -> None:
        super().__init__()
        functools.update_wrapper(self, function)
        self._function, self._capacity, self._must_be_program = function, capacity, must_be_program
        self._is_transform = getattr(function, "is_transform", False)
        self._families: dict[Any, _Family] = {}
        self._kin: dict[Any, _Kin] = {}
        self._inputs: set[Any] = set()  # structures and places of ints that are not always the same
        self._programs: list[tuple[Program, _Family, Any]] = []
        self._entered: list[entry.Entered] = []  # programs that native code runs, see `entry.py`
        self._held: Any = None
        self._lock = threading.RLock()
        self._has_warned = False
        self._counts = dict.fromkeys(("recordings", "replays", "misses", "plain"), 0)
        self._seconds = 0.0

    def __get__(self, of: Any, kind: Any = None) -> Any:
        return self if of is None else functools.partial(self, of)

    def __repr__(self) -> str:
        return f"<compiled {getattr(self._function, '__qualname__', self._function)!s}>"

    def __reduce__(self) -> Any:
        """By its name, where it stands under it in its module; else as its function, to be compiled anew."""
        if _found_by_name(self) is self:
            return self.__qualname__
        return _compiled_anew, (_Sent(self._function), self._capacity, self._must_be_program)

    def stats(self) -> dict[str, Any]:
        """What has happened, and what is kept.

        Returns
        -------
        dict
            `recordings`: calls that recorded; `replays`: that ran a program; `misses`: guards that did not hold;
            `plain`: calls of the plain function, since there was no faithful program; `seconds`: spent on recordings;
            `programs` that are kept, how many of these run as `machine` code, and their `bytes`.
        """
        with self._lock:
            self._hear()
            sizes = [program.nbytes for program, _, _ in self._programs]
            n = sum(program.lowered is not None for program, _, _ in self._programs)
            counts = {"programs": len(sizes), "machine": n, "bytes": sum(sizes)}
            return {**self._counts, "seconds": self._seconds, **counts}

    def map(self, *args: Any, in_axes: Any = 0, **kwargs: Any) -> Any:
        """What the function returns for each row of its arguments, stacked: side by side, in lanes, on all threads.

        Each row has the bits that a call gives. A program is run for many rows at once; where a row would see something
        else, it goes to the program that was recorded for that, or is called.

        Parameters
        ----------
        *args, **kwargs : arrays or Tensors, or tuples, lists and dictionaries of them
            The function is given their rows, along the first dimension, in which all are of one length. A row of an
            array of float64 with one dimension is a float; of others, it is an array with one dimension less, and so
            of Tensors. Numbers and other objects are the same for all rows.
        in_axes : int, None, or a tuple of these
            0, or None for what is the same for all rows: for all arguments by position, or one for each.

        Returns
        -------
        arrays or Tensors, or a tuple, a list or a dictionary of them
            Results of rows, along a new first dimension; numbers become arrays.

        Raises
        ------
        ValueError
            If arguments have no leading axis, or axes of different lengths; if there are no rows; if `in_axes` is
            neither; if results of rows differ in structure or in shape.
        TypeError
            If results can't be stacked.
        RuntimeError
            If the function draws random numbers.

        Notes
        -----
        Programs that change tensors, or that take more than 64 kB for a row, are replayed row by row.
        Of Tensors that require grad, each row is a call of the plain function.

        Examples
        --------
        >>> import numpy as np
        >>> import tapegrad as tg
        >>> @tg.compile
        ... @tg.func.value_and_grad
        ... def f(x):
        ...     return x.exp() if x > 0 else x**2
        >>> f.map(np.array([-1.0, 0.0, 1.0]))
        (array([1.        , 0.        , 2.71828183]), array([-2.        ,  0.        ,  2.71828183]))
        """
        rows = Rows(args, kwargs, in_axes)
        results = Results(rows.n)
        map_rows(self, rows, results)
        return results.tree()

    def replayed(self, leaves: Any, args: Any, kwargs: Any) -> tuple[Program, Any] | None:
        """The program that a call with these arguments runs, if there is one, and what it has answered now."""
        tape = current_tape()
        if not kwargs and len(args) == len(leaves) and _LEAVES.issuperset([leaf.__class__ for leaf in args]):
            structure: Any = len(args)
        else:
            structure = trees.flatten((args, kwargs))[1]
        for family in self._families_for(tape, leaves, structure):
            for program, found in family.attempts(tape, leaves, self._run_for_rows):
                if found.__class__ is not Miss:
                    return None if found is PLAIN else (program, found)
        return None

    def _families_for(self, tape: Tape, leaves: Any, structure: Any) -> list[_Family]:
        """The families whose programs are for arguments."""
        key = _key(tape, leaves, structure, self._inputs)
        return [self._families[key]] if key in self._families else []

    def _run_for_rows(self, program: Program, tape: Tape, leaves: Any) -> Any:
        if program.draws:
            raise RuntimeError(f"map(): {self!r} draws random numbers, which would be the same in no order")
        return PLAIN if program.has_effects else program.run(tape, leaves, False)

    def count(self, replays: int, misses: int) -> None:
        """Note what a batch has come to."""
        with self._lock:
            self._counts["replays"] += replays
            self._counts["misses"] += misses

    def save(self, f: Any) -> None:
        """Write all programs that are kept to a file, which `tapegrad.load` makes a function of, without Python code.

        Tensors and arrays that the function reads without being given them are written as they are now, and stay so,
        and so are the modes of modules. A call of the loaded function for which no program holds is an error; its
        `map`, `jitted`, `cfunc` and `save` are those of the function.

        Parameters
        ----------
        f : str, Path or binary file
            Where to: an `.npz`, of which nothing is unpickled.

        Raises
        ------
        ValueError
            If there is no program yet; or if one changes tensors, draws random numbers of a generator that it is given,
            or depends on objects that a file can't have.

        Examples
        --------
        >>> import io
        >>> import numpy as np
        >>> import tapegrad as tg
        >>> slope = tg.compile(tg.func.grad(lambda x: tg.sum(tg.sin(x))))
        >>> slope(np.zeros(2))
        array([1., 1.])
        >>> file = io.BytesIO()
        >>> slope.save(file)
        >>> _ = file.seek(0)
        >>> tg.load(file)(np.array([0.0, np.pi]))
        array([ 1., -1.])
        """
        from tapegrad.replay import saved  # it stands above

        saved.save(self, f)

    def jitted(self, *args: Any) -> Any:
        """The function for code that Numba has jitted: it replays there, with no Python in between.

        Parameters
        ----------
        *args : arrays, Tensors, floats, or other objects
            An example. Programs for such arguments are those that are there; if there is none, it is recorded.

        Returns
        -------
        numba dispatcher
            Called with the arrays (in the place of Tensors too) and floats of the example's shapes and dtypes, then
            with an array for each result that is an array or a Tensor, which is written there. It returns the results
            that are numbers: none, one, or a tuple. All else is as in the example, and left out.

        Raises
        ------
        ValueError
            If there is no program that runs without Python: it changes tensors, calls functions of NumPy's with
            arguments, takes ints that change, or returns what is not computed. In jitted code: for other shapes.
        RuntimeError
            In jitted code, where no program that was recorded before is for what is seen there.

        Notes
        -----
        Tensors and arrays that the function reads without being given them have the elements that they have now.
        Threads are served at once, as many as there are processors. Numba can't cache what calls it.

        Examples
        --------
        >>> import numba
        >>> import numpy as np
        >>> import tapegrad as tg
        >>> f = tg.compile(tg.func.value_and_grad(lambda x: tg.sum(tg.cosh(x))))
        >>> of = f.jitted(np.ones(2))
        >>> @numba.njit
        ... def descended(x):
        ...     slope = np.empty(2)
        ...     for _ in range(100):
        ...         value = of(x, slope)
        ...         x = x - 0.5 * slope
        ...     return value, x
        >>> descended(np.array([1.0, -2.0]))[0]
        2.0
        """
        from tapegrad.replay import serving  # it stands above

        return serving.jitted(self, args)

    def cfunc(self, *args: Any) -> Any:
        """The function as one of C's, for `scipy.LowLevelCallable(f.cfunc(...).ctypes)`.

        Parameters
        ----------
        *args : floats, or one array
            An example, as for `jitted`. The function returns one number.

        Returns
        -------
        numba CFunc
            Of one float `double f(double)`, of several `double f(int, double *)`, for `scipy.integrate.quad` and
            `nquad`; of an array `int f(double *, intptr_t, double *, void *)`, for `scipy.ndimage.generic_filter`.
            Where there is no program, nan, or failure (0).

        Raises
        ------
        ValueError
            As by `jitted`; and for functions of other forms.

        Examples
        --------
        >>> import scipy
        >>> import tapegrad as tg
        >>> f = tg.compile(tg.func.grad(lambda x: tg.exp(-x * x)))
        >>> value, error = scipy.integrate.quad(scipy.LowLevelCallable(f.cfunc(0.5).ctypes), 0.0, 1.0)
        >>> round(value, 12)
        -0.632120558829
        """
        from tapegrad.replay import serving  # it stands above

        return serving.cfunc(self, args)

    def programs_for(self, args: Any) -> tuple[str, list[tuple[Program, Any]]]:
        """The programs for arguments like these, one of which is recorded where there is none; where none is, why.

        With each program are the places of numbers that it is for, and their bits.
        """
        self(*args)
        tape, leaves = current_tape(), args
        structure: Any = len(args)
        if not _LEAVES.issuperset([leaf.__class__ for leaf in args]):
            leaves, structure = trees.flatten((args, {}))
        families = self._families_for(tape, leaves, structure)
        if not families:
            return "none can be recorded for them", []
        return families[0].why, [(program, at) for program, of, at in self._programs if of in families]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        tape = current_tape()
        if (
            tape.watch is not None or tape.sweeping or tape.duals is not None or tape.packs is not None or levels()
            or not native.JIT or MEMORY
        ):  # fmt: skip
            return self._function(*args, **kwargs)
        leaves: Any
        structure: Any
        if not kwargs and _LEAVES.issuperset([leaf.__class__ for leaf in args]):
            leaves, structure = args, len(args)  # the structure of as many leaves
        else:
            leaves, structure = trees.flatten((args, kwargs))
        key = _key(tape, leaves, structure, self._inputs)
        if key is None or (going.within is not None and any(map(_has_graph, leaves))):
            return self._plainly(args, kwargs)
        family = self._families.get(key) or self._new_family(tape, key, leaves, structure)
        if family.why:
            if self._must_be_program:
                self._tell(family.why)
            return self._plainly(args, kwargs)
        line = ""
        for program, found in family.attempts(tape, leaves):
            if found is PLAIN:
                return self._plainly(args, kwargs)
            if found.__class__ is not Miss:
                family.used = program.used = _tick()
                family.kin.in_vain = 0
                self._counts["replays"] += 1
                memory = program.memories.of_thread
                if not memory.is_entered:
                    self._enter(program, family, args, kwargs, leaves, tape)
                elif self._entered and program.conditions:
                    self._renew(memory)
                if memory.calls >= 0:
                    self._heat(program, memory)
                return found
            self._counts["misses"] += 1
            line = program.seen[found.guard].line
        return self._record(tape, family, args, kwargs, leaves, structure, line)

    def _enter(self, program: Program, family: _Family, args: Any, kwargs: Any, leaves: Any, tape: Tape) -> None:
        """Have native code run a program from now on, where it can."""
        with self._lock:
            program.memories.of_thread.is_entered = True
            if program.nodes and entry.is_plannable(program, args, kwargs, leaves, tape):
                with contextlib.suppress(entry.UnplannedError):
                    entered = entry.Entered(program, family, tape, leaves)
                    entry.install(Compiled)
                    self._hear()
                    self._put_before(entry.among(self._entered, entered))

    def _renew(self, memory: Memory) -> None:
        """Have native code run a program again, which is for the modes that modules are in now."""
        for e in self._entered:
            if e.memory is memory:
                e.renew()

    def _heat(self, program: Program, memory: Memory) -> None:
        """Have a program that was called often run as machine code from now on."""
        plans = [e for e in self._entered if e.memory is memory]
        memory.calls += 1
        if memory.calls + sum(e.words[entry.P.replays] for e in plans) > machine.HOT:
            memory.calls = -1
            memory.speed_up(program)
            for e in plans:
                e.words[entry.P.warm], e.words[entry.P.text] = -1, memory.run_at

    def _put_before(self, entered: list[entry.Entered]) -> None:
        """What native code knows of."""
        self._entered = entered
        self._front, self._held = entry.front_of(entered)

    def _hear(self) -> None:
        """Of calls that native code has answered."""
        for entered in self._entered:
            replays, misses = entered.news()
            self._counts["replays"] += replays
            self._counts["misses"] += misses

    def _new_family(self, tape: Tape, key: Any, leaves: Any, structure: Any) -> _Family:
        """The family of a key. An int that was another before is an input from now on."""
        with self._lock:
            kin = self._kin.setdefault((structure, tuple([leaf.__class__ for leaf in leaves])), _Kin())
            for place, leaf in enumerate(leaves):
                if leaf.__class__ is int and kin.ints.setdefault(place, leaf) != leaf:
                    self._inputs.add((structure, place))
            key = _key(tape, leaves, structure, self._inputs)
            family = self._families.get(key)
            if family is None:
                family = self._families[key] = _Family(kin)
                family.used = _tick()
                family.kept = leaves if any(not isinstance(leaf, (Tensor, np.ndarray)) for leaf in leaves) else None
                if len(self._families) > _FAMILIES * self._capacity:
                    self._forget_families()
        return family

    def _forget_families(self) -> None:
        """Let go of the half that was not used for longest, and of their programs."""
        self._hear()
        families = sorted(self._families.items(), key=lambda item: item[1].used)
        gone = {id(family) for _, family in families[: len(families) // 2]}
        self._families = dict(families[len(families) // 2 :])
        self._programs = [entry for entry in self._programs if id(entry[1]) not in gone]
        self._put_before([e for e in self._entered if id(e.family) not in gone])
        kin = {id(family.kin) for family in self._families.values()}
        self._kin = {key: of for key, of in self._kin.items() if id(of) in kin}
        self._inputs = {known for known in self._inputs if any(known[0] == key[0] for key in self._kin)}

    def _plainly(self, args: Any, kwargs: Any) -> Any:
        self._counts["plain"] += 1
        return self._function(*args, **kwargs)

    # --- recording ----------------------------------------------------------------------------------------------------

    def _record(
        self, tape: Tape, family: _Family, args: Any, kwargs: Any, leaves: Any, structure: Any, line: str
    ) -> Any:
        kin = family.kin
        self._hear()
        if not kin.may_record():
            what = f"Python code sees is other at each call, at {line}" if line else "it is given is other at each call"
            self._tell(f"what {what}")
            return self._plainly(args, kwargs)
        if sys.getprofile() is not None:  # a recording needs a profiler of its own
            return self._plainly(args, kwargs)
        started = time.perf_counter()
        sources = Sources(self._function, leaves)
        watch = Watch(tape, 0 if self._is_transform else 1)
        watch.keepers = {id(keeper): (keeper, keeper.choices(True)) for keeper in sources.keepers}
        given = [
            StandIn(watch, leaf, Argument(place)) if leaf.__class__ is np.ndarray
            else Number(watch, leaf, Argument(place), frozenset([place]))
            if leaf.__class__ is float or (leaf.__class__ is int and (structure, place) in self._inputs)
            else leaf
            for place, leaf in enumerate(leaves)
        ]  # fmt: skip
        own = (tuple(given), {}) if structure.__class__ is int else trees.unflatten(structure, given)
        handed, failed = Handed((args, kwargs), own), None
        is_collecting = gc.isenabled()
        try:
            gc.disable()  # it would look at all that is noted, again and again, and find nothing
            output, program = watch.follow(lambda: self._recorded(watch, family, sources, handed, given, *own))
        except _OF_STANDINS as error:
            if watch.has_changed or handed.has_changed() or not any(type(x) in (StandIn, Number) for x in given):
                raise
            failed = str(error)
        finally:
            if is_collecting:
                gc.enable()
            watch.end()
            handed.carry_over()
        if failed is not None:
            sources.go_back()
            output = self._plainly(args, kwargs)  # it may raise the same
            self._give_up(family, f"something in it takes no stand-ins for arrays and numbers ({failed})")
            return output
        with self._lock:
            self._counts["recordings"] += 1
            self._seconds += time.perf_counter() - started
        if program is not None and watch.failure is None:
            places = tuple(sorted(watch.numbers))
            self._keep(program, family, places, tuple([bits_of(leaves[place]) for place in places]))
        elif watch.failure is not None and watch.fails_always:
            self._give_up(family, f"it {watch.failure}")
        return handed.original(output)

    def _recorded(
        self, watch: Watch, family: _Family, sources: Sources, handed: Handed, given: list[Any], args: Any, kwargs: Any
    ) -> Any:
        """What the function returns, and a program, unless there can be none."""
        surroundings = sources.surroundings
        modes = Modes(tuple(x for x in surroundings.objects if isinstance(x, Module)))
        if modes.modules:
            watch.conditions.append((modes, modes()))
        output = sources.watched(watch, lambda: self._function(*args, **kwargs))
        if handed.has_changed():
            watch.fail("changes a list or a dictionary that it is given")
        elif change := surroundings.change(watch.read()):
            watch.fail(change, family.has_changed)  # once, it may have made what it keeps
            family.has_changed = True
        return output, None if watch.failure is not None else Program(watch, given, output)

    def _give_up(self, family: _Family, why: str) -> None:
        family.why = why
        self._tell(why)

    def _tell(self, why: str) -> None:
        if self._must_be_program:
            raise RuntimeError(
                f"{self!r} has no program (fullgraph=True): {why}. Change that, or leave out fullgraph: then it is "
                "called as it is"
            )
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"{self!r} is called as it is, without a program: {why}", UserWarning, stacklevel=depth_of_user()
            )

    def _keep(self, program: Program, family: _Family, places: tuple[int, ...], at: tuple[Any, ...]) -> None:
        """Keep a program for numbers that have these bits at these places."""
        with self._lock:
            if places not in family.roots:  # others may be looking at it meanwhile
                family.roots = {**family.roots, places: {}}
            roots = family.roots[places].setdefault(at, [])
            node: _Node | None = next((root for root in roots if _are_alike(root, program)), None)
            if node is None:
                roots.insert(0, node := _Root(program.conditions))
            program.nodes = [node]
            for bits in program.path:
                node = node.after.setdefault(bits, _Node())
                program.nodes.append(node)
            for node in program.nodes:
                node.program = program
            program.used = _tick()
            self._programs.append((program, family, (places, at)))
            if len(self._programs) > self._capacity:
                self._drop()

    def _drop(self) -> None:
        """Let go of the program that was not used for the longest time."""
        self._hear()
        oldest = min(range(len(self._programs)), key=lambda i: self._programs[i][0].used)
        program, family, at = self._programs.pop(oldest)
        self._put_before([e for e in self._entered if e.program is not program])
        others = {id(p): p for p, f, _ in self._programs if f is family}
        for k in range(len(program.nodes) - 1, -1, -1):
            node = program.nodes[k]
            if node.program is program:
                node.program = next((n.program for n in node.after.values() if id(n.program) in others), None)
            if node.program is None and k:
                program.nodes[k - 1].after.pop(program.path[k - 1], None)
        places, values = at
        roots = family.roots[places][values]
        roots[:] = [root for root in roots if root.program is not None]
        if not roots:
            del family.roots[places][values]
            if not family.roots[places]:
                family.roots = {key: roots for key, roots in family.roots.items() if key != places}


def _are_alike(root: _Root, program: Program) -> bool:
    """Whether a program is for the same as those that begin at a root."""
    pairs = list(zip(root.conditions, program.conditions, strict=False))
    is_same = all(type(p[0]) is type(q[0]) is Modes and p == q for p, q in pairs)
    return is_same and len(pairs) == len(root.conditions) == len(program.conditions)


class _Sent:
    """A function that goes to another process, if it can be found there."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __deepcopy__(self, _: Any) -> _Sent:
        return self

    def __reduce__(self) -> Any:
        if isinstance(self.function, FunctionType) and _found_by_name(self.function) is not self.function:
            raise pickle.PicklingError(
                f"Can't pickle <compiled {self.function.__qualname__}>: a process finds a function by its name in "
                f"its module, and there {self.function.__module__}.{self.function.__qualname__} is none, or another. "
                "Have `def` and `@tapegrad.compile` at the top of a module, the transform within. Or save() the "
                "compiled function, and load() the file there"
            )
        return _Sent, (self.function,)


def _compiled_anew(sent: _Sent, capacity: int, must_be_program: bool) -> Compiled:
    return Compiled(sent.function, capacity, must_be_program)


def _found_by_name(of: Any) -> Any:
    """What another process would find in an object's module under its name."""
    found: Any = sys.modules.get(getattr(of, "__module__", None) or "")
    for name in getattr(of, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found


def _has_graph(leaf: Any) -> bool:
    """Whether it is a Tensor that requires grad: within a transform, what is computed of it does too."""
    return isinstance(leaf, Tensor) and bool(leaf._kind.requires_grad)


def _tick() -> int:
    """The number of this call: native code counts on."""
    entry.clock[0] += 1
    return entry.clock[0]


def _key(tape: Tape, leaves: Any, structure: Any, inputs: set[Any]) -> Any:
    """What selects the programs for arguments; None where there can be none."""
    parts: list[Any] = [structure, bool(tape.grad_enabled), dtypes.get_default_dtype().code, tape.checks_nan]
    met: dict[int, int] = {}
    for place, leaf in enumerate(leaves):
        kind = leaf.__class__
        if kind is np.ndarray:
            parts.append((leaf.dtype, leaf.shape, leaf.strides, leaf.flags.num & _FLAGS))
        elif kind is float:
            parts.append(float)
        elif isinstance(leaf, Tensor):
            if leaf._tape is not tape:
                return None
            parts.append((kind, leaf._kind.index, met.setdefault(id(leaf), place)))
        elif isinstance(leaf, (np.ndarray, np.generic)):
            if isinstance(leaf, np.ndarray) or leaf.dtype.hasobject:
                return None
            parts.append((kind, leaf.tobytes()))
        elif kind is int and (structure, place) in inputs:
            parts.append(int)
        elif kind in (int, bool, str, bytes, type(None)):
            parts.append((kind, leaf))
        else:
            parts.append((kind, id(leaf)))
    return tuple(parts)


def compile(
    function: Any = None, *, fullgraph: bool = False, dynamic: bool | None = None, backend: Any = None,
    mode: str | None = None, options: Any = None, disable: bool = False, capacity: int = 64,
) -> Any:  # fmt: skip
    """A function that records once and replays: the same answers, bit for bit, without recording.

    The first call records what the function does, and makes a program of it. Later calls copy the arguments in, run the
    program, and return what it has computed.

    Parameters
    ----------
    function : callable
        A function of Tensors, NumPy arrays and numbers, and of tuples, lists and dictionaries of them; or what a
        transform has made of one. Without it, a decorator is returned.
    fullgraph : bool
        Raise RuntimeError where the function would be called as it is, since there is no program for it. What the call
        that was recorded has done stays done.
    dynamic, backend, mode, options : optional
        PyTorch's choices between compilers. There is one here, and they change nothing.
    disable : bool
        Return the function as it is.
    capacity : int
        How many programs are kept; that which was not used for the longest time goes.

    Returns
    -------
    Compiled
        A callable with the arguments of `function`; its `stats()` tell of recordings, replays, misses.

    Raises
    ------
    TypeError
        If `function` is not callable.
    ValueError
        If `capacity` is not positive.
    RuntimeError
        By a call, with `fullgraph`.

    Notes
    -----
    Structure, shapes, dtypes, strides and `requires_grad` of arguments, static arguments (bools, strings, other objects
    by identity) and the grad mode select a program. Floats, ints that are not always the same, and the elements of
    arrays and Tensors are inputs of it. So do the modes of modules (`train()`, `eval()`) that the function can reach.
    What Python code learns from values (`if`, `while`, `item`, `float`, indices)
    is guarded: where it would see other bits, the program that was recorded for these is run, or a new one is recorded.
    Where that is so at each call, most are calls of the plain function.

    Tensors and arrays that the function reads without being given them are read at each call. Python numbers, and
    whatever else it finds in variables, attributes and globals, are what they were when it was recorded; its side
    effects, such as prints, take place at recordings only.

    Tensors that it changes in place, and gradients that it accumulates or sets, are changed at each call. So are the
    parameters and states of optimisers that take a step, but for `LBFGS` and optimisers of the user's; learning rates
    are read at each call, other options are guarded, and a schedule's step is taken by Python after the program.

    Within a transform (`func.grad`, `vmap`, ...) that differentiates by its arguments, a compiled function is called as
    it is: compile what the transform makes.

    Pickled, for another process, is what a function is found by there, its name in its module; programs are recorded
    anew. `save` takes them along.

    Where a function can't be replayed faithfully, it is called as it is, and a warning says why, once: if it returns
    tensors that require grad, sets learning rates otherwise than by a schedule after the step, changes what was there
    before (lists, dictionaries and arrays, attributes, variables, iterators) at two recordings, draws random numbers
    other than tapegrad's, looks at a clock, or computes with arrays by functions of NumPy's. Such changes, and
    generators of random numbers, are noticed in arguments, closures, attributes and globals of the function.

    Examples
    --------
    >>> import numpy as np
    >>> import tapegrad as tg
    >>> @tg.compile
    ... @tg.func.value_and_grad
    ... def rosenbrock(x):
    ...     return tg.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
    >>> for start in np.zeros(2), np.ones(2), np.array([0.5, 2.0]):
    ...     value, gradient = rosenbrock(start)
    >>> value
    306.5
    >>> rosenbrock.stats()["recordings"], rosenbrock.stats()["replays"]
    (1, 2)
    """
    if function is None:
        return functools.partial(compile, fullgraph=fullgraph, disable=disable, capacity=capacity)
    del dynamic, backend, mode, options
    if not callable(function):
        raise TypeError(f"compile(): argument 'function' must be callable, not {type(function).__name__}")
    if capacity < 1:
        raise ValueError(f"compile(): 'capacity' must be a positive int, not {capacity!r}")
    return function if disable else Compiled(function, capacity, fullgraph)
