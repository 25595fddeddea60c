"""Modules that hold others: in a row, a list, a dictionary."""

from __future__ import annotations

import itertools
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tapegrad.nn.module import Module, broken
from tapegrad.nn.parameter import Parameter
from tapegrad.tensor import Tensor


class _Numbered(Module):
    """Modules by their numbers."""

    def _name_of(self, index: Any) -> str:
        n = len(self._modules)
        index = operator.index(index)
        if not -n <= index < n:
            raise IndexError(f"index {index} is out of range")
        return list(self._modules)[index]

    def _put(self, modules: Iterable[Any]) -> None:
        self._modules.clear()
        for i, module in enumerate(modules):
            self.register_module(str(i), module)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(*self._items(list(self._modules.items())[index]))
        return self._modules[self._name_of(index)]

    def _items(self, items: list[Any]) -> list[Any]:
        return [OrderedDict(items)]

    def __setitem__(self, index: Any, module: Module) -> None:
        setattr(self, self._name_of(index), module)

    def __delitem__(self, index: Any) -> None:
        kept = list(self._modules.values())
        del kept[index]
        self._put(kept)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns itself."""
        self.register_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns itself."""
        for module in _iterable(self, "extend", modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Put a module before another; returns itself."""
        kept = list(self._modules.values())
        kept.insert(index, module)
        self._put(kept)
        return self

    def pop(self, index: Any = -1) -> Any:
        """Take a module out."""
        found = self[index]
        del self[index]
        return found


class Sequential(_Numbered):
    """Modules one after the other.

    >>> import tapegrad as tg
    >>> tg.nn.Sequential(tg.nn.Linear(2, 3), tg.nn.ReLU())
    Sequential(
      (0): Linear(in_features=2, out_features=3, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.register_module(name, module)
        else:
            self._put(modules)

    def forward(self, input: Any) -> Any:
        """Each of what the one before gave."""
        for module in self:
            input = module(input)
        return input

    def __add__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)

    def __iadd__(self, other: Any) -> Any:
        return self.extend((self + other)[len(self) :])

    def __mul__(self, n: Any) -> Any:
        return Sequential(*self)._repeat(n)

    __rmul__ = __mul__

    def _repeat(self, n: Any) -> Any:
        if not isinstance(n, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(n)}")
        if n <= 0:
            raise ValueError(f"Non-positive multiplication factor {n} for {type(self)}")
        return self.extend(list(self) * (n - 1))

    __imul__ = _repeat


class ModuleList(_Numbered):
    """A list of modules.

    >>> import tapegrad as tg
    >>> layers = tg.nn.ModuleList([tg.nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers), len([*layers.parameters()])
    (3, 6)
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(() if modules is None else modules)

    def _items(self, items: list[Any]) -> list[Any]:
        return [[module for _, module in items]]

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def __iadd__(self, other: Iterable[Module]) -> Any:
        return self.extend(other)

    def __repr__(self) -> str:
        """A run of modules that look the same is written once."""
        lines = []
        for text, run in itertools.groupby(zip(self._modules, map(repr, self), strict=True), operator.itemgetter(1)):
            names = [name for name, _ in run]
            head = f"({names[0]}): " if len(names) == 1 else f"({names[0]}-{names[-1]}): {len(names)} x "
            lines.append(head + text.replace("\n", "\n  "))
        return broken(self._get_name(), lines) if lines else f"{self._get_name()}()"


class ModuleDict(Module):
    """A dictionary of modules.

    >>> import tapegrad as tg
    >>> layers = tg.nn.ModuleDict({"in": tg.nn.Linear(2, 3), "act": tg.nn.ReLU()})
    >>> layers["act"](layers["in"](tg.ones(2))).shape
    tapegrad.Size([3])
    >>> [name for name, _ in layers.named_parameters()]
    ['in.weight', 'in.bias']
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def update(self, modules: Any) -> None:
        """Put modules in, given as a dictionary or as pairs."""
        for name, module in _pairs(self, modules):
            self[name] = module

    def __getitem__(self, name: str) -> Any:
        return self._modules[name]

    def __setitem__(self, name: str, module: Module) -> None:
        self.register_module(name, module)

    def __delitem__(self, name: str) -> None:
        del self._modules[name]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, name: object) -> bool:
        return name in self._modules

    def clear(self) -> None:
        """Take all out."""
        self._modules.clear()

    def pop(self, name: str) -> Any:
        """Take one out."""
        return self._modules.pop(name)

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def items(self) -> Any:
        """(name, module) of all."""
        return self._modules.items()


def _iterable(of: Module, name: str, given: Any, what: str = "") -> Iterable[Any]:
    if not isinstance(given, Iterable):
        raise TypeError(
            f"{type(of).__name__}.{name} should be called with an iterable{what}, but got {type(given).__name__}"
        )
    return given


def _pairs(of: Module, given: Any) -> Iterable[tuple[str, Any]]:
    """(name, value) of a dictionary, a module like one, or pairs."""
    if hasattr(given, "items"):
        items: Iterable[tuple[str, Any]] = given.items()
        return items
    pairs = []
    for i, pair in enumerate(_iterable(of, "update", given, " of key/value pairs")):
        if not isinstance(pair, Iterable):
            raise TypeError(
                f"{type(of).__name__} update sequence element #{i} should be Iterable; is {type(pair).__name__}"
            )
        if len(pair := tuple(pair)) != 2:
            raise ValueError(f"{type(of).__name__} update sequence element #{i} has length {len(pair)}; 2 is required")
        pairs.append(pair)
    return pairs


def _parameter(t: Any) -> Any:
    return Parameter(t) if isinstance(t, Tensor) and not isinstance(t, Parameter) else t


def _listing(of: Any, type_of: Callable[[Any], Any]) -> str:
    """A line for each parameter."""
    lines = []
    for name, t in of._parameters.items():
        if isinstance(t, Tensor):
            what = "Parameter" if isinstance(t, Parameter) else "Tensor"
            text = f"{what} containing: [{type_of(t)} of size {'x'.join(map(str, t.shape))}]"
        else:
            text = f"Object of type: {type(t).__name__}"
        lines.append(f"  ({name}): {text}")
    return broken(of._get_name(), lines) if len(lines) > 1 else f"{of._get_name()}({''.join(lines)})"


class ParameterList(Module):
    """A list of parameters; Tensors become Parameters.

    >>> import tapegrad as tg
    >>> tg.nn.ParameterList([tg.ones(2), tg.zeros(2, 3)])
    ParameterList(
        (0): Parameter containing: [tapegrad.float64 of size 2]
        (1): Parameter containing: [tapegrad.float64 of size 2x3]
    )
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        for t in values or ():
            self.append(t)

    def append(self, value: Any) -> Any:
        """Add one at the end; returns itself."""
        self.register_parameter(str(len(self)), _parameter(value))
        return self

    def extend(self, values: Iterable[Any]) -> Any:
        """Add some at the end; returns itself."""
        for value in _iterable(self, "extend", values):
            self.append(value)
        return self

    def __getitem__(self, index: Any) -> Any:
        found = list(self._parameters.values())[index]
        return ParameterList(found) if isinstance(index, slice) else found

    def __setitem__(self, index: int, value: Any) -> None:
        self._parameters[str(range(len(self))[index])] = _parameter(value)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameters.values())

    def __repr__(self) -> str:
        return _listing(self, lambda t: t.dtype)


class ParameterDict(Module):
    """A dictionary of parameters; Tensors become Parameters.

    >>> import tapegrad as tg
    >>> tg.nn.ParameterDict({"w": tg.ones(2), "b": tg.zeros(3)})
    ParameterDict(
        (w): Parameter containing: [tapegrad.DoubleTensor of size 2]
        (b): Parameter containing: [tapegrad.DoubleTensor of size 3]
    )
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        if parameters is not None:
            self.update(parameters)

    def update(self, parameters: Any) -> None:
        """Put parameters in, given as a dictionary or as pairs."""
        for name, t in _pairs(self, parameters):
            self[name] = t

    def __getitem__(self, name: str) -> Any:
        return self._parameters[name]

    def __setitem__(self, name: str, t: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(
                "Index given to ParameterDict cannot be used as a key as it is not a string (type is "
                f"'{type(name).__name__}')."
            )
        self._parameters[name] = _parameter(t)

    def __delitem__(self, name: str) -> None:
        del self._parameters[name]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __reversed__(self) -> Iterator[str]:
        return reversed(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def keys(self) -> Any:
        """The names."""
        return self._parameters.keys()

    def values(self) -> Any:
        """The parameters."""
        return self._parameters.values()

    def items(self) -> Any:
        """(name, parameter) of all."""
        return self._parameters.items()

    def get(self, key: str, default: Any = None) -> Any:
        """The one of a name, or `default`."""
        return self._parameters.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The one of a name; `default` is put there where there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Take one out; returns it."""
        return self._parameters.pop(key)

    def popitem(self) -> tuple[str, Any]:
        """Take the last one out; returns it with its name."""
        return self._parameters.popitem()

    def clear(self) -> None:
        """Take all out."""
        self._parameters.clear()

    def copy(self) -> ParameterDict:
        """Another with the same parameters."""
        return ParameterDict(self)

    def __repr__(self) -> str:
        return _listing(self, lambda t: t.type())

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """Another with one value under each of these names."""
        return ParameterDict((key, default) for key in keys)


__all__ = ["ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"]
