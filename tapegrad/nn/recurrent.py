"""Recurrent layers: a cell's formula, along time, in layers, in both directions."""

from __future__ import annotations

import math
from typing import Any

from tapegrad import creation
from tapegrad.functions.shaping import functions as shaping
from tapegrad.nn import functional as F  # noqa: N812 (as everybody calls it)
from tapegrad.nn import init
from tapegrad.nn.layers import parameter
from tapegrad.nn.module import Module
from tapegrad.tensor import Tensor

_cat: Any = shaping["cat"]
_stack: Any = shaping["stack"]
State = tuple[Tensor, ...]


def _gates(x: Tensor, h: Tensor, w: Tensor, u: Tensor, b: Any, c: Any) -> tuple[Tensor, Tensor]:
    """What a cell makes of its input, and of its state, before they are joined."""
    return F.linear(x, w, b), F.linear(h, u, c)


def _elman(x: Tensor, state: State, nonlinearity: str, *weights: Any) -> State:
    """Elman's cell: `tanh(W x + b + U h + c)`."""
    p, q = _gates(x, state[0], *weights)
    return (getattr(p + q, nonlinearity)(),)


def _lstm(x: Tensor, state: State, nonlinearity: str, *weights: Any) -> State:
    """The cell of Hochreiter and Schmidhuber (1997): gates i, f, o, and g that is written."""
    del nonlinearity
    p, q = _gates(x, state[0], *weights)
    i, f, g, o = (p + q).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: Tensor, state: State, nonlinearity: str, *weights: Any) -> State:
    """The cell of Cho et al. (2014): gates r, z, and n that is new."""
    del nonlinearity
    p, q = _gates(x, state[0], *weights)
    (r, z, n), (r_h, z_h, n_h) = p.chunk(3, -1), q.chunk(3, -1)
    r, z = (r + r_h).sigmoid(), (z + z_h).sigmoid()
    n = (n + r * n_h).tanh()
    return (n + z * (state[0] - n),)


class _Recurrent(Module):
    cell = staticmethod(_elman)
    n_gates, n_states = 1, 1
    nonlinearity = "tanh"

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        del device
        super().__init__()
        if proj_size:
            raise NotImplementedError("proj_size: projections of the state are not there; put a Linear behind it")
        if not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        self.input_size, self.hidden_size, self.num_layers, self.bias = input_size, hidden_size, num_layers, bias
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        n = self.n_gates * hidden_size
        for layer in range(num_layers):
            size = input_size if layer == 0 else hidden_size * (1 + bidirectional)
            for suffix in self._suffixes(layer):
                self.register_parameter(f"weight_ih_{suffix}", parameter(n, size, dtype=dtype))
                self.register_parameter(f"weight_hh_{suffix}", parameter(n, hidden_size, dtype=dtype))
                if bias:
                    self.register_parameter(f"bias_ih_{suffix}", parameter(n, dtype=dtype))
                    self.register_parameter(f"bias_hh_{suffix}", parameter(n, dtype=dtype))
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]

    def reset_parameters(self) -> None:
        """Draw values anew: uniform, within `1 / sqrt(hidden_size)`."""
        bound = 1 / math.sqrt(self.hidden_size)
        for t in self.parameters():
            init.uniform_(t, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: for programs that say so."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """(outputs of the last layer, states at the end); of [time, batch, features], or as `batch_first` says."""
        if input.ndim not in (2, 3):
            raise RuntimeError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}"
            )
        is_batch = input.ndim == 3
        x = input if is_batch else input.unsqueeze(1)
        x = x.transpose(0, 1) if is_batch and self.batch_first else x
        directions = 1 + self.bidirectional
        states = self._states(hx, x, is_batch, self.num_layers * directions)
        steps = list(x.unbind(0))
        ends: list[State] = []
        for layer in range(self.num_layers):
            sides = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                state = tuple(s[layer * directions + direction] for s in states)
                weights = [getattr(self, f"{name}_{suffix}") for name in ("weight_ih", "weight_hh")]
                biases = [getattr(self, f"{name}_{suffix}") if self.bias else None for name in ("bias_ih", "bias_hh")]
                made = []
                for step in reversed(steps) if direction else steps:
                    state = type(self).cell(step, state, self.nonlinearity, *weights, *biases)
                    made.append(state[0])
                ends.append(state)
                sides.append(made[::-1] if direction else made)
            steps = [_cat(pair, -1) for pair in zip(*sides, strict=True)] if directions == 2 else sides[0]
            if self.dropout and self.training and layer < self.num_layers - 1:
                steps = [F.dropout(step, self.dropout) for step in steps]
        output = _stack(steps)
        final = [_stack([end[k] for end in ends]) for k in range(self.n_states)]
        if not is_batch:
            output, final = output.squeeze(1), [s.squeeze(1) for s in final]
        elif self.batch_first:
            output = output.transpose(0, 1)
        return output, final[0] if self.n_states == 1 else tuple(final)

    def _states(self, hx: Any, x: Tensor, is_batch: bool, n: int) -> State:
        """The states to begin with, each [layers and directions, batch, features]."""
        shape = (n, x.shape[1], self.hidden_size)
        if hx is None:
            return tuple(creation.zeros(*shape, dtype=x.dtype) for _ in range(self.n_states))
        given = tuple(hx) if self.n_states > 1 else (hx,)
        given = given if is_batch else tuple(s.unsqueeze(1) for s in given)
        for s in given:
            if tuple(s.shape) != shape:
                raise RuntimeError(f"Expected hidden size {shape}, got {list(s.shape)}")
        return given

    def extra_repr(self) -> str:
        """See `Module`."""
        text = f"{self.input_size}, {self.hidden_size}"
        if self.num_layers != 1:
            text += f", num_layers={self.num_layers}"
        if not self.bias:
            text += ", bias=False"
        if self.batch_first:
            text += ", batch_first=True"
        if self.dropout:
            text += f", dropout={self.dropout}"
        return f"{text}, bidirectional=True" if self.bidirectional else text


class RNN(_Recurrent):
    """Elman's network: `h = tanh(W x + b + U h + c)`, or relu for tanh.

    >>> import tapegrad as tg
    >>> outputs, state = tg.nn.RNN(3, 5)(tg.ones(7, 2, 3))
    >>> outputs.shape, state.shape
    (tapegrad.Size([7, 2, 5]), tapegrad.Size([1, 2, 5]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )
        self.nonlinearity = nonlinearity


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); its states are a pair, h and c."""

    cell = staticmethod(_lstm)
    n_gates, n_states = 4, 2


class GRU(_Recurrent):
    """Gated recurrent units (Cho et al. 2014)."""

    cell = staticmethod(_gru)
    n_gates = 3


class _Cell(Module):
    formula = staticmethod(_elman)
    n_gates, n_states = 1, 1
    nonlinearity = "tanh"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        del device
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        n = self.n_gates * hidden_size
        self.weight_ih, self.weight_hh = parameter(n, input_size, dtype=dtype), parameter(n, hidden_size, dtype=dtype)
        self.register_parameter("bias_ih", parameter(n, dtype=dtype) if bias else None)
        self.register_parameter("bias_hh", parameter(n, dtype=dtype) if bias else None)
        for t in self.parameters():
            init.uniform_(t, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The state after one step, of [batch, features] or [features]."""
        if input.ndim not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if hx is None:
            shape = (*input.shape[:-1], self.hidden_size)
            state: State = tuple(creation.zeros(*shape, dtype=input.dtype) for _ in range(self.n_states))
        else:
            state = tuple(hx) if self.n_states > 1 else (hx,)
        made = type(self).formula(
            input, state, self.nonlinearity, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        )
        return made[0] if self.n_states == 1 else made

    def extra_repr(self) -> str:
        """See `Module`."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """One step of `RNN`."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = nonlinearity


class LSTMCell(_Cell):
    """One step of `LSTM`: its state is a pair."""

    formula = staticmethod(_lstm)
    n_gates, n_states = 4, 2


class GRUCell(_Cell):
    """One step of `GRU`."""

    formula = staticmethod(_gru)
    n_gates = 3


__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]
