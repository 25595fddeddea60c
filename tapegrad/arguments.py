"""What a public function takes: its annotations say so, and are checked when it is called.

`checked` makes of each argument what its annotation names (an int of NumPy's becomes an int, a 0-d tensor a number, an
array or a number a Tensor), or raises PyTorch's TypeError. So a function's own lines see nothing but plain values.

    @checked
    def narrow(input: Tensor, dim: int, start: int, length: int) -> Tensor: ...

    narrow(x, 0, 1.5, 2)  ->  TypeError: narrow(): argument 'start' (position 3) must be int, not float
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from tapegrad import batched, callers, dtypes, overrides
from tapegrad.batched import NeedsSamplesError
from tapegrad.conversion import NUMBERS, as_operand, is_array, repair
from tapegrad.dtypes import DType
from tapegrad.tape import current_tape
from tapegrad.tensor import Tensor, describe, location

# What an annotation may name, beside Tensor, int, float, bool and DType.
Dims = int | tuple[int, ...] | list[int]
Number = int | float
Sizes = tuple[int, ...] | list[int]
Flag = bool  # or an int that stands for one

_REFUSED: Any = object()
_LONG = 1 << 63
CAST, EXACT = "cast", "exact"  # whether results are converted to the dtypes of `out`, or must have them
writers: list[Callable[..., Any]] = []  # what writes results into it


def tensor(value: Any) -> Any:
    """A Tensor; of an array, or a number, one with what it has now."""
    if isinstance(value, Tensor):
        return _REFUSED if overrides.answers(value) else value
    if isinstance(value, NUMBERS) or is_array(value):
        return as_operand(value, current_tape().grad_enabled)
    return _REFUSED


def tensors(name: str, values: Sequence[Any]) -> list[Tensor]:
    """The Tensors of a sequence that is the first argument of a function of this name."""
    taken = [tensor(value) for value in values]
    for place, value in enumerate(values):
        if taken[place] is _REFUSED:
            raise overrides.refused(
                f"{name}(): expected Tensor as element {place} in argument 0, but got {_type(value)}{repair(value)}",
                value,
            )
    return taken


def or_tensor(take: Callable[[Any], Any], value: Any) -> Any:
    """What `take` makes of it, or the Tensor of an array."""
    if isinstance(value, Tensor):
        return tensor(value)
    taken = take(value)
    return tensor(value) if taken is _REFUSED and is_array(value) else taken


def integer(value: Any) -> Any:
    """An int of 64 bits; NumPy's are taken too, and 0-d tensors of integers, but no bools."""
    if value.__class__ is not int:
        if isinstance(value, Tensor):
            return value.item() if not value.ndim and value.dtype.category == 1 else _REFUSED
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            return _REFUSED
        value = int(value)
    if -_LONG <= value < _LONG:
        return value
    raise ValueError(f"Overflow when unpacking long long: {value} does not fit 64 bits")


def number(value: Any) -> Any:
    """A real number of Python's; NumPy's are taken too, and 0-d tensors that don't require grad."""
    if value.__class__ is not float:
        if isinstance(value, Tensor):
            return value.item() if not (value.ndim or value.requires_grad) else _REFUSED
        if isinstance(value, (complex, np.complexfloating)) and not isinstance(value, (int, float)):
            raise RuntimeError(f"value cannot be converted to type double without overflow: {value} is complex")
        if isinstance(value, (np.number, np.bool_)):
            return value.item()
        if isinstance(value, int) and not -_LONG <= value < 2 * _LONG:
            raise OverflowError(f"int too big to convert: {value} does not fit 64 bits")
    return value if isinstance(value, (int, float)) else _REFUSED


def real(value: Any) -> Any:
    """A real number of Python's, NumPy's, or a 0-d tensor, as a float."""
    if isinstance(value, (complex, np.complexfloating)):
        return _REFUSED
    taken = float(value) if isinstance(value, int) else number(value)
    return _REFUSED if taken is _REFUSED else float(taken)


def boolean(value: Any) -> Any:
    """A bool of Python's."""
    return value if isinstance(value, bool) else _REFUSED


def flag(value: Any) -> Any:
    """A bool, or an int that stands for one."""
    try:
        taken = operator.index(value)
    except TypeError:
        return _REFUSED
    if not 0 <= taken < 256:
        limit = "less than minimum" if taken < 0 else "greater than maximum"
        raise OverflowError(f"unsigned byte integer is {limit}: {taken} stands for no bool")
    return bool(taken)


def dims(value: Any) -> Any:
    """A dimension, or a tuple of dimensions."""
    if value.__class__ is int:
        return integer(value)
    return _tuple_of_ints(value) if isinstance(value, (tuple, list)) else integer(value)


def sequence(value: Any) -> Any:
    """A tuple of ints."""
    return _tuple_of_ints(value) if isinstance(value, (tuple, list)) else _REFUSED


def dtype(value: Any) -> Any:
    """A DType, or what stands for one."""
    return dtypes.as_dtype(value)


class _ElementError(Exception):
    """Of a sequence of ints, the place of what is none."""


def _tuple_of_ints(values: Any) -> tuple[int, ...]:
    taken = tuple(integer(value) for value in values)
    if _REFUSED in taken:
        raise _ElementError(taken.index(_REFUSED))
    return taken


def sizes(name: str, given: tuple[Any, ...], argument: str = "size", named: Any = None) -> tuple[int, ...]:
    """Ints that are given one by one, as one sequence, or by the argument's name, to a function of this name."""
    if named is not None:
        if given:
            raise TypeError(f"{name}() got multiple values for argument '{argument}'")
        if not isinstance(named, (tuple, list)):
            raise TypeError(f"{name}(): argument '{argument}' must be tuple of ints, not {_type(named)}")
        given = (named,)
    values = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    try:
        return _tuple_of_ints(values)
    except ValueError as error:
        raise TypeError(f"{name}(): argument '{argument}' failed to unpack: {error}") from None
    except _ElementError as element:
        place = element.args[0]
        found = f"must be tuple of ints, but found element of type {_type(values[place])} at pos {place}"
        if len(given) == 1 and values is given:
            found = f"(position 1) must be tuple of ints, not {_type(given[0])}"
        raise TypeError(f"{name}(): argument '{argument}' {found}") from None


def _type(value: Any) -> str:
    return type(value).__name__ if type(value).__module__ != "numpy" else f"numpy.{type(value).__name__}"


# An annotation: what takes such an argument, PyTorch's word for it, and of what class it is right as it stands.
_TAKERS: dict[str, tuple[Callable[[Any], Any], str, tuple[type, ...]]] = {
    "Tensor": (tensor, "Tensor", (Tensor,)),
    "int": (integer, "int", (int,)),
    "float": (real, "float", (float,)),
    "bool": (boolean, "bool", (bool,)),
    "Number": (number, "Number", (float, int)),
    "Flag": (flag, "bool", (bool,)),
    "Sizes": (sequence, "tuple of ints", (tuple,)),
    "Dims": (dims, "tuple of ints", (int, tuple)),
    "DType": (dtype, "tapegrad.dtype", (DType,)),
}
_OTHERS = {"None": type(None), "bool": bool, "str": str, "Tensor": Tensor}  # what may stand after a bar
_TESTS = {  # of classes whose values are not all right, and of None
    int: "{0}.__class__ is int and -0x3fffffff < {0} < 0x3fffffff",  # one digit: compared in a third of the time
    tuple: "{0}.__class__ is tuple and _are_short({0})",
    type(None): "{0} is None",
}
# NumPy's names, which PyTorch takes too, and one of a method's of PyTorch's.
_ALIASES = {"axis": "dim", "keepdims": "keepdim", "split_size": "split_size_or_sections"}
_ABSENT: Any = object()


def checked(
    function: Callable[..., Any], prefix: str = "", is_method: bool = False, out: str = ""
) -> Callable[..., Any]:
    """The function, for arguments as they come; errors call it by its name after the prefix.

    Of a method they count places from after the tensor. With `out`, which says what becomes of dtypes, it takes `out=`
    too (`outputs.py`).

    What stands in front is compiled of the annotations when it is first called, so that where all is right it takes no
    more than 0.1 us. For `narrow` above it is

        def narrow(input, dim, start, length):
            if input.__class__ is Tensor and dim.__class__ is int and ...:
                return function(input, dim, start, length)  # under `vmap` once a sample, if need be: `batched.py`
            return mend({"input": input, "dim": dim, "start": start, "length": length}, ())
    """
    namespace: dict[str, Any] = {"__name__": __name__}

    def prepare(*args: Any, **facts: Any) -> Any:
        made = _in_front(function, prefix + function.__name__.lstrip("_"), is_method, out, namespace)
        accepting.__defaults__, accepting.__kwdefaults__ = made.__defaults__, made.__kwdefaults__
        accepting.__code__ = made.__code__
        return accepting(*args, **facts)

    namespace["_prepare"] = prepare
    accepting: Any = functools.wraps(function)(FunctionType(_unprepared.__code__, namespace))
    accepting.__qualname__ = function.__name__
    namespace["_accepting"] = accepting
    if out:
        accepting.__signature__ = with_out(inspect.signature(function))
    return accepting  # type: ignore[no-any-return]


def node(name: str) -> Callable[[Any], Any]:
    """What PyTorch calls the node of a function's results, which here are computed by several rows."""

    def mark(function: Any) -> Any:
        function.node = name
        return function

    return mark


def with_out(signature: inspect.Signature) -> inspect.Signature:
    """A signature with `out=`."""
    parameter = inspect.Parameter("out", inspect.Parameter.KEYWORD_ONLY, default=None, annotation="Any")
    return signature.replace(parameters=[*signature.parameters.values(), parameter])


def taking_out(dtypes: str) -> Callable[[Any], Any]:
    """As `checked`, for a function that takes `out=`: its results are converted to these dtypes, CAST, or EXACT."""
    return functools.partial(checked, out=dtypes)


def _are_short(values: tuple[Any, ...]) -> bool:
    """Whether all are ints of one digit."""
    for value in values:  # noqa: SIM110 (`all` takes three times as long)
        if value.__class__ is not int or not -0x3FFFFFFF < value < 0x3FFFFFFF:
            return False
    return True


def _unprepared(*args: Any, **facts: Any) -> Any:
    return _prepare(*args, **facts)  # type: ignore[name-defined] # noqa: F821 (each function has its own)


def _in_front(function: Callable[..., Any], name: str, is_method: bool, out: str, namespace: dict[str, Any]) -> Any:
    parameters = [*inspect.signature(function).parameters.values()]
    names = [parameter.name for parameter in parameters]
    places = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    first = 0 if is_method or names[0] == "self" else 1
    aliases = {alias: argument for alias, argument in _ALIASES.items() if argument in names and alias not in names}
    takers: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    header, tests, passed, rest, may_be_absent = [], [], [], "()", False
    for place, parameter in enumerate(parameters):
        argument = parameter.name
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = argument
            header.append(f"*{argument}")
            passed.append(f"*{argument}")
            continue
        by_name = parameter.kind is parameter.KEYWORD_ONLY
        if by_name and not any(word.startswith("*") for word in header):
            header.append("*")
        defaults[argument] = default = _ABSENT if parameter.default is parameter.empty else parameter.default
        # What may come under an alias may be left out, and with it what follows.
        may_be_absent |= argument in aliases.values()
        required = default is _ABSENT and not may_be_absent
        header.append(argument if required else f"{argument}=_defaults[{argument!r}]")
        passed.append(f"{argument}={argument}" if by_name else argument)
        kind, *others = parameter.annotation.split(" | ")
        if kind in _TAKERS:
            take, word, classes = _TAKERS[kind]
            if "Tensor" in others:
                take = functools.partial(or_tensor, take)
            classes = (*(_OTHERS[other] for other in others), *classes)
            seen = [one for one in classes if one not in (int, tuple)]
            takers[argument] = take, word, seen, 0 if by_name else place + first
            right = [_TESTS.get(one, f"{{0}}.__class__ is {one.__name__}").format(argument) for one in classes]
            if default is not _ABSENT and default.__class__ not in classes:
                namespace[f"_no_{argument}"] = default
                right.append(f"{argument} is _no_{argument}")
            tests.append(" or ".join(right) if len(right) == 1 else f"({' or '.join(right)})")
    if (aliases or out) and not any(word.startswith("*") for word in header):
        header.append("*")
    header += [f"{alias}=_absent" for alias in aliases]
    tests += [f"{alias} is _absent" for alias in aliases]
    given = ", ".join(f"{argument!r}: {argument}" for argument in (*defaults, *aliases))
    mended, otherwise = f"_mend({{{given}}}, {rest})", ""
    if out:
        header.append("out=None")
        tests.append("out is None")
        otherwise = f"""    if out is not None:
        return _writers[0](_name, out, {out!r}, ({", ".join((*defaults, rest))},), lambda: {mended})
"""
    namespace |= {
        "_name": name, "_writers": writers,
        "Tensor": Tensor, "DType": DType, "_absent": _ABSENT, "_defaults": defaults, "_function": function,
        "_are_short": _are_short, "_NeedsSamples": NeedsSamplesError, "_by_samples": _by_samples,
        "_refusals": REFUSALS, "_tell": functools.partial(tell, defaults), "_Overridden": overrides.OverriddenError,
        "_answered": functools.partial(_answered, namespace["_accepting"], defaults, places),
        "_mend": functools.partial(_mend, function, name, takers, defaults, aliases, namespace),
    }  # fmt: skip
    by_position = [word for word in passed if "=" not in word]
    named = [f"{word.partition('=')[0]!r}: {word.partition('=')[0]}" for word in passed if "=" in word]
    given_again = f"({''.join(f'{word}, ' for word in by_position)}), {{{', '.join(named)}}}"
    returned = f"return _function({', '.join(passed)})"
    if (node := getattr(function, "node", None)) is not None:  # but for what was written in place
        returned = f"""_made = _function({", ".join(passed)})
            if _made.__class__ is Tensor and _made is not {names[0]}:
                _made._called = {node!r}
            return _made"""
    text = f"""
def {function.__name__}({", ".join(header)}):
    if {" and ".join(tests) or "True"}:
        try:
            {returned}
        except _NeedsSamples as _asked:
            return _by_samples(_asked, _function, {given_again})
        except _Overridden:
            return _answered({{{given}}}, {rest})
        except _refusals as _refusal:
            _tell(_name, {given_again}, _refusal)
            raise
{otherwise}    return {mended}
"""
    made: dict[str, Any] = {}
    exec(compile(text, f"<arguments of {name}>", "exec"), namespace, made)  # noqa: S102 (of our own annotations)
    return made[function.__name__]


def _mend(
    function: Any, name: str, takers: Any, defaults: Any, aliases: Any, namespace: Any, given: dict[str, Any],
    rest: tuple[Any, ...],
) -> Any:  # fmt: skip
    """The function of what its arguments are taken for."""
    for alias, argument in aliases.items():
        value = given.pop(alias)
        if value is not _ABSENT:
            if given[argument] is not defaults[argument]:
                raise TypeError(f"{name}() got multiple values for argument '{argument}'")
            given[argument] = value
    try:
        for argument, (take, word, seen, place) in takers.items():
            value = given[argument]
            if value.__class__ not in seen and value is not defaults[argument]:
                given[argument] = _taken(take, value, name, argument, word, place)
    except overrides.OverriddenError:
        return namespace["_answered"](given, rest)
    before: list[Any] = []
    if rest:  # what stands before it is given
        before = [given.pop(argument) for argument in function.__code__.co_varnames[: function.__code__.co_argcount]]
    else:
        given = {argument: value for argument, value in given.items() if value is not _ABSENT}
    try:
        return function(*before, *rest, **given)
    except NeedsSamplesError as error:
        return _by_samples(error, function, (*before, *rest), given)
    except overrides.OverriddenError:
        return namespace["_answered"](dict(zip(defaults, before, strict=False)) | given, rest)
    except REFUSALS as refusal:
        tell(defaults, name, (*before, *rest), given, refusal)
        raise


def _answered(accepting: Any, defaults: Any, places: list[str], given: dict[str, Any], rest: tuple[Any, ...]) -> Any:
    """What the class of an argument says of a call: arguments are given as they come, but for those left out."""
    told = {
        argument: value
        for argument, value in given.items()
        if value is not _ABSENT and value is not defaults.get(argument, _ABSENT)
    }
    first: list[Any] = []
    for argument in places:
        if argument not in told:
            break
        first.append(told.pop(argument))
    return overrides.answered(accepting, (*first, *rest), told)


REFUSALS = (IndexError, RuntimeError, ValueError)


def tell(
    defaults: dict[str, Any], name: str, args: tuple[Any, ...], facts: dict[str, Any], refusal: BaseException
) -> None:
    """Note below an error of the package's own what was called, of which shapes, and where, if it doesn't say."""
    raised = refusal.__traceback__
    while raised is not None and raised.tb_next is not None:
        raised = raised.tb_next
    where = location()
    said = [str(refusal), *getattr(refusal, "__notes__", ())]
    if raised is None or callers.root(raised.tb_frame) not in _OWN or any(where in text for text in said):
        return
    shown = list(args)
    usual = list(defaults.values())
    while shown and len(shown) <= len(usual) and shown[-1] is usual[len(shown) - 1]:
        shown.pop()
    told = {
        argument: value
        for argument, value in facts.items()
        if value is not None and value is not False and value is not defaults.get(argument, _ABSENT)
    }
    given = [*map(_told, shown), *(f"{argument}={_told(value)}" for argument, value in told.items())]
    refusal.add_note(f"{name}({', '.join(given)}), at {where}")


_OWN = {__name__.partition(".")[0], "numpy"}
_PLAIN = (bool, int, float, str, slice, np.generic, type(None), type(Ellipsis))


def _told(value: Any, depth: int = 0) -> str:
    """A value in short: a Tensor by its dtype and shape, numbers as they are, of sequences the first items."""
    if isinstance(value, (list, tuple)) and depth < _MOST_NESTED:
        shown = [_told(item, depth + 1) for item in value[:_MOST_TOLD]] + ["..."] * (len(value) > _MOST_TOLD)
        listed = ", ".join(shown)
        return f"[{listed}]" if isinstance(value, list) else f"({listed}{',' * (len(value) == 1)})"
    if isinstance(value, np.ndarray):
        return f"array of {value.dtype}{list(value.shape)}"
    return describe(value) if isinstance(value, Tensor) else repr(value) if isinstance(value, _PLAIN) else _type(value)


_MOST_TOLD, _MOST_NESTED = 8, 3


def _by_samples(error: NeedsSamplesError, function: Any, args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """The function under `vmap`, where no rule serves: called once a sample."""
    return batched.rules["by samples"](error, function, args, facts)


def _taken(take: Any, value: Any, name: str, argument: str, word: str, place: int) -> Any:
    where = f"argument '{argument}'" + (f" (position {place})" if place else "")
    try:
        taken = take(value)
    except _ElementError as element:
        at = element.args[0]
        raise TypeError(
            f"{name}(): {where} must be {word}, but found element of type {_type(value[at])} at pos {at}"
        ) from None
    except TypeError as error:
        raise TypeError(f"{name}(): {where}: {error}") from None
    if taken is _REFUSED:
        raise overrides.refused(f"{name}(): {where} must be {word}, not {_type(value)}{_repair(value, word)}", value)
    return taken


def _repair(value: Any, word: str) -> str:
    if overrides.answers(value):
        return ""
    if isinstance(value, Tensor) and not value.ndim and value.requires_grad and word != "tuple of ints":
        return f", at {location()}: the derivative of one that requires grad would be lost; value.detach() is taken"
    return repair(value)


def method(function: Any) -> Any:
    """A public function as a method of Tensor."""
    return checked(function.__wrapped__, is_method=True) if hasattr(function, "__wrapped__") else function


class Surface(dict[str, Any]):
    """A module's public functions by name. As a decorator it takes one in, checked, and makes it a Tensor's method.

    With `out` they take `out=`, as `checked` says, where they give tensors; methods don't.
    """

    def __init__(self, out: str = "") -> None:
        self.out = out

    def __call__(self, function: Any) -> Any:
        """Take a function in."""
        out = self.out if inspect.get_annotations(function).get("return") != "bool" else ""
        taken = self[function.__name__] = checked(function, out=out)
        setattr(Tensor, function.__name__, method(taken))
        return taken


__all__ = [
    "CAST", "EXACT", "Dims", "Flag", "Number", "Sizes", "Surface", "checked", "integer", "method", "number", "sizes",
    "taking_out", "tensors", "with_out",
]  # fmt: skip
