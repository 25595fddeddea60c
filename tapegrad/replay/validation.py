"""What a program that comes from a file may do: all its steps are looked at before any is run.

The text of a program (`core/replaying.py`) is gone through as it will be run. Each word has one role: a number, whose
bounds are known; an address, of which all memory that is reached from there must lie in the arena, or in the text
where it is only read; a kernel, of those that the operation has; and what differs from process to process, which is
entered when all is found to be right. So what a file says can't reach any other memory.

Of an array operation (`ALONE`, `IN_PIECES`) it is known how many elements of operands and results its kernel may
touch, but not what its parameters mean: that they are those that were saved, the file's checksum says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from tapegrad.core import observed
from tapegrad.core.notes import ARENA, SCRATCH, STEP, TABLES, TEXT
from tapegrad.core.programs import MOST_CHUNKS, MOST_PARTIAL_BYTES
from tapegrad.core.replaying import CODE, CONTEXT, END, GUARD, HEAD, PIECES, REGISTER
from tapegrad.core.tables import (
    ALONG,
    BACK,
    FORWARD,
    GATHER,
    ITEMSIZE,
    MAX_INNER,
    MOST_CODE,
    MOST_CONSTANTS,
    MOST_DIMENSIONS,
    MOST_REGISTERS,
    MOST_SETUP,
    MOST_WALK_WORDS,
    NARROW,
    PUT,
    REDUCE,
    REVERSE,
    SCATTER,
    SINGLE,
    SPREAD,
    STREAM,
    VECTOR,
    WIDE,
    ZERO,
    Instruction,
    Pieces,
    Program,
    Register,
)  # fmt: skip
from tapegrad.dtypes import DTYPES, FLOAT32, FLOAT64
from tapegrad.kernels import CELLS, Context, loops, require
from tapegrad.kernels import table as kernel_table
from tapegrad.memory import words_of
from tapegrad.ops.declare import OPS, ROOM_OF_A, UNITS_OF_B, Array, Axes, Elementwise, Op, Reduction, parameters
from tapegrad.ops.declare import table as op_table
from tapegrad.tape import CONTEXT_BYTES, SCRATCH_BYTES

_P, _R, _I, _C, _S = (words_of(record) for record in (Program, Register, Instruction, Context, Pieces))
_AT = {name: Program.fields[name][0] for name in ("constants", "walks", "work")}  # bytes
_IN_SCRATCH = SCRATCH_BYTES - CONTEXT_BYTES - 64
_MOST = 1 << 40  # of any number of elements
_MOST_LANES = 1 << 33
_MOST_PARAMS = 32  # of an operation along the rows of a region
_SIZES = {1, 4, 8}
_SUPPLIED = {"gemm", "lapack", "work", "memory", "sums"}  # what there is not along the rows of a region
FAMILIES: dict[str, type[Op]] = {"elementwise": Elementwise, "reduction": Reduction, "array": Array, "axes": Axes}
# What a cell of `kernels.table` is, by its family.
_FORWARD, _ACCUMULATE, _REVERSE, _FINISH, _ROWS = {0}, {0}, {1, 2, 3}, {2}, {4}


class InvalidError(ValueError):
    """What a file says is not a program."""


class Kernel(NamedTuple):
    """A kernel by its operation, the code of the dtype, and its cell in `kernels.table`."""

    op: Op
    code: int
    cell: int

    @property
    def names(self) -> tuple[str, str, str, int]:
        """What `by_name` finds it by."""
        family = next(name for name, family in FAMILIES.items() if type(self.op) is family)
        return family, self.op.name, DTYPES[self.code].name, self.cell

    @property
    def takes(self) -> set[str]:
        """Of an array operation, what the kernel's function has for parameters."""
        if not isinstance(self.op, Array):
            return set()
        function = self.op.function if self.cell == 0 else self.op.vjps[self.cell - 1]
        return {*parameters(function)}  # type: ignore[arg-type]

    @property
    def address(self) -> int:
        """Its address, if there is such a kernel."""
        require(self.op, self.code, self.is_reverse)
        return int(kernel_table[(self.op.opcode * len(DTYPES) + self.code) * CELLS + self.cell])

    @property
    def is_reverse(self) -> bool:
        """Whether it is one of a reverse sweep."""
        return self.cell == 1 if isinstance(self.op, Reduction) else self.cell > 0

    @property
    def parts(self) -> int:
        """Of a reduction, how many numbers a state has."""
        of = DTYPES[self.code]
        return self.op.parts if of is FLOAT64 or not of.is_floating_point else 1  # type: ignore[attr-defined]

    @property
    def number_size(self) -> int:
        """The bytes of each of them."""
        return 8 if DTYPES[self.code].is_floating_point else ITEMSIZE[self.code]


def by_name(family: str, name: str, dtype: str, cell: int) -> Kernel:
    """The kernel with these names."""
    kind = FAMILIES.get(family)
    ops = [op for op in OPS if type(op) is kind and op.name == name]
    codes = [d.code for d in DTYPES if d.name == dtype]
    if not ops or not codes or type(cell) is not int or not 0 <= cell < CELLS:
        raise InvalidError(f"there is no kernel {cell!r} of an operation {name!r} ({family}) for {dtype}")
    kernel = Kernel(ops[0], codes[0], cell)
    starts = kind is Reduction and cell == 3
    rules = ops[0].vjps if isinstance(ops[0], Array) else ops[0].partials
    has_rule = not kernel.is_reverse or (cell - 1 < len(rules) and rules[cell - 1] is not None)
    is_none = (kind is not Reduction and cell > 3) or (kind is Elementwise and cell > ops[0].arity)
    if is_none or starts or not has_rule or dtype in ops[0].refuses:
        raise InvalidError(f"the operation {name!r} has no kernel {cell} for {dtype}")
    return kernel


class Reach(NamedTuple):
    """What a kernel touches: which of its operands, bytes of an element, whether one alone, whether it writes."""

    operand: int
    size: int
    is_one: bool
    writes: bool


def reaches(kernel: Kernel, mode: int) -> Iterable[Reach]:
    """What an elementwise kernel, or a reduction's reverse one, touches of (a, b, c, y, y_bar, k_bar)."""
    op, code = kernel.op, kernel.code
    if isinstance(op, Reduction):
        codes = dict.fromkeys("aby", code)
    else:
        *of, y = op.signature(code)
        codes = {**dict(zip("abc", of, strict=False)), "y": y}
    if not kernel.is_reverse:
        read = "abc"[: op.arity]
        mode = mode if mode in loops.single_modes(read) else 0
    else:
        read = "".join({"x": "a", "n": "b"}.get(v, v) for v in parameters(op.partials[kernel.cell - 1]))  # type: ignore[arg-type]
        mode = mode if mode & ~loops.FRESH in loops.partial_modes(read) else 0
    for v in read:
        k = "abcy".index(v)
        yield Reach(k, ITEMSIZE[codes[v]], bool(mode >> k & 1), False)
    if not kernel.is_reverse:
        yield Reach(3, ITEMSIZE[codes["y"]], False, True)
    else:
        yield Reach(4, ITEMSIZE[codes["y"]], False, False)
        yield Reach(5, ITEMSIZE[codes["abc"[kernel.cell - 1]]], False, True)


class Checker:
    """Goes through a text: see above.

    `bases` says of which words are addresses, and of what; `kernel` gives the kernel that a word stands for, one of
    those with a class and a cell, and `params` the parameters.
    """

    def __init__(
        self, text: list[int], bases: dict[int, int], size: int,
        kernel: Callable[[int, tuple[tuple[type[Op], set[int]], ...]], Kernel],
        params: Callable[[int], tuple[int, ...]],
    ) -> None:  # fmt: skip
        self.text, self.bases, self.size = text, bases, size
        self._kernel_of, self._params_of = kernel, params
        self.roles: dict[int, str] = {}
        self.guards: list[tuple[int, int, int]] = []  # offsets of what is compared: in the arena, in the text; bytes
        self.guard_steps: list[int] = []
        self.reaches: list[tuple[int, int, bool]] = []  # parts of the arena that are touched; whether written to
        self.is_shared_out = False
        self.needed: set[tuple[Op, int]] = set()  # kernels that are not named in the text
        self._step = 0
        self._region: list[int] = [0, 0]  # constants, and words of walks

    # --- words --------------------------------------------------------------------------------------------------------

    def refuse(self, what: str) -> NoReturn:
        """Say what is wrong."""
        raise InvalidError(f"step {self._step} {what}")

    def role(self, i: int, role: str) -> int:
        """The word at a place, which has one role."""
        if not 0 <= i < len(self.text):
            self.refuse("reads behind the end of the text")
        if self.roles.setdefault(i, role) != role:
            self.refuse(f"takes what is {self.roles[i]} for {role}")
        if (i in self.bases) is not (role == "an address"):
            self.refuse(f"has {'an address' if i in self.bases else 'a number'} in the place of {role}")
        return self.text[i]

    def number(self, i: int, name: str, low: int = 0, high: int = _MOST) -> int:
        """A number within bounds."""
        number = self.role(i, "a number")
        if not low <= number <= high:
            self.refuse(f"has {name} {number}, which is not between {low} and {high}")
        return number

    def size_at(self, i: int, name: str = "elements of") -> int:
        """The bytes of an element."""
        size = self.number(i, name)
        if size not in _SIZES:
            self.refuse(f"has {name} {size} bytes")
        return size

    def ignored(self, i: int) -> None:
        """A word that is written before it is read."""
        self.roles.setdefault(i, "nothing")
        if self.roles[i] != "nothing" or i in self.bases:
            self.refuse(f"takes {self.roles[i]} for what is not read")

    def kernel(self, i: int, *families: tuple[type[Op], set[int]]) -> Kernel:
        """A kernel of one of these classes and cells."""
        word = self.role(i, "a kernel")
        kernel = self._kernel_of(word, families)
        if not any(isinstance(kernel.op, family) and kernel.cell in cells for family, cells in families):
            self.refuse(f"calls {kernel.op.name!r}, whose kernel {kernel.cell} is of another form")
        return kernel

    def reach(self, i: int, low: int, high: int, writes: bool = False) -> None:
        """The memory from `low` to `high` bytes behind the address at `i` is touched."""
        if low >= high:
            return
        offset, base = self.role(i, "an address"), self.bases[i]
        low, high = offset + low, offset + high
        most = {ARENA: self.size, TEXT: 8 * len(self.text), SCRATCH: _IN_SCRATCH}.get(base, 0)
        least = 0
        if base == TABLES:
            least, most = _AT["constants"], _AT["constants"] + 8 * self._region[0]
        if low < least or high > most or (writes and base in (TEXT, TABLES)):
            what = {ARENA: "the arena", TEXT: "the text", SCRATCH: "the registers"}.get(base, "the constants")
            self.refuse(f"{'writes' if writes else 'reads'} bytes {low} to {high} of {what}, which has {most - least}")
        if base == ARENA:
            self.reaches.append((low, high, writes))

    def in_text(self, i: int, words: int) -> int:
        """The place of so many words to which an address in the text leads."""
        offset = self.role(i, "an address")
        if self.bases[i] != TEXT or offset % 8 or not 0 <= offset // 8 <= len(self.text) - words:
            self.refuse("refers to words that are not in the text")
        return offset // 8

    # --- steps --------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Go through all steps; raises InvalidError."""
        at = 0
        while True:
            self._step = at // STEP
            what = self.number(at, "the name")
            if what == END:
                break
            if what not in _STEPS:
                self.refuse(f"has the unknown name {what}")
            _STEPS[what](self, at)
            at += STEP
        stray = self.bases.keys() - self.roles.keys()
        if stray:
            self.refuse(f"is the last, but word {min(stray)} is an address that no step has")

    def _filled(self, at: int) -> None:
        n, size = self.number(at + 2, "elements"), self.size_at(at + 4)
        self.role(at + 3, "a number")
        self.reach(at + 1, 0, n * size, True)

    def _copied(self, at: int) -> None:
        nbytes = self.number(at + 3, "bytes")
        self.reach(at + 1, 0, nbytes, True)
        self.reach(at + 2, 0, nbytes)

    def _float(self, i: int) -> int:
        """The bytes of an element of a floating dtype, by its code."""
        return ITEMSIZE[self.number(i, "a dtype", FLOAT32.code, FLOAT64.code)]

    def _ones(self, at: int) -> None:
        self.reach(at + 1, 0, self.number(at + 2, "elements") * self._float(at + 3), True)

    def _added(self, at: int) -> None:
        size = self._float(at + 3)
        self.reach(at + 1, 0, size, True)
        self.reach(at + 2, 0, size)

    def _guard(self, at: int) -> None:
        nbytes, number = self.number(at + 3, "bytes", 1), self.number(at + 4, "a guard")
        if number != len(self.guards):
            self.refuse(f"is guard {number}, which is not the next")
        if self.bases.get(at + 1) != ARENA:
            self.refuse("guards what is not in the arena")
        self.reach(at + 1, 0, nbytes)
        place = self.in_text(at + 2, (nbytes + 7) // 8)
        self.guards.append((self.text[at + 1], 8 * place, nbytes))
        self.guard_steps.append(at)

    def _walk(self, place: int, limit: int, least: int = 1) -> tuple[int, int]:
        """How far a walk reaches, both ways."""
        n = self.number(place, "runs of a walk", 1, MOST_DIMENSIONS)
        if place + 1 + 2 * n > limit:
            self.refuse("has a walk that does not end where it should")
        low = high = 0
        for d in range(n):
            length = self.number(place + 1 + 2 * d, "the length of a run", least)
            stride = self.number(place + 2 + 2 * d, "a stride", -_MOST)
            low, high = low + min(0, (length - 1) * stride), high + max(0, (length - 1) * stride)
        return low, high

    def _walk_in_text(self, i: int) -> tuple[int, int]:
        return self._walk(self.in_text(i, 1), len(self.text))

    def _given(self, at: int) -> None:
        low, high = self._walk_in_text(at + 1)
        n, size = self.number(at + 4, "elements"), self._float(at + 5)
        self.reach(at + 2, low, high + size)
        self.reach(at + 3, 0, n * size, True)

    def _put_back(self, at: int) -> None:
        low, high = self._walk_in_text(at + 1)
        n, size = self.number(at + 4, "elements"), self.size_at(at + 5)
        self.reach(at + 2, 0, n * size)
        self.reach(at + 3, low, high + max(size, 4), True)

    def _states(self, kernel: Kernel, low: int, high: int, number: int, count: int) -> int:
        """The bytes of the states that a reduction's terms are merged into by a walk."""
        if number != kernel.number_size:
            self.refuse(f"has states of {number} bytes, of {kernel.op.name!r} for {DTYPES[kernel.code].name}")
        if low < 0 or high + number > count * number:
            self.refuse(f"merges into {high // number + 1} states, of which there are {count}")
        return count * number * kernel.parts

    def _merged(self, at: int) -> None:
        low, high = self._walk_in_text(at + 1)
        kernel = self.kernel(at + 8, (Reduction, _ACCUMULATE))
        n, size = self.number(at + 4, "elements"), self.size_at(at + 5)
        number = self.number(at + 6, "bytes of a state")
        self.number(at + 7, "states")
        if size != ITEMSIZE[kernel.code] or kernel.parts != 1 or number != kernel.number_size:
            self.refuse(f"merges elements of {size} bytes by {kernel.op.name!r} for {DTYPES[kernel.code].name}")
        self.reach(at + 2, 0, n * size)
        self.reach(at + 3, low, high + number, True)  # the target may begin within the states

    def _settled(self, at: int) -> None:
        kernel, n = self.kernel(at + 1, (Reduction, _ACCUMULATE)), self.number(at + 2, "states")
        self.reach(at + 3, 0, n * kernel.number_size)
        self.reach(at + 4, 0, n * ITEMSIZE[kernel.code], True)

    def _called(self, at: int) -> None:
        is_reverse = self.text[at] == observed.CALLED8
        families = ((Elementwise, _REVERSE), (Reduction, {1})) if is_reverse else ((Elementwise, _FORWARD),)
        kernel = self.kernel(at + 1, *families)
        n, mode = self.number(at + 2, "elements"), self.number(at + 3, "the mode", 0, 31)
        for k, size, is_one, writes in reaches(kernel, mode):
            self.reach(at + 4 + k, 0, size if is_one and n else n * size, writes)
        for k in range(6 if is_reverse else 4):
            self._unread(at + 4 + k)

    def _unread(self, i: int) -> None:
        """A word for an address that may be that of nothing."""
        if i not in self.roles:
            self.role(i, "an address" if i in self.bases else "a number")

    # --- regions ------------------------------------------------------------------------------------------------------

    def _bound(self, at: int) -> None:
        _Image(self, self.in_text(at + 1, HEAD)).check()

    # --- array rows ---------------------------------------------------------------------------------------------------

    def _alone(self, at: int) -> None:
        kernel = self.kernel(at + 1, (Array, {0, 1, 2, 3}))
        facts, size = op_table[kernel.op.opcode], self.size_at(at + 2)
        params, y, k_bar = self._context(at + 8, kernel)
        codes = kernel.op.signature(kernel.code)
        if size != ITEMSIZE[codes[-1]]:
            self.refuse(f"has elements of {size} bytes of {kernel.op.name!r}")
        self._room(self.text[at + 8] // 8, kernel, params)
        adds = int(facts["adding"]) >> kernel.cell & 1 and size == 4
        n_sums = self.text[at + 8] // 8 + _C["n_sums"]
        if self.number(n_sums, "sums") != ((k_bar if kernel.cell else y) if adds else 0):
            self.refuse(f"has another number of sums than {kernel.op.name!r} adds to")
        if (int(facts["shared"]) | int(facts["summed"])) >> kernel.cell & 1:
            self.refuse(f"has {kernel.op.name!r} done at once, which is done in pieces")

    def _context(self, i: int, kernel: Kernel) -> tuple[list[int], int, int]:
        """Look at what an array kernel is given: its parameters, the elements of its result, and of the adjoint."""
        at, op = self.in_text(i, CONTEXT), kernel.op
        codes, k = op.signature(kernel.code), kernel.cell - 1
        saves = 7 if k < 0 else int(op.saves[k])
        n_params = self.number(at + _C["n_params"], "parameters", 0, 1 << 20)
        params = []
        if n_params:
            place = self.in_text(at + _C["params"], n_params)
            params = [self.role(place + j, "a parameter") for j in range(n_params)]
        else:
            self._unread(at + _C["params"])
        for j, v in enumerate("abc"):
            n = self.number(at + _C[f"n_{v}"], "elements")
            if n and j >= op.arity:
                self.refuse(f"gives {op.name!r} more than {op.arity} operands")
            if n and saves >> j & 1:
                self.reach(at + _C[v], 0, n * ITEMSIZE[codes[j]])
            self._unread(at + _C[v])
        y = self.number(at + _C["n_y"], "elements")
        if k < 0 or saves & 8:
            self.reach(at + _C["y"], 0, y * ITEMSIZE[codes[-1]], k < 0)
        self._unread(at + _C["y"])
        k_bar = 0
        if k >= 0:
            k_bar = self.number(at + _C["n_k_bar"], "elements")
            self.reach(at + _C["y_bar"], 0, y * ITEMSIZE[codes[-1]])
            self.reach(at + _C["k_bar"], 0, k_bar * ITEMSIZE[codes[k]], True)
        else:
            self.ignored(at + _C["n_k_bar"])
        for name in ("y_bar", "k_bar"):
            self._unread(at + _C[name])
        for name in ("gemm64", "gemm32", "lapack"):
            self.role(at + _C[name], name)
        if self.bases.get(at + _C["work"]) != TABLES or self.role(at + _C["work"], "an address") != _AT["work"]:
            self.refuse("has its work elsewhere")
        self.number(at + _C["begun"], "the beginning", 0, 2)
        for name in ("lo", "hi", "failed_batch", "failed_index", "memory", "sums", "tile"):
            self.ignored(at + _C[name])
        if op_table[op.opcode]["along"] and (
            len(params) < 3 or min(params[:3]) < 0 or params[0] * params[1] * params[2]
            != self.text[at + _C["n_a"]]
        ):  # fmt: skip
            self.refuse(f"has {op.name!r} go along axes of {params[:3]}, of {self.text[at + _C['n_a']]} elements")
        return params, y, k_bar

    def _room(self, context: int, kernel: Kernel, params: list[int]) -> int:
        """The elements that an array kernel has to work in."""
        facts, n = op_table[kernel.op.opcode], 0
        if int(facts["working"]) >> kernel.cell & 1:
            place = int(facts["room"]) - 1
            given = [self.text[context + _C["n_a"]]] if place == ROOM_OF_A else params[place : place + 1]
            if not given or not 0 <= given[0] <= _MOST:
                self.refuse(f"gives {kernel.op.name!r} no room to work in")
            (n,) = given
        if self.number(context + _C["n_memory"], "elements to work in") != n:
            self.refuse(f"gives {kernel.op.name!r} other room to work in than it has")
        return n

    def _in_pieces(self, at: int) -> None:
        kernel = self.kernel(at + 1, (Array, {0, 1, 2, 3}))
        op, facts = kernel.op, op_table[kernel.op.opcode]
        params, y, k_bar = self._context(at + 8, kernel)
        pieces, context = self.in_text(at + 9, PIECES), self.text[at + 8] // 8
        self.ignored(context + _C["n_sums"])
        units, outer = self.number(at + 2, "units"), self.number(at + 3, "the form", 0, 1)
        codes = op.signature(kernel.code)
        place = 0 if outer else int(facts["units"])
        if outer != int(bool(facts["along"])) or (place < UNITS_OF_B and place >= len(params)):
            self.refuse(f"shares {op.name!r} out by what it does not have")
        known = self.text[context + _C["n_b"]] if not outer and place >= UNITS_OF_B else params[place]
        if units != known or not int(facts["shared"]) >> kernel.cell & 1:
            self.refuse(f"shares {op.name!r} out to {units} units, of {known}")
        if self.number(at + 4, "the form", 0, 1) != int(kernel.cell > 0):
            self.refuse(f"has {op.name!r} the wrong way round")
        summed = int(facts["summed"]) >> kernel.cell & 1
        n, code = self.number(at + 5, "elements"), self.number(at + 6, "a dtype", 0, len(DTYPES) - 1)
        of = codes[-1] if kernel.cell == 0 else codes[kernel.cell - 1]
        if n != ((k_bar if kernel.cell else y) if summed else 0) or (summed and code != of):
            self.refuse(f"sums {n} elements of {op.name!r}")
        if n:
            self.needed.add((_sum(), code))
        self.number(at + 7, "elements")
        room_bytes = self.number(pieces + _S["room_bytes"], "bytes to work in")
        if room_bytes != self._room(context, kernel, params) * ITEMSIZE[codes[-1]]:
            self.refuse(f"gives {op.name!r} other room to work in than it has")
        self.is_shared_out = True
        units_at = pieces + _S["unit_bytes"]
        if outer and units:
            a = self.text[context + _C["n_a"]] // units * ITEMSIZE[codes[0]]
            each = y // units * ITEMSIZE[codes[-1]]
            steps = [self.number(units_at + j, "bytes of a unit") for j in range(6)]
            if steps != [a, 0, 0, each, each, a] or len(params) > _MOST_PARAMS:
                self.refuse(f"has units of {op.name!r} of other sizes")
        for place in range(pieces, pieces + PIECES):
            if place != pieces + _S["room_bytes"] and not (outer and units and units_at <= place < units_at + 6):
                self.ignored(place)


def _sum() -> Op:
    return next(op for op in OPS if isinstance(op, Reduction) and op.name == "sum")


class _Image:
    """A region in the text: what of the tables is used, one table behind another."""

    def __init__(self, checker: Checker, at: int) -> None:
        self.of, self.at = checker, at
        number, refuse = checker.number, checker.refuse
        counts = {
            name: number(at + _P[name], f"{name} of a region", 0, most)
            for name, most in (
                ("n_registers", MOST_REGISTERS), ("n_code", MOST_CODE), ("n_setup", MOST_SETUP),
                ("n_constants", MOST_CONSTANTS), ("n_ahead", MOST_REGISTERS), ("walk_words", MOST_WALK_WORDS),
            )
        }  # fmt: skip
        self.registers = at + HEAD
        self.code = self.registers + REGISTER * counts["n_registers"]
        self.setup = self.code + CODE * counts["n_code"]
        self.constants = self.setup + CODE * counts["n_setup"]
        self.ahead = self.constants + counts["n_constants"]
        self.walks = self.ahead + counts["n_ahead"]
        self.end = self.walks + counts["walk_words"]
        self.counts = counts
        if self.end > len(checker.text):
            refuse("has a region that does not end in the text")
        self.n_rows = number(at + _P["n_rows"], "rows")
        self.inner = number(at + _P["inner"], "lanes of a row", 1)
        self.block = number(at + _P["block"], "rows of a block", 1, _MOST_LANES)
        self.chunk = number(at + _P["chunk"], "rows of a chunk", min(self.n_rows, 1))
        self.n_chunks = number(at + _P["n_chunks"], "chunks", 0, MOST_CHUNKS)
        self.partial_bytes = number(at + _P["partial_bytes"], "bytes", 0, MOST_PARTIAL_BYTES)
        self.shared_bytes = number(at + _P["shared_bytes"], "bytes")
        if self.n_rows * self.inner > _MOST_LANES:
            refuse(f"has a region of {self.n_rows} rows of {self.inner} lanes")
        covered = self.n_chunks * self.chunk
        if covered < self.n_rows or (self.n_chunks > 1 and covered - self.chunk >= self.n_rows):
            refuse(f"has {self.n_chunks} chunks of {self.chunk} rows, of {self.n_rows}")
        used = {*counts, "n_rows", "inner", "block", "chunk", "n_chunks", "partial_bytes", "shared_bytes"}
        for name, place in _P.items():
            if place < HEAD and name not in used:
                checker.ignored(at + place)
        self.most = min(self.block, self.chunk, self.n_rows)  # rows that are swept at once
        checker._region = [counts["n_constants"], counts["walk_words"]]
        checker.is_shared_out |= self.n_chunks > 1

    def check(self) -> None:
        """Look at registers and instructions."""
        of, counts = self.of, self.counts
        for r in range(counts["n_registers"]):
            at = self.registers + REGISTER * r
            if of.number(at + _R["scratch"], "the place of a register", 0, 1):
                of.number(at + _R["base"], "the place of a register", 0, _IN_SCRATCH)
            else:
                of._unread(at + _R["base"])
            of.number(at + _R["step"], "the step of a register")
            of.number(at + _R["level"], "the level of a register", NARROW, VECTOR)
            of.number(at + _R["size"], "the size of a register", 0, 8)
            self._rest(range(at, at + REGISTER))
        for j in range(counts["n_constants"]):
            of.role(self.constants + j, "a number")
        for j in range(counts["n_ahead"]):
            of.number(self.ahead + j, "a register", 0, counts["n_registers"] - 1)
        for j in range(counts["n_setup"]):
            at = self.setup + CODE * j
            if of.number(at + _I["what"], "an instruction") != SPREAD:
                of.refuse("prepares a region by other than spreading")
            self._spread(at)
            self._plain(at)
        for j in range(counts["n_code"]):
            at = self.code + CODE * j
            what = of.number(at + _I["what"], "an instruction")
            if what not in _INSTRUCTIONS:
                of.refuse(f"has the unknown instruction {what}")
            _INSTRUCTIONS[what](self, at)
            if what != SCATTER:
                self._plain(at)

    def _plain(self, at: int) -> None:
        """What is the same in all instructions but SCATTER."""
        self.of.number(at + _I["partial"], "states of a chunk", -1, -1)
        self._rest(range(at, at + CODE))

    def _rest(self, places: range) -> None:
        """Words that are not read."""
        for place in places:
            if place not in self.of.roles:
                self.of.ignored(place)

    def _width(self, at: int) -> int:
        return self.of.number(at + _I["width"], "the width", NARROW, VECTOR)

    def _lanes(self, width: int, n_rows: int) -> int:
        return n_rows * self.inner if width == WIDE else n_rows if width == NARROW else 1

    def _register(self, i: int) -> int:
        """Where a register is described."""
        return self.registers + REGISTER * self.of.number(i, "a register", 0, self.counts["n_registers"] - 1)

    def _touch(self, i: int, first: int, most: int, writes: bool = False) -> None:
        """An instruction touches so many bytes of a register: of a block of one row, and of as many as there are."""
        of, register = self.of, self._register(i)
        if not self.n_rows:
            return
        step = of.number(register + _R["step"], "the step of a register")
        high = max(step * (self.n_rows - 1) + first, step * (self.n_rows - self.most) + most)
        if not of.text[register + _R["scratch"]]:
            of.reach(register + _R["base"], 0, high, writes)
        elif of.text[register + _R["base"]] + high > _IN_SCRATCH:
            of.refuse(f"has a register of {high} bytes, beyond the memory for registers")

    def _of_width(self, i: int, width: int, size: int, writes: bool = False) -> None:
        self._touch(i, self._lanes(width, 1) * size, self._lanes(width, self.most) * size, writes)

    def _computed(self, at: int) -> None:
        of = self.of
        is_reverse = of.text[at + _I["what"]] == REVERSE
        families = ((Elementwise, _REVERSE), (Reduction, {1})) if is_reverse else ((Elementwise, _FORWARD),)
        kernel, mode = of.kernel(at + _I["kernel"], *families), of.number(at + _I["mode"], "the mode", 0, 31)
        width = self._width(at)
        for k, size, is_one, writes in reaches(kernel, mode):
            place = at + _I["a"] + k
            if is_one:
                self._touch(place, size, size)
            else:
                self._of_width(place, width, size, writes)
        for name in ("a", "b", "c", "y") + (("g", "k") if is_reverse else ()):
            self._register(at + _I[name])

    def _walk(self, at: int) -> tuple[int, int]:
        of, place = self.of, at + _I["walk"]
        offset = of.role(place, "an address") - _AT["walks"]
        if of.bases[place] != TABLES or offset % 8 or not 0 <= offset < 8 * self.counts["walk_words"]:
            of.refuse("has a walk that is not among those of its region")
        return of._walk(self.walks + offset // 8, self.end, min(self.n_rows, 1))

    def _gathered(self, at: int) -> None:
        low, high = self._walk(at)
        size = self.of.size_at(at + _I["mode"])
        if self.n_rows:
            self.of.reach(at + _I["address"], low, high + size)
        self._of_width(at + _I["y"], self._width(at), size, True)

    def _put(self, at: int) -> None:
        low, high = self._walk(at)
        size = self.of.size_at(at + _I["mode"])
        if size < 4:
            self.of.refuse("adds to what are no floats")
        if self.n_rows:
            self.of.reach(at + _I["address"], low, high + size, True)
        self._of_width(at + _I["a"], self._width(at), size)

    def _scattered(self, at: int) -> None:
        of, (low, high) = self.of, self._walk(at)
        kernel, size = of.kernel(at + _I["kernel"], (Reduction, _ACCUMULATE)), of.size_at(at + _I["mode"])
        state, count = of.number(at + _I["state"], "bytes of a state", 1), of.number(at + _I["count"], "states")
        if size != ITEMSIZE[kernel.code] or state != kernel.number_size * kernel.parts:
            of.refuse(f"merges {size} bytes into states of {state} by {kernel.op.name!r}")
        nbytes = of._states(kernel, low, high, kernel.number_size, count) if self.n_rows else count * state
        partial = of.number(at + _I["partial"], "states of a chunk", -1)
        if partial >= 0 and partial + nbytes > self.partial_bytes and self.n_chunks:
            of.refuse("has more states of chunks than there is memory for")
        of.role(at + _I["start"], "a number")
        of.reach(at + _I["address"], 0, nbytes, True)
        self._of_width(at + _I["a"], self._width(at), size)
        of.number(at + _I["terms"], "terms")
        if of.text[at + _I["finish"]]:
            finish = of.kernel(at + _I["finish"], (Reduction, _FINISH))
            if finish.code != kernel.code or finish.parts != kernel.parts:
                of.refuse(f"makes results by {finish.op.name!r} of the states of {kernel.op.name!r}")
        else:
            of.number(at + _I["finish"], "no kernel", 0, 0)
        of.reach(at + _I["target"], 0, count * size, True)
        for name in ("address", "target"):
            of._unread(at + _I[name])
        self._rest(range(at, at + CODE))

    def _spread(self, at: int) -> None:
        of, width, register = self.of, self._width(at), self._register(at + _I["a"])
        size, level = of.size_at(at + _I["mode"]), of.number(register + _R["level"], "the level", NARROW, VECTOR)
        step = of.number(register + _R["size"], "the size of a register", 0, 8)
        lanes = self.inner if width == WIDE else 1
        if level in (SINGLE, VECTOR):
            nbytes = size if level == SINGLE else lanes * size
            self._touch(at + _I["a"], nbytes, nbytes)
        else:
            self._touch(at + _I["a"], size, (self.most - 1) * step + size)
        self._touch(at + _I["y"], lanes * size, self.most * lanes * size, True)

    def _streamed(self, at: int) -> None:
        of, size, step = self.of, self.of.size_at(at + _I["mode"]), self.of.number(at + _I["walk"], "a step")
        first, most = self.inner * size, self.most * self.inner * size
        self._touch(at + _I["a"], first, most)
        if self.n_rows:
            high = max(step * (self.n_rows - 1) + first, step * (self.n_rows - self.most) + most)
            of.reach(at + _I["address"], 0, high, True)
        self._width(at)

    def _reduced(self, at: int) -> None:
        kernel = self.of.kernel(at + _I["kernel"], (Reduction, _ROWS))
        size = ITEMSIZE[kernel.code]
        if self.of.size_at(at + _I["mode"]) != size:
            self.of.refuse(f"reduces other elements than {kernel.op.name!r} has for {DTYPES[kernel.code].name}")
        self._of_width(at + _I["a"], WIDE, size)
        self._of_width(at + _I["y"], NARROW, size, True)
        self._width(at)
        self.of.number(at + _I["count"], "the beginning", 0, 1)

    def _zeroed(self, at: int) -> None:
        self._of_width(at + _I["y"], self._width(at), self.of.size_at(at + _I["mode"]), True)

    def _along(self, at: int) -> None:
        of, width = self.of, self._width(at)
        is_back = of.text[at + _I["what"]] == BACK
        kernel = of.kernel(at + _I["kernel"], (Array, {1} if is_back else _FORWARD))
        params = of._params_of(of.role(at + _I["walk"], "parameters"))
        if (
            not op_table[kernel.op.opcode]["along"] or not 3 <= len(params) <= _MOST_PARAMS
            or params[1] != self.inner or params[2] != 1 or self.inner > max(MAX_INNER, self.n_rows * self.inner)
            or width not in (WIDE, NARROW) or kernel.takes & _SUPPLIED
        ):  # fmt: skip
            of.refuse(f"has {kernel.op.name!r} go along rows of {params[1:3]}, of {self.inner} lanes")
        codes = kernel.op.signature(kernel.code)
        saves = int(kernel.op.saves[0]) if is_back else 1
        if width == NARROW and kernel.op.same_shape:  # type: ignore[attr-defined]
            of.refuse(f"has a result of {kernel.op.name!r} that is narrower")
        if saves & 1:
            self._of_width(at + _I["a"], WIDE, ITEMSIZE[codes[0]])
        if not is_back or saves & 8:
            self._of_width(at + _I["y"], width, ITEMSIZE[codes[-1]], not is_back)
        if is_back:
            self._of_width(at + _I["g"], width, ITEMSIZE[codes[-1]])
            self._of_width(at + _I["k"], WIDE, ITEMSIZE[codes[0]], True)
        for name in ("a", "y", "g", "k"):
            self._register(at + _I[name])


_STEPS: dict[int, Callable[[Checker, int], None]] = {
    observed.FILLED: Checker._filled, observed.COPIED: Checker._copied, observed.ONES: Checker._ones,
    observed.ADDED: Checker._added, observed.GIVEN: Checker._given, observed.PUT_BACK: Checker._put_back,
    observed.MERGED: Checker._merged, observed.SETTLED: Checker._settled, observed.CALLED6: Checker._called,
    observed.CALLED8: Checker._called, observed.BOUND: Checker._bound, observed.ALONE: Checker._alone,
    observed.IN_PIECES: Checker._in_pieces, GUARD: Checker._guard,
}  # fmt: skip
_INSTRUCTIONS: dict[int, Callable[[_Image, int], None]] = {
    FORWARD: _Image._computed, REVERSE: _Image._computed, GATHER: _Image._gathered, SCATTER: _Image._scattered,
    SPREAD: _Image._spread, REDUCE: _Image._reduced, ALONG: _Image._along, BACK: _Image._along,
    ZERO: _Image._zeroed, STREAM: _Image._streamed, PUT: _Image._put,
}  # fmt: skip
