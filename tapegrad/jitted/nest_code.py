"""The code of a nest: what runs it and keeps what its reverse needs, and the reverse, as texts of jitted functions.

The forward function takes the values of its arrays into the tape, but for those that it only reads and whose values the
reverse doesn't need, and runs the nest on these. What it keeps besides, one number after the other, are *slots*: an
element of an array that the nest writes to, where the value is needed again (a partial derivative, or an index, is made
of it), a scalar that comes from before, where a piece of straight code or a loop needs it, and the result of a dear
function, which takes longer than memory (`Analysis._is_dear`), or its slope. Where an array has fewer stores than such
elements, what a store overwrites is kept instead, and the reverse restores the array, store by store
(`Analysis.restored`). All else is computed again by the reverse function, which goes through the nest backwards, piece
by piece; a piece takes as many slots whatever its branches do, and the reverse finds them by counting down. Of `min`
and `max` a byte may tell which operand was taken, in place of both: bytes are behind the slots, and counted likewise.

Two kinds of slots are spared. An integer that each turn of a loop moves on is kept behind the loop, and each turn takes
back what it was moved on by (`Step`). An array that a loop makes of what is only read is made again, before the reverse
of the body in which that loop stands (`Again`).

Within a piece names have versions, one for each assignment, as in single static assignment; a version's adjoint is
`b_` and its name. Adjoints of arrays are arrays of the same shape.

      read only     | those of its rows, if these follow each other; else memory that is added to these at the end
      written to    | the adjoints of the rows that it gets: a store takes one away and leaves 0

A store of what was loaded from there, plus something, takes nothing away (`Put.adds`). Of an array that is only read,
an element that is the same for a whole innermost loop is read before it, and its adjoint summed beside
(`Get.is_outside`). An innermost loop that only adds is not reversed, so that it may become a vector.
Nor is one whose turns have nothing to do with each other, of elements of arrays, in `nest_arrays.py`; where such a loop
reads several elements of one array, its reverse is a loop for each of them (`Share`), or for all that have one last
index, which each turn moves: of these loops no turn adds to what another one adds to, and they become vectors. Where
these are neighbours, known numbers apart, one loop gathers what the turns around an element add to it (`Gather`).
"""

from __future__ import annotations

import operator
import sys
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tapegrad.jitted.names import POWERS, RULES
from tapegrad.jitted.nest_types import Names
from tapegrad.jitted.nests import (
    OP_OF,
    Compute,
    Const,
    Extent,
    If,
    Load,
    Loop,
    Operand,
    Store,
    read_by,
    statements,
    target_of,
)
from tapegrad.ops.declare import parameters

_TURNS = 8  # that a loop is thought to have
_MOST_APART = 8  # neighbours whose shares are gathered: at the ends of a loop, so many elements take them one by one
_MOST_GATHERED = 24  # operations in such a loop: with more, memory takes little of the time, and compiling much
_CHEAP = {operator.add, operator.sub, operator.mul, operator.neg, operator.pos, np.divide, np.square, None}  # twice
# What takes no longer than to write a number and to read it. All else with a derivative is dear: its result is kept.
_FAST = {"add", "sub", "mul", "div", "neg", "clone", "abs", "square", "reciprocal", "deg2rad", "rad2deg", "copysign",
         "maximum", "minimum", "fmax", "fmin", "_builtin_max", "_builtin_min", "clamp", "sqrt"}  # fmt: skip
# Sine and cosine of one number take little longer than one of them, where the C library has a function for both, which
# gives the same as theirs to the last bit.
_TWINS = {"sin", "cos"} if sys.platform == "linux" else set[str]()
_SIGNS = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.truediv: "/", operator.floordiv: "//",
    operator.mod: "%", operator.pow: "**", operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=",
    operator.eq: "==", operator.ne: "!=",
}  # fmt: skip


@dataclass(eq=False)
class Op:
    """y = function(*xs)."""

    y: str
    function: Any
    xs: list[Operand]
    kept: int | None = None  # the operand that is an element, which stays as it is where it is chosen
    choice: int | None = None  # the byte that tells which operand was taken, in place of what that is made of
    slot: int | None = None  # of its result, where that is dear
    slope: int | None = None  # of its partial derivative, where both together are less dear


@dataclass(eq=False)
class Get:
    """y = array[index]."""

    y: str
    array: str
    index: list[Operand]
    slot: int | None = None
    is_outside: bool = False
    is_absorbed: bool = False  # by a store that adds, or keeps


@dataclass(eq=False)
class Put:
    """array[index] = x."""

    array: str
    index: list[Operand]
    x: Operand
    adds: bool = False
    slot: int | None = None  # of what was there before, in an array that is restored
    keeps: Op | None = None  # what chooses between what was there before and something else


@dataclass(eq=False)
class Fork:
    """A branch; of names that it assigns, (version behind, one of each side)."""

    condition: Operand
    then: list[Any]
    other: list[Any]
    merged: list[tuple[str, str, str]]


class Step(NamedTuple):
    """name = name + by, for an integer; or less, as the sign says."""

    name: str
    sign: str
    by: Operand


@dataclass(eq=False)
class Piece:
    """Straight code, and its branches."""

    statements: list[Any]
    nodes: list[Any] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)  # of versions
    final: dict[str, str] = field(default_factory=dict)  # the last version of a name
    exposed: dict[str, str] = field(default_factory=dict)  # the version that a name has from before
    barred: set[str] = field(default_factory=set)  # versions that adjoints may reach
    needed: set[str] = field(default_factory=set)  # whose values the reverse needs
    slots: dict[str, int] = field(default_factory=dict)  # of versions from before
    n: int = 0  # slots
    n_choices: int = 0  # bytes
    steps: list[Step] = field(default_factory=list)  # that the reverse takes back


@dataclass(eq=False)
class Turn:
    """A branch with loops in it: a slot says which way was taken."""

    source: If
    then: list[Any]
    other: list[Any]


class Share(NamedTuple):
    """What one of several loops takes back, in the place of one: the versions whose adjoints it takes."""

    reached: set[str]
    is_first: bool
    is_last: bool
    is_free: bool  # no turn meets an adjoint that another one changes


class Gather(NamedTuple):
    """One loop over elements, each of which gets what all turns add to it, in the place of a loop for each share.

    A few elements at both ends come behind it: they are read by fewer turns.
    """

    shares: dict[int, Share]  # by d: how much further an element is than the turn that reads it
    places: list[tuple[str, tuple[Operand, ...]]]  # arrays, with their indices but for the last


@dataclass(eq=False)
class Pass:
    """A loop; `kept` are scalars that its pieces need and it doesn't change, `outside` what is read before it."""

    loop: Loop
    body: list[Any]
    kept: list[str] = field(default_factory=list)
    outside: list[Get] = field(default_factory=list)
    in_any_order: bool = False  # whether the reverse may take its turns in any order
    gather: Gather | None = None  # what its reverse begins with
    shares: list[Share] = field(default_factory=list)  # of its reverse, if that is several loops, or what is left of it
    again: list[Again] = field(default_factory=list)  # what the reverse of each turn begins with

    @property
    def is_innermost(self) -> bool:
        """Whether there is no loop within."""
        return all(isinstance(item, Piece) for item in self.body)


class Again(NamedTuple):
    """A loop that makes an array of what is only read: its one store, and the versions of which this is made."""

    loop: Pass
    put: Put
    needed: set[str]


class Analysis:
    """The parts of a nest, and what each of them keeps."""

    def __init__(self, names: Names) -> None:
        self.names, self.n_versions = names, 0
        self.sources: dict[int, Any] = {}  # by statement
        self.loads: dict[int, Load] = {}  # the other way
        self.top = self._pass(names.loop)
        self.shared: set[str] = set()  # names that a piece has from before, or that are read behind
        self.known = self._find_known()
        self.pieces = [piece for _, piece in _with_depth([self.top], 0)]
        for piece in self.pieces:
            self._build(piece)
            self.shared |= set(piece.exposed)

    def finish(self, outputs: Any) -> None:
        """Find what is needed, when it is known what is read behind."""
        self.shared |= set(outputs)
        for piece in self.pieces:
            self._absorb(piece)
            self._need(piece)
            self._find_kept(piece)
        for name in self.names.written:
            self._make_again(name)
        self.restored = [name for name in self.names.written if self._is_restored(name)]
        for node in (node for piece in self.pieces for node in _nodes_of(piece.nodes, (Get, Put))):
            if node.array in self.restored:
                node.slot = 0 if isinstance(node, Put) else None
        self._lift([self.top])
        self._keep([self.top], [])
        for piece in self.pieces:
            for node in _nodes_of(piece.nodes, (Get, Put, Op)):
                if node.slot is not None:
                    node.slot, piece.n = piece.n, piece.n + 1
            for node in _nodes_of(piece.nodes, Op):
                if node.choice is not None:
                    node.choice, piece.n_choices = piece.n_choices, piece.n_choices + 1
                if node.slope is not None:
                    node.slope, piece.n = piece.n, piece.n + 1
        self.has_choices = any(piece.n_choices for piece in self.pieces)

    # --- parts

    def _pass(self, loop: Loop) -> Pass:
        return Pass(loop, self._parts(loop.body))

    def _parts(self, body: list[Any]) -> list[Any]:
        parts: list[Any] = []
        for item in body:
            if isinstance(item, Loop):
                parts.append(self._pass(item))
            elif isinstance(item, If) and any(isinstance(s, Loop) for s in statements([item])):
                parts.append(Turn(item, self._parts(item.then), self._parts(item.other)))
            else:
                if not parts or not isinstance(parts[-1], Piece):
                    parts.append(Piece([]))
                parts[-1].statements.append(item)
        return parts

    # --- versions

    def _version(self, piece: Piece, name: str) -> str:
        self.n_versions += 1
        version = f"{name}_{self.n_versions}"
        piece.kinds[version] = self.names.of[name]
        return version

    def _build(self, piece: Piece) -> None:
        present: dict[str, str] = {}
        piece.nodes = self._nodes(piece, piece.statements, present, statements_behind=[])
        piece.final = present

    def _read(self, piece: Piece, operand: Operand, present: dict[str, str]) -> Operand:
        if isinstance(operand, Const) or self.names.is_pure(operand):
            return operand
        if operand in present:
            return present[operand]
        version = operand if self.names.is_fixed(operand) else f"{operand}_0"
        piece.kinds[version], piece.exposed[operand] = self.names.of[operand], version
        return version

    def _nodes(self, piece: Piece, body: list[Any], present: dict[str, str], statements_behind: list[Any]) -> list[Any]:
        nodes: list[Any] = []
        for k, item in enumerate(body):
            if isinstance(item, Store):
                index = [self._read(piece, i, present) for i in item.index]
                put = self.sources[id(item)] = Put(item.array, index, self._read(piece, item.value, present))
                nodes.append(put)
            elif isinstance(item, If):
                condition = self._read(piece, item.condition, present)
                ways, sides = [dict(present), dict(present)], []
                for way, side in zip(ways, (item.then, item.other), strict=True):
                    sides.append(self._nodes(piece, side, way, [*statements_behind, *body[k + 1 :]]))
                merged = []
                for name in sorted({n for way in ways for n, v in way.items() if present.get(n) != v}):
                    if self._is_read_beyond(name, item):
                        a, b = (str(self._read(piece, name, way)) for way in ways)
                        merged.append((self._version(piece, name), a, b))
                        present[name] = merged[-1][0]
                nodes.append(Fork(condition, sides[0], sides[1], merged))
            elif not self.names.is_pure(item.target) or isinstance(item, Loop):
                nodes.append(self._assigned(piece, item, present))
        return nodes

    def _assigned(self, piece: Piece, item: Any, present: dict[str, str]) -> Any:
        if isinstance(item, Compute):
            xs = [self._read(piece, o, present) for o in item.operands]
            y = present[item.target] = self._version(piece, item.target)
            made = self.sources[id(item)] = Op(y, item.function, xs)
            return made
        if isinstance(item, Extent):
            y = present[item.target] = self._version(piece, item.target)
            return Op(y, item, [])
        index = [self._read(piece, i, present) for i in item.index]
        y = present[item.target] = self._version(piece, item.target)
        found = self.sources[id(item)] = Get(y, item.array, index)
        self.loads[id(found)] = item
        return found

    def _is_read_beyond(self, name: str, branch: If) -> bool:
        """Whether a name is met outside a branch."""
        inside = {id(s) for s in statements([branch])}
        return name in self.names.given or any(name in read_by(s) for s in self.names.all if id(s) not in inside)

    # --- what is needed

    def _absorb(self, piece: Piece) -> None:
        """Find the stores that add."""
        once = self._used_once(piece)
        for put, k, nodes, made in _stores(piece.nodes):
            waiting = [put.x] if isinstance(put.x, str) else []
            while waiting:
                version = waiting.pop()
                at, node = made.get(version, (0, None))
                if version not in once:
                    continue
                if isinstance(node, Op) and node.function is operator.add:
                    waiting += [x for x in node.xs if isinstance(x, str)]
                elif isinstance(node, Op) and node.function in (operator.sub, None) and isinstance(node.xs[0], str):
                    waiting.append(node.xs[0])
                elif isinstance(node, Get) and _is_still_there(node, put, nodes[at + 1 : k]):
                    put.adds = node.is_absorbed = True
                    break

    def _find_kept(self, piece: Piece) -> None:
        """Find the stores of the smaller, or the larger, of what was there and something else."""
        once = self._used_once(piece)
        for put, k, nodes, made in _stores(piece.nodes):
            chooses = made.get(put.x, (0, None))[1] if put.x in once else None
            if not isinstance(chooses, Op) or chooses.choice is None:
                continue
            for i, x in enumerate(chooses.xs):
                at, node = made.get(x, (0, None)) if x in once else (0, None)
                if isinstance(node, Get) and _is_still_there(node, put, nodes[at + 1 : k]):
                    put.keeps, chooses.kept, node.is_absorbed = chooses, i, True
                    break

    def _used_once(self, piece: Piece) -> set[str]:
        """The versions that are read once, here, and by nobody else."""
        reads, last = list(_operands(piece.nodes)), set(piece.final.values())
        return {v for v in set(reads) if reads.count(v) == 1 and not (v in last and self._is_shared(piece, v))}

    def _is_shared(self, piece: Piece, version: str) -> bool:
        return any(v == version and name in self.shared for name, v in piece.final.items())

    def _need(self, piece: Piece) -> None:
        kinds, barred, needed = piece.kinds, piece.barred, piece.needed

        def is_active(x: Operand) -> bool:
            return isinstance(x, str) and kinds.get(x) == "a"

        def need(*operands: Operand) -> None:
            needed.update(x for x in operands if isinstance(x, str) and x in kinds)

        for name, version in piece.final.items():
            if name in self.shared and is_active(version):
                barred.add(version)

        def walk(nodes: list[Any]) -> bool:
            """Whether there are adjoints in there."""
            found = False
            for node in reversed(nodes):
                if isinstance(node, Put):
                    found = True
                    barred.update({x for x in [node.x] if is_active(x)})
                    need(*node.index)
                elif isinstance(node, Get):
                    if node.y in barred and self.names.elements[node.array] == "a":
                        found = True
                        need(*node.index)
                    if node.y in needed:
                        if node.array in self.names.written:
                            node.slot = 0  # numbered later
                        else:
                            need(*node.index)
                elif isinstance(node, Op):
                    if node.y in barred:
                        found = True
                        if node.function in (min, max) and sum(self._n_slots(piece, x) for x in node.xs) > 1:
                            node.choice = 0  # numbered later
                        if self._is_dear(piece, node) and OP_OF[node.function].name in _TWINS:
                            node.slope = 0  # numbered later
                        for i, x in enumerate(node.xs):
                            if is_active(x):
                                barred.add(str(x))
                                need(*([] if 0 in (node.choice, node.slope) else _for_partial(node, i)))
                    if node.y in needed and self._is_dear(piece, node):
                        node.slot = 0  # numbered later
                    elif node.y in needed:
                        need(*node.xs)
                else:
                    is_met = False
                    for y, a, b in node.merged:
                        if y in barred:
                            is_met = True
                            barred.update(x for x in (a, b) if is_active(x))
                        if y in needed:
                            is_met = True
                            need(a, b)
                    both = [walk(node.then), walk(node.other)]
                    if is_met or any(both):
                        found = True
                        need(node.condition)
            return found

        walk(piece.nodes)

    def _is_dear(self, piece: Piece, node: Op) -> bool:
        """Whether a result is better kept than computed again."""
        is_fast = node.function not in RULES or OP_OF[node.function].name in _FAST or exponent_of(node) is not None
        return piece.kinds[node.y] in "af" and not is_fast

    def _n_slots(self, piece: Piece, x: Operand) -> int:
        """How many slots a value would take."""
        made = {node.y: node for node in piece.nodes if isinstance(node, (Op, Get))}
        waiting, n = [x], 0
        while waiting:
            node = made.get(waiting.pop())
            if isinstance(node, Get):
                n += node.array in self.names.written
            elif node is not None and self._is_dear(piece, node):
                n += 1
            elif node is not None:
                waiting += node.xs
        return n

    def _is_restored(self, name: str) -> bool:
        """Whether the reverse restores an array, and reads what it needs of it there.

        What is restored with a piece is what was before it: nothing that is needed may be read behind a store.
        """
        kept = overwritten = 0
        for depth, piece in _with_depth([self.top], 0):
            puts = [node for node in piece.nodes if isinstance(node, Put) and node.array == name]
            if len(puts) < sum(put.array == name for put in _nodes_of(piece.nodes, Put)):
                return False  # one is in a branch
            stored_at = piece.nodes.index(puts[0]) if puts else len(piece.nodes)
            gets = [n for n in _nodes_of(piece.nodes, Get) if n.array == name and n.slot is not None]
            if any(n.array == name and n.slot is not None for n in _nodes_of(piece.nodes[stored_at:], Get)):
                return False
            if not all(isinstance(i, Const) or self.names.is_pure(i) for node in (*gets, *puts) for i in node.index):
                return False
            kept += len(gets) * _TURNS**depth
            overwritten += len(puts) * _TURNS**depth
        return overwritten < kept

    def _make_again(self, name: str) -> None:
        """Let an array be made again, if all that is needed of it is read behind the one loop that makes it."""
        puts = [(piece, put) for piece in self.pieces for put in _nodes_of(piece.nodes, Put) if put.array == name]
        gets = {id(n) for piece in self.pieces for n in _nodes_of(piece.nodes, Get) if n.array == name and n.slot == 0}
        if len(puts) != 1 or not gets:
            return
        ((piece, put),) = puts
        for around, loop, behind in _loops_in(self.top):
            of_behind = [n for one in behind for n in _nodes_of(one.nodes, Get) if id(n) in gets]
            if loop.body == [piece] and len(of_behind) == len(gets):
                needed = self._made_of(piece, put)
                if needed is not None and all(self._is_made(loop, put, node) for node in of_behind):
                    piece.needed |= needed
                    around.again.append(Again(loop, put, needed))
                    for node in of_behind:
                        node.slot = None

    def _made_of(self, piece: Piece, put: Put) -> set[str] | None:
        """The versions of which a stored value is made, if it is cheap and all comes from what is only read."""
        made = {node.y: node for node in piece.nodes if isinstance(node, (Op, Get))}
        found, waiting = set[str](), [put.x] if isinstance(put.x, str) else []
        while waiting:
            version = waiting.pop()
            node = made.get(version)
            if isinstance(node, Op) and not isinstance(node.function, Extent) and not self._is_dear(piece, node):
                waiting += [x for x in node.xs if isinstance(x, str)]
            elif isinstance(node, Get) and node.array not in self.names.written:
                if not all(map(self.names.is_pure, node.index)):
                    return None
            elif node is None and (self.names.is_fixed(version) or self.names.is_pure(version)):
                continue
            else:
                return None
            found.add(version)
        return found

    def _is_made(self, loop: Pass, put: Put, get: Get) -> bool:
        """Whether an element that is read is one that all turns of a loop together store."""
        (start, stop, step), at = loop.loop.bounds, loop.loop.variable
        if (start, step) != (Const(0), 1) or put.index.count(at) != 1 or not all(map(self.names.is_pure, put.index)):
            return False
        pairs = zip(put.index, get.index, strict=True)
        return all(self._is_below(i, stop) if o == at else i == o for o, i in pairs)

    def _is_below(self, operand: Operand, stop: Operand) -> bool:
        """Whether an index is the variable of loops that begin at 0 or above, and end where another does at most."""
        loops = [item for item in self.names.all if isinstance(item, Loop) and item.variable == operand]
        return bool(loops) and self.names.is_pure(operand) and all(
            isinstance(first, Const) and first.value >= 0 and step > 0 and (last == stop or self._is_below(last, stop))
            for first, last, step in (item.bounds for item in loops)
        )  # fmt: skip

    def is_kept(self, name: str) -> bool:
        """Whether the reverse needs values of an array."""
        if name in self.names.written:
            return True
        if any(isinstance(s, Load) and s.array == name and s.target in self.names.pure for s in self.names.all):
            return True
        gets = ((piece, node) for piece in self.pieces for node in _nodes_of(piece.nodes, Get))
        return any(node.array == name and node.y in piece.needed for piece, node in gets)

    def _lift(self, parts: list[Any]) -> None:
        """Find what is read before innermost loops."""
        for part in parts:
            if isinstance(part, Turn):
                self._lift(part.then)
                self._lift(part.other)
            elif isinstance(part, Pass):
                self._lift(part.body)
                if part.is_innermost:
                    is_apart = part.loop.apart or all(self._is_apart(part.loop, piece) for piece in part.body)
                    part.in_any_order = is_apart or all(map(self._only_adds, part.body))
                    changing = {name for s in statements([part.loop]) if (name := target_of(s)) is not None}
                    for piece in part.body:
                        by_version = {id(node): node for node in piece.nodes if isinstance(node, Get)}
                        for s in piece.statements:
                            node = self.sources.get(id(s)) if isinstance(s, Load) else None
                            if node is None or id(node) not in by_version or node.array in self.names.written:
                                continue
                            is_same = all(self.names.is_pure(i) and i not in changing for i in s.index)
                            n_made = sum(target_of(t) == s.target for t in self.names.all)
                            if is_same and n_made == 1 and self.is_within(s.index):
                                node.is_outside = True
                                part.outside.append(node)
                    if part.in_any_order and len(part.body) == 1:
                        self._share(part, part.body[0], is_apart)

    def _is_apart(self, loop: Loop, piece: Piece) -> bool:
        """Whether a turn meets no element that another one writes, and no number that it leaves."""
        if any(name in self.shared for name in piece.final) or self.names.least.get(loop.variable, -1) < 0:
            return False
        at: dict[str, list[Any]] = {}
        for node in _nodes_of(piece.nodes, (Get, Put)):
            at.setdefault(node.array, []).append(node.index)
        stored = [at[put.array] for put in _nodes_of(piece.nodes, Put)]
        return all(index == found[0] and loop.variable in index for found in stored for index in found)

    def _share(self, part: Pass, piece: Piece, is_apart: bool) -> None:
        """Find the loops that the reverse of a loop is, where they are better than one."""
        loop = part.loop
        if any(node.function not in _CHEAP and exponent_of(node) != 2 for node in _nodes_of(piece.nodes, Op)):
            return
        puts = [node for node in piece.nodes if isinstance(node, Put)]
        if any(isinstance(node, Fork) for node in piece.nodes):
            return
        if puts != (piece.nodes[-1:] if is_apart else []):
            return  # not one store, behind all that is read; nor sums alone
        added = [
            node
            for node in _nodes_of(piece.nodes, Get)
            if not (node.is_outside or node.is_absorbed)
            and self.names.elements[node.array] == "a"
            and node.y in piece.barred
        ]
        given = {node.array for node in added} - {*self.names.written, *self.names.new}  # these may share memory
        is_free = is_apart and len(given) < 2 and all(self._is_moved(loop, node.index[-1]) for node in added)
        if is_free and puts:
            part.gather = self._gather(loop, piece, added)
        if part.gather is not None:
            part.shares = self._left(piece, added)
        else:
            part.shares = self._shares(loop, piece, added, is_free)

    def _gather(self, loop: Loop, piece: Piece, added: list[Get]) -> Gather | None:
        """How one loop gathers what is added to neighbours; None where there are none, or some aren't known."""
        (put,) = _nodes_of(piece.nodes, Put)
        changing = {target_of(s) for s in statements([loop])}
        reached: dict[int, set[str]] = {}
        places = []  # of elements, with how much further they are
        for node in added:
            if node.array == put.array:  # its adjoint is read by other turns
                if node.index != put.index:
                    return None
                continue
            by, outer = _offset(loop, node.index[-1]), tuple(node.index[:-1])
            is_row = all(isinstance(i, Const) or (self.names.is_pure(i) and i not in changing) for i in outer)
            if by is None or not is_row:
                return None
            reached.setdefault(by, set()).add(node.y)
            places.append(((node.array, outer), by))
        of_rows = dict(places)
        if len(of_rows) == len(set(places)) or loop.bounds[2] != 1:
            return None
        n = sum(isinstance(node, Op) for node in piece.nodes)
        if n > _MOST_GATHERED or any(name in self.shared for name in piece.final):
            return None
        if max(reached) - min(reached) > _MOST_APART:
            return None
        shares = {by: Share(self._reaching(piece, found), False, False, True) for by, found in reached.items()}
        return Gather(shares, list(of_rows))

    def _left(self, piece: Piece, added: list[Get]) -> list[Share]:
        """The loop behind one that gathers, for what that leaves: numbers, and the array that is stored to."""
        (put,) = _nodes_of(piece.nodes, Put)
        reached = set(piece.exposed.values()) | {node.y for node in added if node.array == put.array}
        reached |= {node.y for node in _nodes_of(piece.nodes, Get) if node.is_outside}
        is_idle = put.adds and not reached & piece.barred
        return [] if is_idle else [Share(self._reaching(piece, reached), False, True, True)]

    @staticmethod
    def _reaching(piece: Piece, versions: set[str]) -> set[str]:
        """Versions, and those that are made of them."""
        found = set(versions)
        for node in _nodes_of(piece.nodes, Op):
            if found.intersection(x for x in node.xs if isinstance(x, str)):
                found.add(node.y)
        return found

    def _shares(self, loop: Loop, piece: Piece, added: list[Get], is_free: bool) -> list[Share]:
        """The loops that the reverse of a loop is, each with one element of an array; none where one is better."""
        of_array: dict[str, list[Any]] = {}  # of elements: where they are, and the versions that they are read as
        stored = [(put.array, put.index) for put in _nodes_of(piece.nodes, Put)]
        is_apart = bool(stored)
        for node in added:
            if not is_apart and not _follow(loop, node.index[-1]):
                return []
            found, place = of_array.setdefault(node.array, []), node.index[-1:] if is_free else node.index
            same = [versions for other, versions in found if other == place]
            if same:
                same[0].add(node.y)
            else:
                is_stored = any(node.array == array and place == index[-len(place) :] for array, index in stored)
                found.insert(0 if is_stored else len(found), (place, {node.y}))
        if not is_apart and all(len({place[-1] for place, _ in found}) == 1 for found in of_array.values()):
            return []  # turns don't meet as it is
        carried = {piece.exposed[name] for name in piece.final if name in piece.exposed}  # sums, in each of the loops
        n = max(map(len, of_array.values()), default=0)
        n_elements = len({(node.array, *node.index) for node in added})
        shares = []
        for k in range(n - 1, -1, -1) if n_elements > len(of_array) else ():
            # last what is stored again, which takes its adjoint away
            reached = carried.union(*(found[k][1] for found in of_array.values() if k < len(found)))
            if k == 0:
                reached |= set(piece.exposed.values())
                reached |= {node.y for node in _nodes_of(piece.nodes, Get) if node.is_outside}
            shares.append(Share(self._reaching(piece, reached), k == n - 1, k == 0, is_free))
        return shares

    def _is_moved(self, loop: Loop, operand: Operand) -> bool:
        """Whether an index is a loop's variable, and a number perhaps, or what doesn't change, and isn't negative."""
        least = self.names.least.get(loop.variable, -1)
        if operand == loop.variable:
            return least >= 0 or operand in self.names.inside
        made = [item for item in loop.body if isinstance(item, Compute) and item.target == operand]
        if len(made) != 1 or made[0].function not in (operator.add, operator.sub):
            return False
        base, by = made[0].operands
        if base != loop.variable or by in {target_of(s) for s in statements([loop])}:
            return False
        if operand in self.names.inside:
            return True
        return isinstance(by, Const) and least + (by.value if made[0].function is operator.add else -by.value) >= 0

    def _only_adds(self, piece: Piece) -> bool:
        """Whether a piece only adds to adjoints, and to none that it reads."""
        puts = list(_nodes_of(piece.nodes, Put))
        stored = {put.array for put in puts}
        if not all(put.adds and put.slot is None for put in puts):
            return False
        if any(node.array in stored and not node.is_absorbed for node in _nodes_of(piece.nodes, Get)):
            return False
        made = {node.y: node for node in piece.nodes if isinstance(node, Op)}
        uses = list(_operands(piece.nodes))
        for name, version in piece.final.items():
            if name not in self.shared or version not in piece.barred:
                continue
            before, waiting = piece.exposed.get(name), [version]
            while waiting:
                at = waiting.pop()
                if uses.count(at) != (at != version):
                    return False
                if at == before:
                    break
                node = made.get(at)
                if node is None or node.function not in (None, operator.add, operator.sub):
                    return False
                waiting = [x for x in node.xs[: 2 if node.function is operator.add else 1] if x in (before, *made)]
                waiting = [before] if before in waiting else waiting[:1]
            else:
                return False
        return True

    def is_within(self, index: Any) -> bool:
        """Whether it is known beforehand where an index may lead: see `Texts`."""
        return all(isinstance(i, Const) or i in self.known for i in index)

    def _find_known(self) -> set[str]:
        """Pure integers with bounds that can be computed before the nest runs."""
        names, unknown = self.names, set[str]()
        while True:
            known = {name for name, kind in names.of.items() if kind == "i" and names.is_fixed(name)}
            before = len(unknown)
            for item in names.all:
                target = target_of(item)
                if target is None or target not in names.pure or target in unknown:
                    continue
                operands = _bounding(item)
                if operands is not None and all(isinstance(o, Const) or o in known for o in operands):
                    known.add(target)
                else:
                    unknown.add(target)  # a variable of several loops is known if it is in all of them
            if len(unknown) == before:
                return known

    def _keep(self, parts: list[Any], around: list[Pass]) -> None:
        """Let scalars from before be kept where they come into a loop that doesn't change them, or into a piece."""
        for part in parts:
            if isinstance(part, Pass):
                self._keep(part.body, [*around, part])
            elif isinstance(part, Turn):
                self._keep(part.then, around)
                self._keep(part.other, around)
            else:
                for name, version in part.exposed.items():
                    if version not in part.needed or self.names.is_fixed(name):
                        continue
                    home = next((p for p in around if name not in _changed(p) or self._step_of(p, name)), None)
                    if home is None:
                        part.slots[name] = part.n
                        part.n += 1
                    elif name not in home.kept:
                        home.kept.append(name)
                        if name in _changed(home):
                            piece, step = self._step_of(home, name)
                            piece.steps.append(step)

    def _step_of(self, part: Pass, name: str) -> Any:
        """The piece of a loop that moves an integer on, and by what, where nothing else in the loop changes it."""
        items = [s for s in statements([part.loop]) if target_of(s) == name]
        pieces = [one for one in part.body if isinstance(one, Piece) and name in one.final and name in one.exposed]
        if self.names.of[name] != "i" or part.in_any_order or len(pieces) != 1:
            return None
        (piece,) = pieces
        made = {node.y: node for node in piece.nodes if isinstance(node, Op)}
        version, step = piece.final[name], None
        while version != piece.exposed[name]:
            node = made.get(version)
            if node is None or node.function not in ((None,) if step else (None, operator.add, operator.sub)):
                return None
            version, *rest = node.xs
            if rest:
                if node.function is operator.add and self.names.is_pure(version):
                    version, rest = rest[0], [version]
                step = Step(name, "-" if node.function is operator.add else "+", rest[0])
                if not self.names.is_pure(step.by):
                    return None
        is_alone = all(any(item is one for one in piece.statements) for item in items)
        return (piece, step) if step is not None and is_alone else None


def _offset(loop: Loop, operand: Operand) -> int | None:
    """How much more than a loop's variable an index is that each turn moves, if that is known."""
    if operand == loop.variable:
        return 0
    (made,) = [item for item in loop.body if isinstance(item, Compute) and item.target == operand]
    by = made.operands[1]
    if not isinstance(by, Const):
        return None
    return int(by.value if made.function is operator.add else -by.value)


def _follow(loop: Loop, operand: Operand) -> bool:
    """Whether an index is a loop's variable, and something that it is moved by perhaps."""
    made = [item for item in loop.body if isinstance(item, Compute) and item.target == operand]
    return operand == loop.variable or any(
        item.function in (operator.add, operator.sub) and item.operands[0] == loop.variable for item in made
    )


def _bounding(item: Any) -> list[Any] | None:
    """The operands whose bounds give those of what a statement assigns; None where nothing gives them."""
    if isinstance(item, Loop):
        return list(item.bounds[:2])
    if isinstance(item, Extent):
        return []
    if not isinstance(item, Compute):
        return None
    is_plain = item.function in (None, operator.add, operator.sub, operator.mul, operator.neg, operator.pos)
    is_divided = item.function in (operator.floordiv, operator.mod) and isinstance(item.operands[1], Const)
    return list(item.operands) if is_plain or (is_divided and item.operands[1].value > 0) else None


def _is_still_there(get: Get, put: Put, between: list[Any]) -> bool:
    """Whether a store is to the element that was read, and none is stored between them."""
    is_one = (get.array, get.index) == (put.array, put.index)
    return is_one and not any(isinstance(n, Fork) or (isinstance(n, Put) and n.array == put.array) for n in between)


def _changed(part: Pass) -> set[str]:
    return {name for s in statements([part.loop]) if (name := target_of(s)) is not None}


def _with_depth(parts: list[Any], depth: int) -> Any:
    """All pieces, and how many loops are around each."""
    for part in parts:
        if isinstance(part, Piece):
            yield depth, part
        elif isinstance(part, Pass):
            yield from _with_depth(part.body, depth + 1)
        else:
            yield from _with_depth([*part.then, *part.other], depth)


def _loops_in(part: Pass) -> Any:
    """The loops that stand in the body of another: that one, the loop, and the pieces behind it there."""
    for k, one in enumerate(part.body):
        if isinstance(one, Pass):
            yield part, one, [piece for _, piece in _with_depth(part.body[k + 1 :], 0)]
            yield from _loops_in(one)


def _nodes_of(nodes: list[Any], kind: Any) -> Any:
    for node in nodes:
        if isinstance(node, kind):
            yield node
        if isinstance(node, Fork):
            yield from _nodes_of(node.then, kind)
            yield from _nodes_of(node.other, kind)


def _stores(nodes: list[Any]) -> Any:
    """The stores: each with its place in its list, that list, and what is made there, by version, with its place."""
    made = {node.y: (k, node) for k, node in enumerate(nodes) if isinstance(node, (Op, Get))}
    for k, node in enumerate(nodes):
        if isinstance(node, Put):
            yield node, k, nodes, made
        elif isinstance(node, Fork):
            yield from _stores(node.then)
            yield from _stores(node.other)


def _operands(nodes: list[Any]) -> Any:
    """The versions that are read, each as often as it is."""
    for node in nodes:
        if isinstance(node, Op):
            yield from (x for x in node.xs if isinstance(x, str))
        elif isinstance(node, Get):
            yield from (x for x in node.index if isinstance(x, str))
        elif isinstance(node, Put):
            yield from (x for x in [*node.index, node.x] if isinstance(x, str))
        else:
            if isinstance(node.condition, str):
                yield node.condition
            for _, a, b in node.merged:
                yield from (a, b)
            yield from _operands(node.then)
            yield from _operands(node.other)


def exponent_of(node: Op) -> int | None:
    """The exponent of an integer power."""
    if node.function in POWERS and isinstance(node.xs[1], Const) and isinstance(node.xs[1].value, int):
        return node.xs[1].value
    return None


def _for_partial(node: Op, i: int) -> list[Operand]:
    """What the partial derivative by an operand is made of."""
    if node.function in (None, operator.add, operator.sub, operator.neg, operator.pos, float):
        return []
    if exponent_of(node) == 2:
        return [node.xs[0]]
    partial = OP_OF[node.function].partials[i]
    places = {"x": 0, "a": 0, "b": 1, "c": 2}
    return [node.y if name == "y" else node.xs[places[name]] for name in (parameters(partial) if partial else ())]
