"""What optimisers share: groups of parameters, state, and a step.

A method (`methods.py`) says for one parameter what it becomes, and what its state becomes, by operations on Tensors.
They are recorded for all parameters, and swept at once.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tapegrad import engine, writing
from tapegrad.autograd.hooks import RemovableHandle, add, added
from tapegrad.nn.parameter import UninitializedParameter
from tapegrad.optim.states import Counted, fitting, shown
from tapegrad.optim.traces import NotTracedError, Traced
from tapegrad.recorder import update_all
from tapegrad.recording import local
from tapegrad.replay.standins import Keeper, Options
from tapegrad.tape import H, Tape, current_tape, in_grad_mode
from tapegrad.tensor import Tensor, depth_of_user, describe

_FILLED = H.filled

_NOTHING: dict[str, Any] = {}
_get: Any = dict.get

required = object()  # the default of options that have none, in optimisers of others
_MOMENTS = "before it is told", "after it was told", "before it is loaded", "after it was loaded"  # a state
_Hooks = OrderedDict[int, Callable[..., Any]]
Group = dict[str, Any]
State = dict[str, Any]
_Member = tuple[Tensor, Tensor, State]  # a parameter, its gradient, its state
_Change = tuple[Tensor, Tensor, int, State]  # a parameter, what it becomes, where the tape was then; its state then


class Optimizer(Keeper):
    """What optimisers share; a subclass has `update`, or a `step` of its own.

    Parameters
    ----------
    params : iterable of Tensor, of (name, Tensor), or of dict
        What is optimised. Dictionaries are groups, with options of their own beside "params".
    defaults : dict
        The options of groups that don't give them.

    Raises
    ------
    TypeError, ValueError
        Where something is no Tensor, or no leaf; where there is none; with PyTorch's messages.

    >>> import tapegrad as tg
    >>> class Signs(tg.optim.Optimizer):
    ...     def __init__(self, params, lr):
    ...         super().__init__(params, {"lr": lr})
    ...
    ...     @tg.no_grad()
    ...     def step(self):
    ...         for group in self.param_groups:
    ...             for p in group["params"]:
    ...                 p -= group["lr"] * p.grad.sign()
    >>> w = tg.nn.Parameter(tg.tensor([1.0, -2.0]))
    >>> (w**2).sum().backward()
    >>> Signs([w], lr=0.5).step()
    >>> w.detach()
    tensor([ 0.5000, -1.5000])
    """

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        if defaults.get("differentiable"):
            raise NotImplementedError(
                "differentiable=True: a step that is recorded is written with operations on Tensors (x - lr * grad), "
                "or with func.grad"
            )
        if defaults.get("fused") and defaults.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        self.defaults = defaults
        self.state: defaultdict[Tensor, State] = defaultdict(self._of_states)
        self.param_groups: list[Group] = []
        self._before, self._after = _Hooks(), _Hooks()
        self._at_states = {moment: _Hooks() for moment in _MOMENTS}
        self._traces = {}
        self.check(defaults)
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                f"{type(params).__name__}: give a list of parameters, [w], or model.parameters()"
            )
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(dict(group))

    def __init_subclass__(cls, **facts: Any) -> None:
        """A `step` of a subclass's own has hooks around it too."""
        super().__init_subclass__(**facts)
        if "step" in vars(cls):
            cls.step = _with_hooks(vars(cls)["step"])

    # --- groups -------------------------------------------------------------------------------------------------------

    def add_param_group(self, param_group: Group) -> None:
        """Optimise these too: a dictionary with "params", and options in the place of the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        given = param_group["params"]
        if isinstance(given, Tensor):
            given = [given]
        elif isinstance(given, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets "
                "will change between runs. Please use a list instead."
            )
        params = list(given)
        names = [item[0] for item in params if isinstance(item, tuple)]
        if names:
            if len(names) != len(params):
                raise ValueError(
                    "all optimizer params should be with/without names. Some param names are missing: "
                    f"{len(params) - len(names)} of {len(params)}"
                )
            param_group["param_names"], params = names, [t for _, t in params]
        for t in params:
            if isinstance(t, UninitializedParameter):
                self._has_lazy = True
            elif not isinstance(t, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(t).__name__}")
            if not t.is_leaf:
                raise ValueError(
                    f"can't optimize a non-leaf Tensor: {describe(t)} was computed from others; give "
                    "those, or a leaf of its own, t.detach().requires_grad_()"
                )
        if len({*map(id, params)}) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters: it steps twice with these; in future, "
                "this will cause an error",
                stacklevel=depth_of_user(),
            )
        if any(("param_names" in group) != ("param_names" in param_group) for group in self.param_groups):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param group "
                f"{'with' if 'param_names' in param_group else 'without'} names to the optimizer"
            )
        known = {id(t) for group in self.param_groups for t in group["params"]}
        if not known.isdisjoint(map(id, params)):
            raise ValueError("some parameters appear in more than one parameter group")
        param_group["params"] = params
        for name, value in self.defaults.items():
            param_group.setdefault(name, value)
        self.check(param_group)
        self.param_groups.append(Options(self, param_group))

    def check(self, options: Group) -> None:
        """Raise where options are out of range: the defaults, which have no "params", and those of each group."""
        lr = options.get("lr")
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError(f"Tensor lr must be 1-element, not of shape {list(lr.shape)}")

    # --- steps --------------------------------------------------------------------------------------------------------

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of the gradients, or make them zero."""
        if self._has_lazy:
            self._find_made()
        for group in self.param_groups:
            for t in group["params"]:
                if set_to_none:
                    t.grad = None
                elif t.grad is not None:
                    t.grad = t.grad.detach() * 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change all parameters that have a gradient.

        Parameters
        ----------
        closure : callable, optional
            It computes the loss and its gradients, and returns the loss, which is returned.
        """
        self.has_stepped = True
        if (self._before or self._after) and not self._is_stepping:
            return _stepped(Optimizer.step, self, (closure,) if closure is not None else (), {})
        tape, loss = current_tape(), None
        if closure is not None:
            loss = in_grad_mode(tape, True, closure)
        in_grad_mode(tape, False, self._step, tape)
        return loss

    def _find_made(self) -> None:
        """Have parameters that lazy layers have made meanwhile in the places of those that stood for them."""
        for group in self.param_groups:
            params = group["params"]
            params[:] = [t if getattr(t, "made", None) is None else t.made for t in params]
        self._has_lazy = any(isinstance(t, UninitializedParameter) for g in self.param_groups for t in g["params"])

    def _step(self, tape: Tape) -> None:
        """Update small parameters that are alike in native code, at once.

        For others new values are recorded, and given to them: many elements are computed all at once, few when someone
        looks, as in the next pass.
        """
        watch = tape.watch if self._is_followed(tape) else None
        if self._has_lazy:
            self._find_made()
        states, changes, alikes, has_large = self.state, list[_Change](), list[_Alike](), False
        for i, group in enumerate(self.param_groups):
            group, alike = {**group}, None
            is_alike = self.alike and tape.watch is None and not tape.sweeping
            if watch is not None:
                group["lr"] = watch.finds((id(self), i), functools.partial(self._rate, i), group["lr"])
            for t in group["params"]:
                g = getattr(t, "_grad", None) if watch is None else t.grad
                if g is None:
                    continue
                known = states.get(t, _NOTHING) if states else _NOTHING
                _settle(known)
                if alike is not None and alike.takes(t, g, known):
                    continue
                if is_alike and not t._kind.is_large:
                    alike = _Alike(i, group, t, g, known)
                    alikes.append(alike)
                    continue
                has_large |= t._kind.is_large
                changes.append(self._change(tape, watch, group, t, g, known))
        for alike in alikes:
            left = alike.members if has_large else alike.updated(self, tape)
            changes += [self._change(tape, None, alike.group, *member) for member in left]
        if has_large:
            made = [new for _, new, _, _ in changes]
            made += [value for *_, state in changes for value in state.values() if isinstance(value, Tensor)]
            with tape.lock:
                engine.run(tape, [t._slot for t in made if t._tape is tape])
        for change in changes:
            self._assign(watch, change, has_large)
        engine.reclaim_if_due(tape)

    def _change(self, tape: Tape, watch: Any, group: Group, t: Tensor, g: Tensor, known: State) -> _Change:
        """Record what a parameter becomes by its gradient, and what of its state."""
        p, g = (t, g) if t._tape is tape is g._tape else (local(t), local(g))
        state = {**known}
        if watch is not None:
            state = {
                name: watch.finds((id(self), id(t), name), functools.partial(self._kept, t, name), value)
                for name, value in state.items()
            }
        new = self.update(group, p, -g if group.get("maximize") else g, state)
        return t, new, tape.h[_FILLED], state

    def _assign(self, watch: Any, change: _Change, has_large: bool) -> None:
        """Give a parameter, and its state, what they become."""
        t, new, end, state = change
        if watch is not None:
            before = self.state.get(t, _NOTHING)
            if {k: v.__class__ for k, v in state.items()} != {k: v.__class__ for k, v in dict.items(before)}:
                watch.fail("has an optimiser take its first step", False)
            state = {
                name: watch.stores((id(self), id(t), name), functools.partial(self._keep, t, name), value)
                for name, value in state.items()
            }
        if state:
            self.state[t].update(state)
        if not has_large and new._kind is t._kind.gradient and writing.stands_alone(t):
            writing.assign_alone(t, new, end)
        else:
            writing.assign(t, new)

    def _is_followed(self, tape: Tape) -> bool:
        """Whether a function is recorded that takes this step, and a program can take it."""
        watch = tape.watch
        if watch is None:
            return False
        groups = [{**group} for group in self.param_groups]
        options = [option for group in groups for value in group.values() for option in _each(value)]
        for state in self.state.values():
            _settle(state)
        if self._before or self._after:
            watch.fail("has an optimiser with hooks take a step")
        elif any(getattr(state, "is_seen", False) for state in self.state.values()):
            watch.fail("has an optimiser take a step whose counters are held")
        elif not type(self).__module__.startswith("tapegrad.") or any(isinstance(x, Tensor) for x in options):
            watch.fail("has an optimiser take a step that is not followed")
        return watch.asks(self)

    def rates(self) -> list[Any]:
        """The learning rates."""
        return [{**group}["lr"] for group in self.param_groups]

    def found(self, watch: Any, options: Options, name: str) -> Any:
        """What a function that is recorded is given of a group: its rate is found at each call, others are guarded."""
        group = options.plain()
        if name == "params" or not watch.asks(self) or name != "lr":
            return group[name]
        i = next((i for i, known in enumerate(self.param_groups) if known is options), None)
        if i is None:
            watch.fail("reads the rate of a group that its optimiser does not have")
            return group[name]
        return watch.finds((id(self), i), functools.partial(self._rate, i), group[name])

    def _rate(self, i: int) -> Any:
        return self.param_groups[i]["lr"]

    def _kept(self, t: Tensor, name: str) -> Any:
        return dict.__getitem__(self.state[t], name)

    def _keep(self, t: Tensor, name: str, value: Any) -> None:
        self.state[t][name] = value

    def choices(self, with_numbers: bool) -> Any:
        """What a step depends on, but for tensors; learning rates and numbers of the state, if they are asked for."""
        groups = [
            (
                [*map(id, group["params"])], group["lr"] if with_numbers else type(group["lr"]),
                {name: value for name, value in group.items() if name not in ("params", "lr")},
            )
            for group in map(dict, self.param_groups)
        ]  # fmt: skip
        states = [(t, state) for t, state in self.state.items() if state]
        for _, state in states:
            _settle(state)
        kept = [(id(t), [(name, type(value)) for name, value in dict.items(state)]) for t, state in states]
        return bool(self._before or self._after), groups, kept

    _of_states: Callable[..., State] = dict
    alike = False  # whether a formula does with all parameters of a group, matrices or vectors, the same
    numbered: Mapping[str, None] = MappingProxyType({"lr": None})  # options that it has as numbers
    _traces: dict[Any, Traced]  # what that comes to
    has_stepped = False  # ever
    step_found: Any = None  # one of its own in the place of its class's, where a schedule was made last
    _is_stepping = False  # with hooks around it
    _has_lazy = False  # whether some parameters were yet to be made when last looked at
    _at_states = dict.fromkeys(_MOMENTS, _Hooks())
    _before = _after = _Hooks()  # of one that was made without `__init__`, as some that stand around others are

    def _update_of(self, alike: _Alike) -> tuple[Traced, Any, State]:
        """What native code does in a step, its numbers, and what numbers of the state become.

        Raises NotTracedError. One that is `alike` has `numbers` and a `formula`: see `methods.py`.
        """
        method: Any = self
        group, state = alike.group, dict(alike.numbers)
        try:
            numbers = tuple([float(x) for x in method.numbers(group, state)])
        except TypeError as error:  # a counter that someone holds is a tensor
            raise NotTracedError from error
        if len(state) != len(alike.numbers):
            raise NotTracedError
        options, key = {**group, **self.numbered}, (alike.place, alike.dtype, len(numbers), *alike.tensors)
        known = self._traces.get(key)
        if known is None or known.options != options:
            known = self._traces[key] = Traced(method.formula, options, alike.tensors, alike.dtype, len(numbers))
        return known, known.numbers_of(numbers), state

    def update(self, group: Group, p: Tensor, g: Tensor, state: State) -> Tensor:
        """What a parameter becomes, a new Tensor, by its gradient; what its state becomes is entered there."""
        raise NotImplementedError

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have `hook(optimizer, args, kwargs)` called before each step; it gives None, or others of these two."""
        return add(self._before, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Have `hook(optimizer, args, kwargs)` called after each step."""
        return add(self._after, hook)

    # --- to be kept ---------------------------------------------------------------------------------------------------

    def _register(self, moment: str, hook: Callable[..., Any], prepend: bool) -> RemovableHandle:
        return added(self._at_states[moment], hook, prepend)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Have `hook(optimizer)` called before `state_dict` looks."""
        return self._register("before it is told", hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Have `hook(optimizer, state_dict)` called on what `state_dict` gives; it gives None, or another."""
        return self._register("after it was told", hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Have `hook(optimizer, state_dict)` called before one is loaded; it gives None, or another."""
        return self._register("before it is loaded", hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Have `hook(optimizer)` called after one was loaded."""
        return self._register("after it was loaded", hook, prepend)

    def _hooked(self, moment: str, *state: Any) -> Any:
        """The state, as hooks leave it."""
        for hook in list(self._at_states[moment].values()):
            given = hook(self, *state)
            state = (given,) if state and given is not None else state
        return state[0] if state else None

    def state_dict(self) -> dict[str, Any]:
        """State and options, with numbers in the place of parameters."""
        self._hooked("before it is told")
        places: dict[int, int] = {}
        for i, t in enumerate(t for group in self.param_groups for t in group["params"]):
            places.setdefault(id(t), i)
        groups = [
            {name: value for name, value in group.items() if name != "params"}
            | {"params": [places[id(t)] for t in group["params"]]}
            for group in self.param_groups
        ]
        states = {places[id(t)]: _shown(of) for t, of in self.state.items()}
        found: dict[str, Any] = self._hooked("after it was told", {"state": states, "param_groups": groups})
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave.

        Raises
        ------
        ValueError
            Where it is of other groups.
        """
        state_dict = self._hooked("before it is loaded", dict(state_dict))
        groups = state_dict["param_groups"]
        if len(groups) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(a["params"]) != len(b["params"]) for a, b in zip(groups, self.param_groups, strict=True)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's group"
            )
        of_place: dict[int, Tensor] = {}
        for given, group in zip(groups, self.param_groups, strict=True):
            of_place |= dict(zip(given["params"], group["params"], strict=True))
            group |= {name: copy.deepcopy(value) for name, value in given.items() if name != "params"}
        self.state = defaultdict(self._of_states)
        for place, state in state_dict["state"].items():
            t = of_place[place]
            self.state[t] = self._of_states({name: fitting(name, value, t) for name, value in state.items()})
        self._hooked("after it was loaded")

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": dict(self.state), "param_groups": [*map(dict, self.param_groups)]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        states = {t: self._of_states(of) for t, of in state["state"].items()}
        vars(self).update(state, state=defaultdict(self._of_states, states), _before=_Hooks(), _after=_Hooks())
        self._at_states, self._traces = {moment: _Hooks() for moment in _MOMENTS}, {}
        self.param_groups = [Options(self, group) for group in state["param_groups"]]

    def __repr__(self) -> str:
        groups = []
        for i, group in enumerate(self.param_groups):
            lines = [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
            groups.append("\n".join([f"Parameter Group {i}", *lines, ""]))
        return f"{type(self).__name__} (\n" + "\n".join(groups) + ")"


class _Alike:
    """Small parameters of a group that are updated alike: their states have the same names and numbers."""

    __slots__ = ("dtype", "group", "handles", "members", "numbers", "place", "tensors")

    def __init__(self, place: int, group: Group, t: Tensor, gradient: Tensor, known: State) -> None:
        self.place, self.group, self.members = place, group, [(t, gradient, known)]
        tensors, numbers, handles = [], [], [t, gradient]
        for name, value in dict.items(known):
            if value.__class__ is Tensor:
                tensors.append(name)
                handles.append(value)
            else:
                numbers.append((name, value))
        self.dtype, self.tensors, self.numbers, self.handles = t._kind.dtype, tensors, numbers, handles

    def takes(self, t: Tensor, gradient: Tensor, known: State) -> bool:
        """Have a parameter among these, if it is one."""
        kind, tensors, numbers = t._kind, self.tensors, self.numbers
        if kind.is_large or kind.dtype is not self.dtype or len(known) != len(tensors) + len(numbers):
            return False
        for name, value in numbers:
            other = _get(known, name)
            if other.__class__ is not value.__class__ or other != value:
                return False
        self.handles += [t, gradient, *[_get(known, name) for name in tensors]]  # what is none is refused
        self.members.append((t, gradient, known))
        return True

    def updated(self, method: Optimizer, tape: Tape) -> list[_Member]:
        """Update them in native code, and return those that are left to Python."""
        try:
            update, numbers, state = method._update_of(self)
        except NotTracedError:
            return self.members
        left, members, handles, width = list[_Member](), self.members, self.handles, 2 + len(self.tensors)
        done, is_computed = 0, False
        while done < len(members):
            n = update_all[0](handles, numbers, update.address)
            if state:
                for _, _, known in members[done : done + n]:
                    known.update(state)
            done += n
            if done == len(members):
                break
            del handles[: n * width]
            if is_computed:
                left.append(members[done])
                done += 1
                del handles[:width]
                continue
            is_computed = True
            with tape.lock:
                engine.run(tape, [t._slot for t in handles if t.__class__ is Tensor and t._tape is tape])
        return left


def _stepped(step: Callable[..., Any], self: Optimizer, args: tuple[Any, ...], facts: dict[str, Any]) -> Any:
    """Take a step, with hooks around it. As PyTorch's, they are given the optimiser twice: it is the first of args."""
    args = (self, *args)
    for hook in list(self._before.values()):
        given = hook(self, args, facts)
        if given is not None:
            if not isinstance(given, tuple) or len(given) != 2:
                raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {given}.")
            args, facts = given
    self._is_stepping = True
    try:
        result = step(*args, **facts)
    finally:
        del self._is_stepping
    for hook in list(self._after.values()):
        hook(self, args, facts)
    return result


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def taken(self: Any, *args: Any, **facts: Any) -> Any:
        self.has_stepped = True
        if self._is_stepping or not (self._before or self._after):
            return step(self, *args, **facts)
        return _stepped(step, self, args, facts)

    return taken


def _shown(state: State) -> State:
    """A state as PyTorch has it."""
    return {name: shown(name, x) for name, x in dict.items(state)} if isinstance(state, Counted) else {**state}


def _settle(state: State) -> None:
    """Have counters be numbers, where nobody holds them."""
    if isinstance(state, Counted) and state.is_seen:
        state.settle()


def _each(option: Any) -> Any:
    return option if isinstance(option, tuple) else (option,)


Params = Iterable[Any]
__all__ = ["Group", "Optimizer", "Params", "State"]
