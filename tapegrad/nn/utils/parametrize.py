"""Parametrisations: a tensor of a module is what modules make of others, the originals, which are learned in its place.

    register_parametrization(linear, "weight", symmetric)

    linear.parametrizations.weight            ParametrizationList: (0) symmetric; original, a Parameter
    linear.weight                             symmetric(original), made anew whenever it is asked for
    linear.weight = value                     original = symmetric.right_inverse(value)

The module's class becomes one of its own, with a property of the tensor's name.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from tapegrad.nn.containers import ModuleDict, ModuleList
from tapegrad.nn.module import Module
from tapegrad.nn.parameter import Parameter
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor

_caches: list[dict[tuple[Module, str], Tensor]] = []  # one for each `cached()` that is open, all of them the same


@contextmanager
def cached() -> Iterator[None]:
    """Within it, each parametrised tensor is made once, when it is first asked for.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import parametrize, parametrizations
    >>> linear = parametrizations.weight_norm(tg.nn.Linear(2, 3))
    >>> with parametrize.cached():
    ...     linear.weight is linear.weight
    True
    """
    _caches.append(_caches[0] if _caches else {})
    try:
        yield
    finally:
        _caches.pop()


def _inverted(modules: Any, value: Any, is_strict: bool) -> Any:
    """What the originals must be for a value; a module without `right_inverse` is no obstacle where not `is_strict`."""
    for module in reversed(list(modules)):
        if not hasattr(module, "right_inverse"):
            if is_strict:
                raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
            continue
        try:
            value = module.right_inverse(value)
        except NotImplementedError:
            if is_strict:
                raise
    return value


def _without_grad(function: Any, *args: Any) -> Any:
    return in_grad_mode(current_tape(), False, function, *args)


def _copied(value: Tensor) -> Tensor:
    return value.detach().clone()


class ParametrizationList(ModuleList):
    """The parametrisations of one tensor, and what the first is given: `original`, or `original0`, `original1` ...

    Parameters
    ----------
    modules : sequence of Module
        The parametrisations, the first to be called first.
    original : Tensor
        What the tensor was; it stays a parameter, the same one, where one tensor is learned in its place.
    unsafe : bool
        Whether shape and dtype may be others than they were.
    """

    def __init__(self, modules: Sequence[Module], original: Tensor, unsafe: bool = False) -> None:
        if not len(modules):
            raise ValueError("ParametrizationList requires one or more modules.")
        super().__init__(modules)
        self.unsafe = unsafe
        shape, dtype = original.shape, original.dtype
        new = _without_grad(_inverted, self, original, False)
        self.is_tensor = isinstance(new, Tensor)
        if self.is_tensor:
            if new.dtype != dtype:
                raise ValueError(
                    "When `right_inverse` outputs one tensor, it may not change the dtype.\n"
                    f"original.dtype: {dtype}\nright_inverse(original).dtype: {new.dtype}"
                )
        elif not isinstance(new, Sequence) or not all(isinstance(t, Tensor) for t in new):
            raise ValueError(
                "'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                f"Got {type(new).__name__}"
            )
        self.ntensors = 1 if self.is_tensor else len(new)
        before = original.detach()
        if not self.is_tensor:
            for i, t in enumerate(new):
                if isinstance(original, Parameter):
                    self.register_parameter(f"original{i}", Parameter(_copied(t), original.requires_grad))
                else:
                    self.register_buffer(f"original{i}", _copied(t))
        else:
            if new is not original:
                original.data = _copied(new)
            (self.register_parameter if isinstance(original, Parameter) else self.register_buffer)("original", original)
        if not unsafe:
            try:
                _check(self(), shape, dtype)
            except BaseException:
                original.data = before
                raise

    def _originals(self) -> list[Tensor]:
        names = ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]
        return [getattr(self, name) for name in names]

    def right_inverse(self, value: Tensor) -> None:
        """Set the originals so that the tensor has a value: by each `right_inverse`, the last first."""
        new = _without_grad(_inverted, self, value, True)
        if self.is_tensor:
            if not isinstance(new, Tensor):
                raise ValueError(f"`right_inverse` should return a tensor. Got {type(new).__name__}")
            new = [new]
        elif not isinstance(new, Sequence):
            raise ValueError(f"'right_inverse' must return a sequence of tensors. Got {type(new).__name__}.")
        originals = self._originals()
        if len(new) != len(originals):
            raise ValueError(
                f"'right_inverse' must return a sequence of tensors of length {self.ntensors}. Got a sequence of "
                f"length {len(new)}."
            )
        for i, (t, original) in enumerate(zip(new, originals, strict=True)):
            if not isinstance(t, Tensor):
                raise ValueError(
                    f"'right_inverse' must return a sequence of tensors. Got element {i} of type {type(t).__name__}."
                )
            if t.dtype != original.dtype:
                which = "The tensor" if self.is_tensor else f"Tensor {i}"
                name = "original" if self.is_tensor else f"original{i}"
                raise ValueError(
                    f"{which} returned by `right_inverse` has dtype {t.dtype} while `{name}` has dtype {original.dtype}"
                )
        for t, original in zip(new, originals, strict=True):
            original.data = _copied(t)

    def forward(self) -> Tensor:
        """The tensor."""
        first, *others = self
        x = first(*self._originals())
        for module in others:
            x = module(x)
        return x


def _check(made: Any, shape: Any, dtype: Any) -> None:
    """That a tensor is as it was before it was parametrised."""
    if not isinstance(made, Tensor):
        raise ValueError(f"A parametrization must return a tensor. Got {type(made).__name__}.")
    for fact, was, now in (("dtype", dtype, made.dtype), ("shape", shape, made.shape)):
        if was != now:
            raise ValueError(
                f"Registering a parametrization may not change the {fact} of the tensor, unless `unsafe` flag is "
                f"enabled.\nunparametrized {fact}: {was}\nparametrized {fact}: {now}"
            )


class _Parametrized:
    """What the class of a module with parametrised tensors has beside its own."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        made: Any = Module.__new__(_class(type(self).__bases__[1], self.parametrizations))
        memo[id(self)] = made
        vars(made).update(copy.deepcopy(vars(self), memo))
        return made

    def __getstate__(self) -> Any:
        raise RuntimeError(
            "Serialization of parametrized modules is only supported through state_dict(): the class was made for this "
            "module, and another program has none of it"
        )


def _class(of: type, names: Iterable[str]) -> type:
    """The class of one module: a copy has one of its own, from which a property can be taken."""
    return type(f"Parametrized{of.__name__}", (_Parametrized, of), {name: _property(name) for name in names})


def _property(name: str) -> property:
    def get(self: Any) -> Tensor:
        """What the parametrisations make of the originals."""
        made = self.parametrizations[name]
        if not _caches:
            return made()
        cache, key = _caches[0], (self, name)
        if key not in cache:
            cache[key] = made()
        return cache[key]

    def put(self: Any, value: Tensor) -> None:
        self.parametrizations[name].right_inverse(value)

    return property(get, put)


def register_parametrization(
    module: Module, tensor_name: str, parametrization: Module, *, unsafe: bool = False
) -> Module:
    """Have a parameter or buffer of a module be what `parametrization` makes of it; returns the module.

    Parameters
    ----------
    module : Module
        What has the tensor.
    tensor_name : str
        Its name.
    parametrization : Module
        Called with the original; with a `right_inverse(tensor)`, that says what the original is to be, one tensor or
        several. Another one registered later is called with what this one gives.
    unsafe : bool
        Whether it may change shape and dtype.

    Raises
    ------
    ValueError
        Where there is no such tensor; where shape or dtype change, and not `unsafe`. Then nothing has changed.

    >>> import tapegrad as tg
    >>> class Symmetric(tg.nn.Module):
    ...     def forward(self, x):
    ...         return x.triu() + x.triu(1).T
    >>> linear = tg.nn.Linear(2, 2)
    >>> _ = tg.nn.utils.parametrize.register_parametrization(linear, "weight", Symmetric())
    >>> bool((linear.weight == linear.weight.T).all())
    True
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        held = module.parametrizations[tensor_name]
        if not unsafe:
            was = getattr(module, tensor_name)
            _check(parametrization(was), was.shape, was.dtype)
            if hasattr(parametrization, "right_inverse"):
                with suppress(NotImplementedError):
                    _check(parametrization.right_inverse(was), was.shape, was.dtype)
        held.append(parametrization)
        held.unsafe = held.unsafe or unsafe
        return module
    known = next((d for d in (module._parameters, module._buffers) if tensor_name in d), None)
    if known is None or known[tensor_name] is None:
        raise ValueError(
            f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
            f"'{tensor_name}'"
        )
    held = ParametrizationList([parametrization], known[tensor_name], unsafe)
    held.train(module.training)
    del known[tensor_name]
    if not is_parametrized(module):
        module.__class__ = _class(type(module), ())
        module.parametrizations = ModuleDict()
    setattr(type(module), tensor_name, _property(tensor_name))
    module.parametrizations[tensor_name] = held
    return module


def is_parametrized(module: Module, tensor_name: str | None = None) -> bool:
    """Whether a module has parametrised tensors, or the one of this name is.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import parametrize
    >>> layer = tg.nn.Linear(2, 2)
    >>> _ = parametrize.register_parametrization(layer, "weight", tg.nn.Tanh())
    >>> parametrize.is_parametrized(layer, "weight"), parametrize.is_parametrized(layer, "bias")
    (True, False)
    """
    held = module._modules.get("parametrizations")
    if not isinstance(held, ModuleDict) or not isinstance(module, _Parametrized):
        return False
    return len(held) > 0 if tensor_name is None else tensor_name in held


def remove_parametrizations(module: Module, tensor_name: str, leave_parametrized: bool = True) -> Module:
    """Have a tensor be a parameter or buffer again; returns the module.

    Parameters
    ----------
    module, tensor_name
        As in `register_parametrization`.
    leave_parametrized : bool
        Keep the value that the parametrisations give; else what the original is.

    Raises
    ------
    ValueError
        Where it is not parametrised; where it has several originals, of which none is the value.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import parametrize
    >>> layer = tg.nn.Linear(2, 2)
    >>> _ = parametrize.register_parametrization(layer, "weight", tg.nn.Sigmoid())
    >>> _ = parametrize.remove_parametrizations(layer, "weight")  # what it was becomes the parameter
    >>> parametrize.is_parametrized(layer), (layer.weight > 0).all()
    (False, tensor(True))
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"Module {module} does not have a parametrization on {tensor_name}")
    held = module.parametrizations[tensor_name]
    originals = held._originals()
    if not leave_parametrized and not held.is_tensor:
        raise ValueError(
            "Cannot leave unparametrized (`leave_parametrized=False`) a tensor that is parametrized in terms of a "
            "sequence of tensors."
        )
    value: Any = _without_grad(getattr, module, tensor_name) if leave_parametrized else None
    is_parameter = all(isinstance(t, Parameter) for t in originals)
    if held.is_tensor and (value is None or value.dtype == originals[0].dtype):
        kept = originals[0]  # the same handle: optimisers know it
        if value is not None:
            kept.data = _copied(value)
    else:
        requires_grad = any(t.requires_grad for t in originals)
        kept = Parameter(_copied(value), requires_grad) if is_parameter else _copied(value)
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    (module.register_parameter if is_parameter else module.register_buffer)(tensor_name, kept)
    if not len(module.parametrizations):
        del module.parametrizations
        module.__class__ = type(module).__bases__[1]
    return module


def type_before_parametrizations(module: Module) -> type:
    """The class that a module had.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import parametrize
    >>> layer = tg.nn.Linear(2, 2)
    >>> _ = parametrize.register_parametrization(layer, "weight", tg.nn.Tanh())
    >>> type(layer) is tg.nn.Linear, parametrize.type_before_parametrizations(layer) is tg.nn.Linear
    (False, True)
    """
    return type(module).__bases__[1] if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(
    from_module: Module, to_module: Module, tensor_name: str | None = None
) -> Module:
    """Parametrise a module as another is, with the same originals; returns it.

    Raises
    ------
    AssertionError
        Where the other has no such parametrisations.

    >>> import tapegrad as tg
    >>> from tapegrad.nn.utils import parametrize
    >>> layer, other = tg.nn.Linear(2, 2), tg.nn.Linear(2, 2)
    >>> _ = parametrize.register_parametrization(layer, "weight", tg.nn.Tanh())
    >>> _ = parametrize.transfer_parametrizations_and_params(layer, other)
    >>> tg.equal(layer.weight, other.weight)
    True
    """
    if not is_parametrized(from_module, tensor_name):
        on = f" on {tensor_name}" if tensor_name else ""
        raise AssertionError(f"the module to transfer from has no parametrizations{on}")
    names = list(from_module.parametrizations) if tensor_name is None else [tensor_name]
    for name in names:
        source = from_module.parametrizations[name]
        if not hasattr(to_module, name):
            value = _without_grad(getattr, from_module, name)
            to_module.register_parameter(name, Parameter(_copied(value)))
        for module in source:
            register_parametrization(to_module, name, module, unsafe=source.unsafe)
        for mine, theirs in zip(to_module.parametrizations[name]._originals(), source._originals(), strict=True):
            mine.data = _copied(theirs)
    return to_module


__all__ = [
    "ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
    "transfer_parametrizations_and_params", "type_before_parametrizations",
]  # fmt: skip
