"""Recurrent layers: a cell's formula, along time, in layers, in both directions."""

from __future__ import annotations

import math
import warnings
from typing import Any

from tapegrad import creation
from tapegrad.functions.shaping import functions as shaping
from tapegrad.nn import functional as F  # noqa: N812 (as everybody calls it)
from tapegrad.nn import init
from tapegrad.nn.functional.common import at
from tapegrad.nn.layers import parameter
from tapegrad.nn.module import Module
from tapegrad.nn.utils.rnn import PackedSequence
from tapegrad.tensor import Tensor

_cat: Any = shaping["cat"]
_stack: Any = shaping["stack"]
State = tuple[Tensor, ...]


def _draw(module: Module, hidden_size: int) -> None:
    """Draw all parameters anew: uniform, within `1 / sqrt(hidden_size)`."""
    bound = 1 / math.sqrt(hidden_size) if hidden_size else 0.0
    for t in module.parameters():
        init.uniform_(t, -bound, bound)


def _gates(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any, c: Any) -> tuple[Tensor, Tensor]:
    """What a cell makes of its input, and of its state, before they are joined."""
    return F.linear(x, w, b), F.linear(h, u, c)


def elman(x: Tensor, state: State, nonlinearity: str, *weights: Any) -> State:
    """Elman's cell: `tanh(W x + b + U h + c)`."""
    p, q = _gates(x, state[0], *weights)
    return (getattr(p + q, nonlinearity)(),)


def lstm(x: Tensor, state: State, nonlinearity: str, *weights: Any) -> State:
    """The cell of Hochreiter and Schmidhuber (1997): gates i, f, o, and g that is written."""
    del nonlinearity
    p, q = _gates(x, state[0], *weights)
    i, f, g, o = (p + q).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru(x: Tensor, state: State, nonlinearity: str, *weights: Any) -> State:
    """The cell of Cho et al. (2014): gates r, z, and n that is new."""
    del nonlinearity
    p, q = _gates(x, state[0], *weights)
    (r, z, n), (r_h, z_h, n_h) = p.chunk(3, -1), q.chunk(3, -1)
    r, z = (r + r_h).sigmoid(), (z + z_h).sigmoid()
    n = (n + r * n_h).tanh()
    return (n + z * (state[0] - n),)


def _along(cell: Any, steps: list[Tensor], start: State, is_backward: bool) -> tuple[list[Tensor], State]:
    """What a cell gives at each step, and its states behind each sequence's last.

    Steps may have ever fewer sequences, the first of those before: the states of others wait, forward at their ends,
    backward (where they come in ever more) at their beginnings.
    """
    sizes = [len(step) for step in steps]
    order = range(len(steps) - 1, -1, -1) if is_backward else range(len(steps))
    n = sizes[order[0]]
    state = tuple(s[:n] for s in start) if n < sizes[0] else start
    made: list[Any] = [None] * len(steps)
    ended: list[State] = []
    for t in order:
        if sizes[t] > n:
            joining = (s[n : sizes[t]] for s in start)
            state = tuple(_cat([s, more]) for s, more in zip(state, joining, strict=True))
        elif sizes[t] < n:
            ended.append(tuple(s[sizes[t] :] for s in state))
            state = tuple(s[: sizes[t]] for s in state)
        n = sizes[t]
        state = cell(steps[t], state)
        made[t] = state[0]
    if ended:
        state = tuple(_cat(parts) for parts in zip(state, *reversed(ended), strict=True))
    return made, state


_CELLS = {"LSTM": (lstm, 4, 2), "GRU": (gru, 3, 1), "RNN_TANH": (elman, 1, 1), "RNN_RELU": (elman, 1, 1)}


class RNNBase(Module):
    """What recurrent layers share: `mode` is "LSTM", "GRU", "RNN_TANH" or "RNN_RELU".

    >>> import tapegrad as tg
    >>> tg.nn.RNNBase("LSTM", 4, 3, num_layers=2).all_weights[0][0].shape
    tapegrad.Size([12, 4])
    """

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if mode not in _CELLS:
            raise ValueError(f"Unrecognized RNN mode: {mode}")
        given = (
            ("input_size", input_size, int), ("hidden_size", hidden_size, int), ("num_layers", num_layers, int),
            ("bias", bias, bool), ("batch_first", batch_first, bool),
        )  # fmt: skip
        for name, value, kind in given:
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
        if not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        for name, value, kind in given:
            if kind is int and value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if not 0 <= proj_size < hidden_size:
            raise ValueError(
                "proj_size has to be smaller than hidden_size"
                if proj_size > 0
                else "proj_size should be a positive integer or zero to disable projections"
            )
        if proj_size and mode != "LSTM":
            raise ValueError(f"proj_size argument is only supported for LSTM, not RNN or GRU: {type(self).__name__}")
        self.mode, self.proj_size = mode, proj_size
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        _, n_gates, _ = _CELLS[mode]
        n, width = n_gates * hidden_size, proj_size or hidden_size
        for layer in range(num_layers):
            size = input_size if layer == 0 else width * (1 + bidirectional)
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (n, size), "weight_hh": (n, width)}
                shapes |= {"bias_ih": (n,), "bias_hh": (n,)} if bias else {}
                shapes |= {"weight_hr": (proj_size, hidden_size)} if proj_size else {}
                for name, shape in shapes.items():
                    self.register_parameter(f"{name}_{suffix}", parameter(*shape, device=device, dtype=dtype))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]

    def _weights(self, suffix: str) -> list[Any]:
        names = ["weight_ih", "weight_hh", *["bias_ih", "bias_hh"] * self.bias, *["weight_hr"] * bool(self.proj_size)]
        return [getattr(self, f"{name}_{suffix}") for name in names]

    @property
    def all_weights(self) -> list[list[Any]]:
        """The parameters of each layer, in each direction."""
        return [self._weights(suffix) for layer in range(self.num_layers) for suffix in self._suffixes(layer)]

    def reset_parameters(self) -> None:
        """Draw values anew: uniform, within `1 / sqrt(hidden_size)`."""
        _draw(self, self.hidden_size)

    def flatten_parameters(self) -> None:
        """Nothing: for programs that say so."""

    def _cell(self, suffix: str) -> Any:
        """A function of a step and the states before it: the states after it."""
        formula, nonlinearity = _CELLS[self.mode][0], "relu" if self.mode == "RNN_RELU" else "tanh"
        weights = self._weights(suffix)
        project = weights.pop() if self.proj_size else None
        biases = weights[2:] or [None, None]

        def cell(step: Tensor, state: State) -> State:
            h, *others = formula(step, state, nonlinearity, *weights[:2], *biases)
            return (h if project is None else F.linear(h, project), *others)

        return cell

    def forward(self, input: Any, hx: Any = None) -> Any:
        """(outputs of the last layer, states at the end).

        `input` is [time, batch, features], or as `batch_first` says, or [time, features], or a PackedSequence.
        """
        if isinstance(input, PackedSequence):
            data, sizes, order, places = input
            self._check(data)
            hx = hx if order is None or hx is None else self._permuted(hx, order)
            made, final = self._run(list(data.split(sizes.tolist())), hx)
            final = final if places is None else [s.index_select(1, places) for s in final]
            return PackedSequence(_cat(made), sizes, order, places), self._given(final)
        if input.ndim not in (2, 3):
            said = f"{input.ndim}D tensor" if isinstance(self, RNN) else f"{input.ndim}D"
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {said} instead")
        self._check(input)
        is_batch = input.ndim == 3
        x = input if is_batch else input.unsqueeze(1)
        x = x.transpose(0, 1) if is_batch and self.batch_first else x
        if not len(x):
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if hx is not None:
            self._check_dimensions(hx, is_batch)
        if hx is not None and not is_batch:
            hx = tuple(s.unsqueeze(1) for s in hx) if self.mode == "LSTM" else hx.unsqueeze(1)
        made, final = self._run(list(x.unbind(0)), hx)
        output = _stack(made)
        if not is_batch:
            output, final = output.squeeze(1), [s.squeeze(1) for s in final]
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, self._given(final)

    def _check(self, input: Tensor) -> None:
        dtype = self.weight_ih_l0.dtype
        if input.dtype is not dtype:
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({dtype}). Convert input: "
                f"input.to({dtype}), or convert model: model.to({input.dtype})"
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )

    def _check_dimensions(self, hx: Any, is_batch: bool) -> None:
        given = tuple(hx) if self.mode == "LSTM" else (hx,)
        n = 3 if is_batch else 2
        if any(s.ndim != n for s in given):
            names, got = ("hx and cx", f"({given[0].ndim}-D, {given[-1].ndim}-D)") if len(given) > 1 else ("hx", "")
            raise RuntimeError(
                f"For {'batched' if is_batch else 'unbatched'} {n}-D input, {names} should also be {n}-D but got "
                f"{got or f'{given[0].ndim}-D'} tensor{'s' * (len(given) > 1)}"
            )

    def _permuted(self, hx: Any, order: Tensor) -> Any:
        return tuple(s.index_select(1, order) for s in hx) if self.mode == "LSTM" else hx.index_select(1, order)

    def _given(self, final: list[Tensor]) -> Any:
        return tuple(final) if self.mode == "LSTM" else final[0]

    def _run(self, steps: list[Tensor], hx: Any) -> tuple[list[Tensor], list[Tensor]]:
        """What the last layer gives at each step, and the states at the end."""
        directions = 1 + self.bidirectional
        states = self._states(hx, steps[0])
        ends: list[State] = []
        for layer in range(self.num_layers):
            sides = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                start = tuple(s[layer * directions + direction] for s in states)
                made, end = _along(self._cell(suffix), steps, start, direction == 1)
                ends.append(end)
                sides.append(made)
            steps = [_cat(pair, -1) for pair in zip(*sides, strict=True)] if directions == 2 else sides[0]
            if self.dropout and self.training and layer < self.num_layers - 1:
                steps = [F.dropout(step, self.dropout) for step in steps]
        return steps, [_stack(parts) for parts in zip(*ends, strict=True)]

    def _states(self, hx: Any, first: Tensor) -> State:
        """The states to begin with, each [layers and directions, batch, features]."""
        n, batch = self.num_layers * (1 + self.bidirectional), len(first)
        sizes = [self.proj_size or self.hidden_size, *[self.hidden_size] * (self.mode == "LSTM")]
        shapes = [(n, batch, size) for size in sizes]
        if hx is None:
            return tuple(creation.zeros(*shape, dtype=first.dtype) for shape in shapes)
        given = tuple(hx) if self.mode == "LSTM" else (hx,)
        for k, (s, shape) in enumerate(zip(given, shapes, strict=True)):
            if tuple(s.shape) != shape:
                which = f"hidden[{k}]" if self.mode == "LSTM" else "hidden"
                raise RuntimeError(f"Expected {which} size {shape}, got {list(s.shape)}")
        return given

    def extra_repr(self) -> str:
        """See `Module`."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size:
            text += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if not self.bias:
            text += ", bias=False"
        if self.batch_first:
            text += ", batch_first=True"
        if self.dropout:
            text += f", dropout={self.dropout}"
        return f"{text}, bidirectional=True" if self.bidirectional else text


class RNN(RNNBase):
    """Elman's network: `h = tanh(W x + b + U h + c)`, or relu for tanh.

    >>> import tapegrad as tg
    >>> outputs, state = tg.nn.RNN(3, 5)(tg.ones(7, 2, 3))
    >>> outputs.shape, state.shape
    (tapegrad.Size([7, 2, 5]), tapegrad.Size([1, 2, 5]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
        dtype: Any = None, *, proj_size: int = 0,
    ) -> None:  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, proj_size, device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); its states are a pair, h and c.

    With `proj_size` h is projected to so many numbers (Sak et al. 2014).

    >>> import tapegrad as tg
    >>> layer = tg.nn.LSTM(input_size=4, hidden_size=5, batch_first=True)
    >>> output, (h, c) = layer(tg.zeros(2, 7, 4))
    >>> output.shape, h.shape
    (tapegrad.Size([2, 7, 5]), tapegrad.Size([1, 2, 5]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
            dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent units (Cho et al. 2014).

    >>> import tapegrad as tg
    >>> layer = tg.nn.GRU(input_size=4, hidden_size=5)
    >>> output, h = layer(tg.zeros(7, 2, 4))
    >>> output.shape, h.shape
    (tapegrad.Size([7, 2, 5]), tapegrad.Size([1, 2, 5]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None, *,
        proj_size: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device,
            dtype,
        )  # fmt: skip


class RNNCellBase(Module):
    """What recurrent cells share.

    >>> import tapegrad as tg
    >>> isinstance(tg.nn.GRUCell(4, 3), tg.nn.RNNCellBase)
    True
    """

    formula = staticmethod(elman)
    n_gates, n_states = 1, 1
    nonlinearity = "tanh"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        n, facts = self.n_gates * hidden_size, {"device": device, "dtype": dtype}
        self.weight_ih, self.weight_hh = parameter(n, input_size, **facts), parameter(n, hidden_size, **facts)
        self.register_parameter("bias_ih", parameter(n, **facts) if bias else None)
        self.register_parameter("bias_hh", parameter(n, **facts) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw values anew: uniform, within `1 / sqrt(hidden_size)`."""
        _draw(self, self.hidden_size)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The state after one step, of [batch, features] or [features]."""
        if input.ndim not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.shape[-1]} expected {self.input_size}: {at(input)}"
            )
        if hx is None:
            shape = (*input.shape[:-1], self.hidden_size)
            state: State = tuple(creation.zeros(*shape, dtype=input.dtype) for _ in range(self.n_states))
        else:
            state = tuple(hx) if self.n_states > 1 else (hx,)
        for k, s in enumerate(state):
            self._check_state(input, s, f"hidden{k}", f"hx[{k}]" if self.n_states > 1 else "hidden")
        made = type(self).formula(
            input, state, self.nonlinearity, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        )
        return made[0] if self.n_states == 1 else made

    def _check_state(self, input: Tensor, s: Tensor, name: str, given_as: str) -> None:
        if s.ndim not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected {given_as} to be 1D or 2D, got {s.ndim}D instead")
        if s.shape[-1] != self.hidden_size:
            raise RuntimeError(
                f"{name} has inconsistent hidden_size: got {s.shape[-1]}, expected {self.hidden_size}: {at(input, s)}"
            )
        batches = [len(t) if t.ndim == 2 else 1 for t in (input, s)]
        if batches[0] != batches[1]:
            raise RuntimeError(
                f"Input batch size {batches[0]} doesn't match {name} batch size {batches[1]}: {at(input, s)}"
            )

    def extra_repr(self) -> str:
        """See `Module`."""
        text = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
        return text if self.nonlinearity == "tanh" else f"{text}, nonlinearity={self.nonlinearity}"


class RNNCell(RNNCellBase):
    """One step of `RNN`.

    >>> import tapegrad as tg
    >>> cell, h = tg.nn.RNNCell(4, 3), None
    >>> for x in tg.ones(5, 4):
    ...     h = cell(x, h)
    >>> h.shape
    tapegrad.Size([3])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity


class LSTMCell(RNNCellBase):
    """One step of `LSTM`: its state is a pair.

    >>> import tapegrad as tg
    >>> cell, state = tg.nn.LSTMCell(4, 3), None
    >>> for x in tg.ones(5, 4):
    ...     state = cell(x, state)
    >>> h, c = state
    >>> h.shape, c.shape
    (tapegrad.Size([3]), tapegrad.Size([3]))
    """

    formula = staticmethod(lstm)
    n_gates, n_states = 4, 2


class GRUCell(RNNCellBase):
    """One step of `GRU`.

    >>> import tapegrad as tg
    >>> cell, h = tg.nn.GRUCell(4, 3), None
    >>> for x in tg.ones(5, 4):
    ...     h = cell(x, h)
    >>> h.shape
    tapegrad.Size([3])
    """

    formula = staticmethod(gru)
    n_gates = 3


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNBase", "RNNCell", "RNNCellBase"]
