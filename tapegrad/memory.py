"""What compiled code is made of: records at addresses, parts that are linked by their names, and primitives.

An address is an int64. A record is declared once, as a class with a line a field:

    class Plan(Record):
        n_planned = word()  # rows
        planned = array(np.int32, "n_planned")  # these, newest first

Compiled code reads and writes `plan.n_planned`, each a load or a store, and `plan.planned[i]`; `plan.planned_at` is the
address of the array. A record's name makes one of an address: `Plan(address)`. All integers are int64 there, whatever
they are in memory. Python, which may not wait for a look-up, has an index for each word (`words_of`).

The primitives below are supplied by `native.py`; here is what they mean. An array made of an address is a view: nothing
is copied, nothing owns it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

_WORD = np.dtype(np.int64)


class Field(NamedTuple):
    """What a record has at an offset: see the functions below."""

    form: str
    of: Any  # a dtype, or a record; a name for one that is declared elsewhere
    length: int | str = 1
    more: int = 0

    @property
    def nbytes(self) -> int:
        """How much of the record it takes."""
        if self.form in ("number", "array", "at"):
            return 8
        size: int = self.of.nbytes if is_record(self.of) else self.of.itemsize
        return size * int(self.length)


def word() -> Any:
    """A field: an int64."""
    return Field("number", _WORD)


def array(of: Any, length: int | str, more: int = 0) -> Any:
    """A field: the address of an array, of numbers or records.

    It is as long as another field, of this record or of that around it, says; and `more`.
    """
    return Field("array", of if isinstance(of, (str, type)) and not _is_number(of) else np.dtype(of), length, more)


def at(of: Any) -> Any:
    """A field: the address of a record."""
    return Field("at", of)


def inside(of: Any, n: int = 0) -> Any:
    """A field: another record within this one; or `n` records or numbers."""
    return Field("within" if n else "record", of if not _is_number(of) else np.dtype(of), n or 1)


def over(name: str, of: Any = np.int64, i: int = 0, n: int = 0) -> Any:
    """A field: a number, or `n` of them, in the place of the field of this name, or `i` words behind."""
    return Field("over", (np.dtype(of), n), name, 8 * i)


def _is_number(of: Any) -> bool:
    return isinstance(of, np.dtype) or (isinstance(of, type) and issubclass(of, np.generic))


class Record:
    """Numbers and arrays at an address, by name: see above. With a `dtype`, its fields come first."""

    fields: dict[str, tuple[int, Field]]
    nbytes: int
    outer: tuple[type[Record], int] | None = None  # the record that this one is within, and where
    fixed = False  # whether the arrays of it, and of records within, stay where they are while compiled code runs

    def __init_subclass__(cls, dtype: np.dtype | None = None) -> None:
        fields: dict[str, tuple[int, Field]] = {}
        for name in (dtype.names or ()) if dtype is not None else ():
            of, offset = dtype.fields[name][:2]  # type: ignore[index,union-attr]
            within = of.subdtype
            field = Field("number", of) if within is None else Field("within", within[0], int(np.prod(within[1])))
            fields[name] = offset, field
        end = 0 if dtype is None else dtype.itemsize
        for name, field in [(n, f) for n, f in vars(cls).items() if isinstance(f, Field)]:
            if field.form == "over":
                of, n = field.of
                fields[name] = fields[str(field.length)][0] + field.more, Field("within" if n else "number", of, n or 1)
                continue
            if field.form == "record":
                field.of.outer = cls, end
            fields[name] = end, field
            end += field.nbytes
        cls.fields, cls.nbytes = fields, end
        records[cls.__name__] = cls

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __new__(cls, _address: Any) -> Any:
        """The record at an address; in compiled code only."""
        return _supplied_when_linked(_address)

    @classmethod
    def layout(cls, known: tuple[Any, ...] = ()) -> Iterator[str]:
        """All that compiled code takes from the declaration, in words; but for records that are `known`."""
        yield f"{cls.__name__} {cls.nbytes}"
        for name, (offset, field) in cls.fields.items() if cls not in known else ():
            of = resolved(field.of)
            yield f"{name} {offset} {field.form} {field.length} {field.more} {cls.fixed}"
            yield from of.layout((*known, cls)) if is_record(of) else [str(of)]

    @classmethod
    def field(cls, name: str) -> tuple[int, Field] | None:
        """A field and its offset; None where there is none of this name. `x_at` is the address of what is at `x`."""
        found = cls.fields.get(name)
        if found is None and name.endswith("_at"):
            offset, of = cls.fields.get(name[:-3], (-1, Field("", _WORD)))
            if of.form in ("array", "at"):
                return offset, Field("number", _WORD)
            if offset >= 0:
                return offset, Field("address", _WORD)
        return found

    @classmethod
    def length_at(cls, name: str) -> int:
        """The offset of a length, in this record or in that around it, which then lies before."""
        if name in cls.fields:
            return cls.fields[name][0]
        assert cls.outer is not None, name
        return cls.outer[0].length_at(name) - cls.outer[1]


records: dict[str, type[Record]] = {}


def is_record(of: Any) -> bool:
    """Whether an object is a declaration of records."""
    return isinstance(of, type) and issubclass(of, Record)


def resolved(of: Any) -> Any:
    """What a field is of: a dtype or a record."""
    return records[of] if isinstance(of, str) else of


def words_of(record: type[Record], base: int = 0) -> dict[str, int]:
    """The index of each word, by its name; those of records within it are among them."""
    found: dict[str, int] = {}
    for name, (offset, field) in record.fields.items():
        if field.form == "record":
            within = words_of(field.of, base + offset)
            assert not found.keys() & within.keys()
            found |= within
        elif (base + offset) // 8 not in found.values():
            found[name] = (base + offset) // 8
    return found


def records_of(function: Any) -> dict[str, type[Record]]:
    """The parameters of a function that are records, by its annotations."""
    found = {
        name: resolved(of) for name, of in function.__annotations__.items() if not isinstance(of, str) or of in records
    }
    return {name: of for name, of in found.items() if is_record(of)}


def index_of(record: type[Record]) -> Any:
    """The index of each word, as attributes, for Python."""
    words: dict[str, Any] = {**words_of(record)}
    return namedtuple("index_of", words)(*words.values())


F = TypeVar("F", bound=Callable[..., Any])

parts: dict[Any, str] = {}


def part(function: F) -> F:
    """Link a function on its own: others that name it call it by its symbol, and an edit of it compiles it alone.

    It takes int64, and records where its parameters say so, and returns an int64. Compiled into one another, such
    functions would take several times as long.
    """
    symbol = f"tapegrad_{function.__name__}"
    for other, name in parts.items():
        if name == symbol and other.__module__ != function.__module__:  # the linker would take one of the two
            raise ValueError(f"{other.__module__} and {function.__module__} have parts of one name: {name}")
    parts[function] = symbol
    return function


def _supplied_when_linked(*arguments: Any) -> Any:
    raise NotImplementedError("supplied by tapegrad.kernels.native")


# (address, n) -> array of n elements of float64, float32, int64, int32, int16, int8, uint16, uint8, bool
f8 = f4 = i8 = i4 = i2 = i1 = u2 = u1 = b1 = _supplied_when_linked
# the same of int64 and int32, as what has a length and can be sliced
array_i8 = array_i4 = _supplied_when_linked
# (address of a function, its arguments)
call1 = call3 = call4 = call5 = call6 = call8 = call9 = call11 = call13 = call14 = _supplied_when_linked
# (address of a function that returns an int64, its arguments)
part0 = part1 = part2 = part3 = part5 = part9 = _supplied_when_linked
# (a part) -> its address
address_of_part = _supplied_when_linked
# (a, b) -> a + b, in an order that may be changed: a loop of such sums is done in many parts side by side
plus = _supplied_when_linked
# (a, b) -> the larger, the smaller; nan where either is
larger = smaller = _supplied_when_linked
# (address of an int64, value) -> what was there: added to, or exchanged, atomically; (address) -> what is there
fetch_add = exchange = load = _supplied_when_linked
# (address, address) -> copies a line of the cache, 64 bytes, past the caches to the first, which begins a line
stream_line = _supplied_when_linked
# (address) -> asks for a line of the cache that will soon be read
fetch_line = _supplied_when_linked
# Python's allocator: (its address, bytes) -> address, 0 where memory is short; (its address, n, bytes); (its address,
# memory)
allocate = allocate_zeroed = release = _supplied_when_linked
