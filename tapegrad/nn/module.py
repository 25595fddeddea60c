"""Modules: functions that have parameters, buffers, and other modules in them."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from tapegrad import creation, dtypes
from tapegrad.autograd.function import Function
from tapegrad.autograd.hooks import RemovableHandle, add, added
from tapegrad.devices import channels_last_3d
from tapegrad.nn.parameter import Parameter, UninitializedBuffer, is_buffer
from tapegrad.tape import current_tape, in_grad_mode
from tapegrad.tensor import Tensor


class _Keys(NamedTuple):
    missing_keys: list[str]
    unexpected_keys: list[str]


class IncompatibleKeys(_Keys):
    """What `load_state_dict` did not find, and what it found and did not know."""

    __slots__ = ()

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_{super().__repr__()}"

    __str__ = __repr__


_EXTRA = "_extra_state"
_DICTIONARIES = ("_parameters", "_buffers", "_modules")
# Hooks by their numbers, under PyTorch's names, since programs look for them there; and the numbers of those that want
# more than others.
_HOOKS = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks", "_state_dict_pre_hooks",
    "_state_dict_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
_CHOICES = (
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_with_kwargs", "_forward_hooks_always_called",
    "_state_dict_hooks_that_replace",
)  # fmt: skip
# Hooks of all modules, by their numbers: of which of the first four kinds they are, and what they call.
changes = np.zeros(1, np.int64)  # of `training`, in all modules: compiled code looks at it
_everywhere: OrderedDict[int, tuple[str, Any]] = OrderedDict()


class _Metadata(dict[str, Any]):
    """What a state says of a module's part, its version; and what a load is to do once all has been looked at."""

    def __init__(self, known: dict[str, Any], changes: list[Callable[[], Any]], assign: bool) -> None:
        super().__init__(known)
        self.changes, self.assign = changes, assign


class _WithoutModule:
    """A hook that is given no module: one that is pickled, and copied with the module whose method it is."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook

    def __call__(self, module: Module, *args: Any) -> Any:
        del module
        return self._hook(*args)


class Module:
    """What layers and networks are: a subclass has attributes, and `forward`.

    Attributes that are Parameters, Modules, or buffers (`register_buffer`) are known by their names.

    >>> import tapegrad as tg
    >>> class Line(tg.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.slope = tg.nn.Parameter(tg.tensor(2.0))
    ...
    ...     def forward(self, x):
    ...         return self.slope * x
    >>> line = Line()
    >>> line(tg.tensor(3.0)).backward()
    >>> line.slope.grad
    tensor(3.)
    >>> list(line.state_dict())
    ['slope']
    """

    training: bool
    _version = 1  # of its part of a state: see `state_dict`

    def __init__(self) -> None:
        of = vars(self)
        of["training"] = True
        for name in _DICTIONARIES:
            of[name] = OrderedDict()
        of["_non_persistent_buffers_set"] = set()  # names of buffers that are no part of the state
        for name in _HOOKS:
            of[name] = OrderedDict()
        for name in _CHOICES:
            of[name] = set()

    def forward(self, *args: Any, **facts: Any) -> Any:
        """What the module computes."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    def __call__(self, *args: Any, **facts: Any) -> Any:
        """Compute, with the hooks around it."""
        if not (
            self._forward_pre_hooks or self._forward_hooks or self._backward_pre_hooks or self._backward_hooks
            or _everywhere
        ):  # fmt: skip
            return self.forward(*args, **facts)
        return self.__hooked(args, facts)

    def __hooks(self, kind: str) -> list[tuple[int, Any]]:
        """Those of all modules first, then its own."""
        return [(i, hook) for i, (of, hook) in _everywhere.items() if of == kind] + list(vars(self)[kind].items())

    def __hooked(self, args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
        for i, hook in self.__hooks("_forward_pre_hooks"):
            if i in self._forward_pre_hooks_with_kwargs:
                given = hook(self, args, facts)
                if given is not None:
                    args, facts = given
            else:
                given = hook(self, args)
                if given is not None:
                    args = given if isinstance(given, tuple) else (given,)
        seen: list[Any] = []  # the gradients of the result, once they are there
        goes_back, n_given = bool(self.__hooks("_backward_pre_hooks") or self.__hooks("_backward_hooks")), 0
        if goes_back:
            watched = _watched(args, lambda gs: self.__ran_back(_or_zeros(gs, args), seen))
            n_given, args = len(args) if watched is args else 0, watched
        waiting, result = dict(self.__hooks("_forward_hooks")), None
        try:
            result = self.forward(*args, **facts)
            while waiting:
                i, hook = next(iter(waiting.items()))
                del waiting[i]
                result = self.__after_forward(i, hook, args, facts, result)
        except Exception:
            for i, hook in waiting.items():
                if i in self._forward_hooks_always_called:
                    self.__after_forward(i, hook, args, facts, result)
            raise
        if goes_back:
            is_tuple = isinstance(result, tuple)
            made = _watched(result if is_tuple else (result,), lambda gs: self.__runs_back(gs, seen, n_given))
            result = made if is_tuple else made[0]
        return result

    def __after_forward(self, i: int, hook: Any, args: tuple[Any, ...], facts: dict[str, Any], result: Any) -> Any:
        has_facts = i in self._forward_hooks_with_kwargs
        given = hook(self, args, facts, result) if has_facts else hook(self, args, result)
        return result if given is None else given

    def __runs_back(self, y_bars: tuple[Any, ...], seen: list[Any], n_given: int) -> tuple[Any, ...]:
        """Gradients of the result are there; those of `n_given` arguments, none of which requires grad, won't be."""
        for _, hook in self.__hooks("_backward_pre_hooks"):
            given = hook(self, y_bars)
            if given is not None:
                y_bars = given if isinstance(given, tuple) else (given,)
        seen[:] = [y_bars]
        if n_given:
            given = self.__ran_back((None,) * n_given, seen)
            if any(g is not None for g in given):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or None for "
                    f"all gradients: {type(self).__name__}"
                )
        return y_bars

    def __ran_back(self, x_bars: tuple[Any, ...], seen: list[Any]) -> tuple[Any, ...]:
        for _, hook in self.__hooks("_backward_hooks"):
            given = hook(self, x_bars, seen[0] if seen else ())
            if given is not None:
                x_bars = given if isinstance(given, tuple) else (given,)
        return x_bars

    # --- attributes ---------------------------------------------------------------------------------------------------

    def __getattr__(self, name: str) -> Any:
        of = vars(self)
        for known in _DICTIONARIES:
            if known in of and name in of[known]:
                return of[known][name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        of = vars(self)
        kind = "_parameters" if isinstance(value, Parameter) else "_modules" if isinstance(value, Module) else ""
        if not kind and is_buffer(value):
            self.__delete(name)
            self.register_buffer(name, value, persistent=value._note == "Buffer")
            return
        if kind:
            if "_parameters" not in of:
                what = "parameters" if kind == "_parameters" else "module"
                raise AttributeError(f"cannot assign {what} before Module.__init__() call")
            if name not in of[kind]:
                if isinstance(getattr(type(self), name, None), property):  # a parametrisation: the value would be hid
                    raise KeyError(f"attribute '{name}' already exists")
                self.__delete(name)
            of[kind][name] = value
            if isinstance(value, UninitializedBuffer):
                value.placed(self, name)
            return
        if "_parameters" in of:
            if name in of["_parameters"]:
                if value is not None:
                    raise TypeError(
                        f"cannot assign '{_type_of(value)}' as parameter '{name}' (tapegrad.nn.Parameter or None "
                        "expected)"
                    )
                of["_parameters"][name] = None
                return
            if name in of["_modules"]:
                if value is not None:
                    raise TypeError(
                        f"cannot assign '{_type_of(value)}' as child module '{name}' (tapegrad.nn.Module or None "
                        "expected)"
                    )
                of["_modules"][name] = None
                return
            if name in of["_buffers"]:
                if value is not None and not isinstance(value, Tensor):
                    raise TypeError(
                        f"cannot assign '{type(value).__name__}' as buffer '{name}' (tapegrad.nn.Buffer, "
                        "tapegrad.Tensor or None expected)"
                    )
                of["_buffers"][name] = value
                return
        if name == "training" and of.get(name) is not value:
            changes[0] += 1
        object.__setattr__(self, name, value)

    def __delete(self, name: str) -> None:
        of = vars(self)
        for known in (of, *(of[known] for known in _DICTIONARIES)):
            known.pop(name, None)
        of["_non_persistent_buffers_set"].discard(name)

    def __delattr__(self, name: str) -> None:
        of = vars(self)
        for known in _DICTIONARIES:
            if name in of[known]:
                del of[known][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        """Names of attributes; numbers of layers can't be written as such."""
        names = {*object.__dir__(self), *self._parameters, *self._buffers, *self._modules}
        return sorted(name for name in names if not name[:1].isdigit())

    def __check_name(self, name: str, what: str, known: Mapping[str, Any]) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{what} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{what} name can\'t contain "."' + (f", got: {name}" if what == "module" else ""))
        if not name:
            raise KeyError(f'{what} name can\'t be empty string ""')
        if hasattr(self, name) and name not in known:
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Any) -> None:
        """Make a parameter, or None, an attribute."""
        self.__check_name(name, "parameter", self._parameters)
        if isinstance(param, UninitializedBuffer):
            param.placed(self, name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"cannot assign '{_type_of(param)}' object to parameter '{name}' (tapegrad.nn.Parameter or None "
                "required)"
            )
        self._parameters[name] = param

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Make a tensor an attribute that is part of the module, and of its state where it is `persistent`."""
        self.__check_name(name, "buffer", self._buffers)
        if isinstance(tensor, UninitializedBuffer):
            tensor.placed(self, name)
        elif tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"cannot assign '{type(tensor).__name__}' object to buffer '{name}' (Tensor or None required)"
            )
        self._buffers[name] = tensor
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def register_module(self, name: str, module: Module | None) -> None:
        """Make a module an attribute."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{type(module).__name__} is not a Module subclass")
        self.__check_name(name, "module", self._modules)
        self._modules[name] = module

    add_module = register_module

    def get_submodule(self, target: str) -> Module:
        """The module at a path such as "encoder.0"."""
        module = self
        for name in target.split(".") if target else ():
            if not hasattr(module, name):
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put a module at a path; with `strict`, in the place of one that is there.

        Raises
        ------
        AttributeError
            Where there is nobody to hold it.
        ValueError
            Where the path is empty.
        """
        if not target:
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module: {type(module).__name__}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not isinstance(getattr(parent, name, None), Module):
            raise AttributeError(f"{type(parent).__name__} has no attribute `{name}`")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Tensor:
        """The parameter at a path."""
        return self.__get(target, "_parameters", "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path."""
        return self.__get(target, "_buffers", "a buffer")

    def __get(self, target: str, known: str, what: str) -> Tensor:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        found: Tensor | None = vars(module)[known].get(name)
        if found is None:
            raise AttributeError(f"`{name}` is not {what}")
        return found

    # --- what is in it ------------------------------------------------------------------------------------------------

    def named_modules(
        self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """(path, module) of itself and all below."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}{'.' if prefix else ''}{name}", remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """Itself and all below."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, module) of those that are attributes."""
        seen = set()
        for name, module in self._modules.items():
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules that are attributes."""
        return (module for _, module in self.named_children())

    def _named_members(
        self, get_members_fn: Any, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        """(path, member) of what a function gives, (name, member), of itself and all below."""
        seen = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, t in get_members_fn(module):
                if t is None or (remove_duplicate and id(t) in seen):
                    continue
                seen.add(id(t))
                yield f"{path}{'.' if path else ''}{name}", t

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, parameter) of all in it."""
        return self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """All parameters in it."""
        return (t for _, t in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """(path, buffer) of all in it."""
        return self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers in it."""
        return (t for _, t in self.named_buffers(recurse=recurse))

    # --- state --------------------------------------------------------------------------------------------------------

    def state_dict(self, *, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Parameters and buffers by their paths: detached, sharing the elements.

        `_metadata` of the dictionary has the version of each module's part, by its path.
        """
        found = OrderedDict() if destination is None else destination
        known_versions = vars(found).setdefault("_metadata", OrderedDict()) if hasattr(found, "__dict__") else {}
        known_versions[prefix[:-1]] = metadata = {"version": self._version}
        for hook in list(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(found, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=found, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for i, hook in list(self._state_dict_hooks.items()):
            given = hook(self, found, prefix, metadata)
            if given is not None:
                if i not in self._state_dict_hooks_that_replace:
                    raise RuntimeError("state_dict post-hook must return None: it changes the dictionary that it gets")
                found = given
        return found

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Put its own part in a state: a subclass may put in another."""
        for name, (_, t) in self.__own_state().items():
            destination[prefix + name] = t if keep_vars else t.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + _EXTRA] = self.get_extra_state()

    def __own_state(self) -> dict[str, tuple[str, Any]]:
        """Parameters and buffers that are part of its own state: in which dictionary each is, and the tensor."""
        return {
            name: (known, t)
            for known in ("_parameters", "_buffers")
            for name, t in vars(self)[known].items()
            if t is not None and name not in self._non_persistent_buffers_set
        }

    def get_extra_state(self) -> Any:
        """What else belongs to the state: a subclass that has it overrides this, and `set_extra_state`."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be called.")

    def set_extra_state(self, state: Any) -> None:
        """Take what `get_extra_state` gave."""
        del state
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be called.")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        """Copy tensors or arrays into parameters and buffers, by their paths; with `assign`, take them as they are.

        Raises
        ------
        RuntimeError
            Where shapes differ; with `strict`, where something is missing, or not known. Then nothing has changed,
            unless there are hooks for what follows a load, which may forgive what is missing.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        versions = getattr(state_dict, "_metadata", {})
        state_dict = OrderedDict(state_dict)
        missing, unexpected, errors = list[str](), list[str](), list[str]()
        changes: list[Callable[[], Any]] = []
        hooks: list[tuple[Module, Any]] = []

        def look(module: Module, state: Any, prefix: str) -> None:
            metadata = _Metadata(versions.get(prefix[:-1], {}), changes, assign)
            module._load_from_state_dict(state, prefix, metadata, strict, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    below = f"{prefix}{name}."
                    look(child, OrderedDict(item for item in state.items() if item[0].startswith(below)), below)
            hooks.extend((module, hook) for hook in module._load_state_dict_post_hooks.values())

        look(self, state_dict, "")
        keys = IncompatibleKeys(missing, unexpected)
        if errors or not hooks:  # which may change the lists of keys, once all is loaded
            self.__check_loaded(keys, strict, errors)
        for change in changes:
            change()
        for module, hook in hooks:
            hook(module, keys)
        self.__check_loaded(keys, strict, errors)
        return keys

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: _Metadata, strict: bool, missing_keys: list[str],
        unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Find its own part in a state, and note what is to change, what is missing, unexpected, and wrong.

        A subclass may change the state before it calls this, or do all by itself.
        """
        for hook in list(self._load_state_dict_pre_hooks.values()):
            hook(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        self._take_older(state_dict, prefix, local_metadata.get("version"))
        own, has_extra = self.__own_state(), type(self).set_extra_state is not Module.set_extra_state
        missing_keys += [prefix + name for name in own if prefix + name not in state_dict]
        if has_extra and prefix + _EXTRA not in state_dict:
            missing_keys.append(prefix + _EXTRA)
        for path in state_dict:
            name, *below = path.removeprefix(prefix).split(".", 1) if path.startswith(prefix) else ("",)
            is_known = name in self._modules if below else name in own or (has_extra and name == _EXTRA)
            if name and not is_known:
                unexpected_keys.append(path)
        for name, (known, held) in own.items():
            if prefix + name in state_dict:
                given = state_dict[prefix + name]
                if not isinstance(given, (Tensor, UninitializedBuffer)):
                    try:
                        given = creation.tensor(np.asarray(given))
                    except (TypeError, ValueError):
                        error_msgs.append(
                            f'While copying the parameter named "{prefix + name}", expected torch.Tensor or Tensor-'
                            f"like object from checkpoint but received {type(given)}"
                        )
                        continue
                if not isinstance(held, UninitializedBuffer) and given.shape != held.shape:
                    error_msgs.append(
                        f"size mismatch for {prefix + name}: copying a param with shape {given.shape} from checkpoint, "
                        f"the shape in current model is {held.shape}."
                    )
                take = functools.partial(self.__take, known, name, given, local_metadata.assign)
                local_metadata.changes.append(take)
        if has_extra and prefix + _EXTRA in state_dict:
            local_metadata.changes.append(lambda: self.set_extra_state(state_dict[prefix + _EXTRA]))

    def __take(self, known: str, name: str, given: Any, assign: bool) -> None:
        """Let a parameter or buffer have the elements of a tensor, or be it."""
        held = vars(self)[known][name]
        if isinstance(held, UninitializedBuffer):
            if isinstance(given, UninitializedBuffer):
                return
            held = held.materialize(given.shape)
        if assign:
            made = given.detach()
            vars(self)[known][name] = Parameter(made, held.requires_grad) if known == "_parameters" else made
        else:
            in_grad_mode(current_tape(), False, held.copy_, given.detach().to(held.dtype))

    def __check_loaded(self, keys: IncompatibleKeys, strict: bool, errors: list[str]) -> None:
        if strict and keys.unexpected_keys:
            errors.insert(0, f"Unexpected key(s) in state_dict: {_listed(keys.unexpected_keys)}. ")
        if strict and keys.missing_keys:
            errors.insert(0, f"Missing key(s) in state_dict: {_listed(keys.missing_keys)}. ")
        if errors:
            listed = "\n\t".join(errors)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{listed}")

    def _take_older(self, state: Any, prefix: str, version: int | None) -> None:
        """Put in a state, of this version or a dictionary that says none, what its module's part has not."""

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)

    # --- all at once --------------------------------------------------------------------------------------------------

    def apply(self, fn: Callable[[Module], Any]) -> Any:
        """Call a function with all modules below, and itself at last; returns itself."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Convert all tensors: a subclass that holds others converts these too. Returns itself."""
        for module in self.children() if recurse else ():
            module._apply(fn)
        for t in (*self._parameters.values(), *self._buffers.values()):
            if isinstance(t, UninitializedBuffer):
                t.dtype = fn(creation.empty(0, dtype=t.dtype)).dtype
        for t in self._parameters.values():
            if isinstance(t, Tensor):
                gradient, t.grad = t.grad, None
                t.data = fn(t.data)
                if gradient is not None:
                    t.grad = fn(gradient)
        for name, t in self._buffers.items():
            if isinstance(t, Tensor):
                self._buffers[name] = fn(t)
        return self

    def to(self, *args: Any, **facts: Any) -> Any:
        """Convert floating-point parameters and buffers to a dtype; the device must be the CPU. Returns itself."""
        like = creation.empty(0).to(*args, **{k: v for k, v in facts.items() if k != "memory_format"})  # checks them
        if (order := facts.get("memory_format")) is not None:
            self._apply(lambda t: t.to(memory_format=order) if t.ndim == 4 + (order is channels_last_3d) else t)
        given = [a for a in (*args, facts.get("dtype")) if isinstance(a, (dtypes.DType, Tensor))]
        if facts.get("copy"):
            raise RuntimeError(".to() does not accept copy argument: copy.deepcopy gives another module")
        if not given:
            return self
        if not like.is_floating_point():
            raise TypeError(
                f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={like.dtype}"
            )
        return self._apply(lambda t: t.to(like.dtype) if t.is_floating_point() else t)

    def type(self, dst_type: Any) -> Any:
        """Convert all parameters and buffers to a dtype."""
        return self._apply(lambda t: t.to(dst_type))

    def float(self) -> Any:
        """Convert to float32."""
        return self.to(dtypes.FLOAT32)

    def double(self) -> Any:
        """Convert to float64."""
        return self.to(dtypes.FLOAT64)

    def cpu(self) -> Any:
        """Itself: it is there."""
        return self

    def cuda(self, device: Any = None) -> Any:
        """Refused, as all devices but the CPU."""
        return self.to("cuda" if device is None else device)

    def half(self) -> Any:
        """Refused: there are float32 and float64."""
        raise RuntimeError("half(): tapegrad has float32 and float64, and no shorter dtypes: leave the module as it is")

    def bfloat16(self) -> Any:
        """Refused: there are float32 and float64."""
        raise RuntimeError("bfloat16(): tapegrad has float32 and float64: leave the module as it is")

    def share_memory(self) -> Any:
        """Itself: threads share memory, and processes of `distributed` have copies."""
        return self

    def to_empty(self, *, device: Any, recurse: bool = True) -> Any:
        """New parameters and buffers of the same kinds, whose elements nobody has set. Returns itself."""
        return self._apply(lambda t: creation.empty_like(t, device=device), recurse)

    def train(self, mode: bool = True) -> Any:
        """Say whether it is being trained: dropout and batch normalisation differ. Returns itself."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Any:
        """Say that it is not being trained."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Ask for gradients of all parameters, or cease to; returns itself."""
        for t in self.parameters():
            t.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of all gradients, or make them zero."""
        for t in self.parameters():
            t.grad = None if set_to_none or t.grad is None else creation.zeros_like(t.grad)

    # --- hooks --------------------------------------------------------------------------------------------------------

    def register_forward_pre_hook(
        self, hook: Any, *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """Have `hook(module, args)` called before `forward`; it gives None, or other arguments."""
        handle = added(self._forward_pre_hooks, hook, prepend)
        if with_kwargs:
            self._forward_pre_hooks_with_kwargs.add(handle.id)
        return handle

    def register_forward_hook(
        self, hook: Any, *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Have `hook(module, args, output)` called after `forward`; it gives None, or another output.

        With `always_call`, also where `forward`, or a hook before it, raises.
        """
        handle = added(self._forward_hooks, hook, prepend)
        for is_so, numbers in (
            (with_kwargs, self._forward_hooks_with_kwargs), (always_call, self._forward_hooks_always_called),
        ):  # fmt: skip
            if is_so:
                numbers.add(handle.id)
        return handle

    def register_full_backward_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Have `hook(module, grad_input, grad_output)` called when gradients by the arguments are there."""
        return added(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Any) -> RemovableHandle:
        """`register_full_backward_hook`, under its former name."""
        return self.register_full_backward_hook(hook)

    def register_full_backward_pre_hook(self, hook: Any, prepend: bool = False) -> RemovableHandle:
        """Have `hook(module, grad_output)` called before; it gives None, or other gradients."""
        return added(self._backward_pre_hooks, hook, prepend)

    def register_state_dict_pre_hook(self, hook: Any) -> RemovableHandle:
        """Have `hook(module, prefix, keep_vars)` called before its part of a state is made."""
        return added(self._state_dict_pre_hooks, hook, False)

    def register_state_dict_post_hook(self, hook: Any) -> RemovableHandle:
        """Have `hook(module, state_dict, prefix, metadata)` called after: it may change the dictionary."""
        return added(self._state_dict_hooks, hook, False)

    def _register_state_dict_hook(self, hook: Any) -> RemovableHandle:
        """Have `hook(module, state_dict, prefix, metadata)` called after: it gives None, or another dictionary."""
        handle = added(self._state_dict_hooks, hook, False)
        self._state_dict_hooks_that_replace.add(handle.id)
        return handle

    def _register_load_state_dict_pre_hook(self, hook: Any, with_module: bool = False) -> RemovableHandle:
        """`register_load_state_dict_pre_hook`, of a hook that is given no module, unless `with_module`."""
        return added(self._load_state_dict_pre_hooks, hook if with_module else _WithoutModule(hook), False)

    def register_load_state_dict_pre_hook(self, hook: Any) -> RemovableHandle:
        """Have `hook(module, state_dict, prefix, metadata, strict, missing, unexpected, errors)` called before a load.

        It may change the dictionary, a copy of the one that is loaded, and append to the lists.
        """
        return added(self._load_state_dict_pre_hooks, hook, False)

    def register_load_state_dict_post_hook(self, hook: Any) -> RemovableHandle:
        """Have `hook(module, incompatible_keys)` called after a load: it may change the lists of these."""
        return added(self._load_state_dict_post_hooks, hook, False)

    # --- text ---------------------------------------------------------------------------------------------------------

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What its line says in brackets."""
        return ""

    def __repr__(self) -> str:
        extra, lines = self.extra_repr(), []
        for name, module in self._modules.items():
            lines.append(f"({name}): " + repr(module).replace("\n", "\n  "))
        if not lines:
            return f"{self._get_name()}({extra})" if "\n" not in extra else broken(self._get_name(), extra.split("\n"))
        return broken(self._get_name(), [*extra.split("\n")] * bool(extra) + lines)


def _type_of(value: Any) -> str:
    """What errors call it: a tensor by PyTorch's name of its dtype."""
    return str(Tensor.type(value)) if isinstance(value, Tensor) else type(value).__name__


def _listed(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def broken(name: str, lines: list[str]) -> str:
    """The text of a module of several lines."""
    return f"{name}(\n  " + "\n  ".join(lines) + "\n)"


class _Watched(Function):
    """Passes its arguments on, and lets hooks see their gradients together."""

    @staticmethod
    def forward(ctx: Any, see: Any, *tensors: Tensor) -> Any:
        ctx.see = see
        ctx.set_materialize_grads(False)
        return tuple(t.detach() for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return None, *ctx.see(gradients)


def _or_zeros(gradients: tuple[Any, ...], values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Gradients of values, with zeros for tensors that have none."""
    return tuple(
        creation.zeros_like(v.detach()) if g is None and isinstance(v, Tensor) else g
        for g, v in zip(gradients, values, strict=True)
    )


def _watched(values: tuple[Any, ...], see: Any) -> tuple[Any, ...]:
    """The values, of which those that require grad are watched: of all others `see` is given None."""
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not places:
        return values

    def see_all(gradients: tuple[Any, ...]) -> tuple[Any, ...]:
        known = dict(zip(places, gradients, strict=True))
        given = see(tuple(known.get(i) for i in range(len(values))))
        if len(given) != len(values):
            raise RuntimeError(
                f"Backward hook returned an invalid number of gradients, got {len(given)}, but expected {len(values)}"
            )
        return tuple(given[i] for i in places)

    passed = dict(zip(places, _Watched.apply(see_all, *(values[i] for i in places)), strict=True))
    return tuple(passed.get(i, v) for i, v in enumerate(values))


def _register_everywhere(kind: str, name: str, said: str) -> Callable[..., RemovableHandle]:
    def register(hook: Any) -> RemovableHandle:
        known: Any = _everywhere
        handle = add(known, hook)
        _everywhere[handle.id] = kind, hook
        return handle

    register.__name__ = register.__qualname__ = name
    register.__doc__ = f"Have `hook({said})` called of all modules, before those of their own."
    return register


register_module_forward_pre_hook = _register_everywhere(
    "_forward_pre_hooks", "register_module_forward_pre_hook", "module, args"
)
register_module_forward_hook = _register_everywhere(
    "_forward_hooks", "register_module_forward_hook", "module, args, output"
)
register_module_full_backward_pre_hook = _register_everywhere(
    "_backward_pre_hooks", "register_module_full_backward_pre_hook", "module, grad_output"
)
register_module_full_backward_hook = _register_everywhere(
    "_backward_hooks", "register_module_full_backward_hook", "module, grad_input, grad_output"
)

__all__ = [
    "IncompatibleKeys", "Module", "register_module_forward_hook", "register_module_forward_pre_hook",
    "register_module_full_backward_hook", "register_module_full_backward_pre_hook",
]  # fmt: skip
