"""L-BFGS (Liu and Nocedal 1989), with steps of one length, or to a point that satisfies the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tapegrad import creation, writing
from tapegrad.optim.optimizer import Group, Optimizer
from tapegrad.tape import current_tape, in_grad_mode


class _Point(NamedTuple):
    """A place on the line x + t d: the loss there, its gradient, and its derivative along the line."""

    t: float
    loss: float
    gradient: np.ndarray
    slope: float


def _least_of_cubic(p: _Point, q: _Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic with the losses and slopes of two points is least, within bounds (Nocedal and Wright, 3.59)."""
    low, high = bounds or (min(p.t, q.t), max(p.t, q.t))
    d1 = p.slope + q.slope - 3 * (p.loss - q.loss) / (p.t - q.t)
    square = d1 * d1 - p.slope * q.slope
    if square < 0:
        return (low + high) / 2
    d2 = math.sqrt(square)
    if p.t > q.t:
        p, q = q, p
    t = q.t - (q.t - p.t) * ((q.slope + d2 - d1) / (q.slope - p.slope + 2 * d2))
    return min(max(t, low), high)


def _strong_wolfe(
    at: Callable[[float], _Point], start: _Point, t: float, largest: float, most: int, c1: float = 1e-4,
    c2: float = 0.9, least_change: float = 1e-9,
) -> tuple[_Point, int]:  # fmt: skip
    """A point with enough decrease and little slope, and how often the loss was computed (ibidem, 3.5)."""

    def rises(p: _Point) -> bool:
        return p.loss > start.loss + c1 * p.t * start.slope

    def is_flat(p: _Point) -> bool:
        return abs(p.slope) <= -c2 * start.slope

    # Go on until a minimum lies between two points.
    point, before, n, done = at(t), start, 0, False
    while n < most:
        if rises(point) or (n > 1 and point.loss >= before.loss):
            break
        if is_flat(point):
            done = True
            break
        if point.slope >= 0:
            break
        t = _least_of_cubic(before, point, (point.t + 0.01 * (point.t - before.t), point.t * 10))
        before, point, n = point, at(t), n + 1
    else:
        before = start
    if done:
        return point, n + 1
    ends = [before, point]

    # Come closer to it from both sides.
    low, stalls = (0, False) if ends[0].loss <= ends[1].loss else (1, False)
    while n < most and abs(ends[1].t - ends[0].t) * largest >= least_change:
        t = _least_of_cubic(ends[0], ends[1])
        first, last = min(ends[0].t, ends[1].t), max(ends[0].t, ends[1].t)
        margin = 0.1 * (last - first)
        if min(last - t, t - first) < margin:
            if stalls or t >= last or t <= first:
                t, stalls = last - margin if abs(t - last) < abs(t - first) else first + margin, False
            else:
                stalls = True
        else:
            stalls = False
        point, n = at(t), n + 1
        if rises(point) or point.loss >= ends[low].loss:
            ends[1 - low] = point
            low = 0 if ends[0].loss <= ends[1].loss else 1
            continue
        flat = is_flat(point)
        if not flat and point.slope * (ends[1 - low].t - ends[low].t) >= 0:
            ends[1 - low] = ends[low]
        ends[low] = point
        if flat:
            break
    return ends[low], n + 1


class LBFGS(Optimizer):
    """L-BFGS; `step` needs a closure, which it calls several times.

    Parameters
    ----------
    params : iterable of Tensor
        What is optimised; there is one group only.
    lr : float
        The length of steps, of which the line search begins with one.
    max_iter : int
        Iterations a step.
    max_eval : int
        Calls of the closure a step: by default 5/4 of `max_iter`.
    history_size : int
        Pairs that the Hessian is made of.
    tolerance_grad : float
        The largest gradient with which a step ends.
    tolerance_change : float
        The largest change of parameters, and of the loss, with which a step ends.
    line_search_fn : str, optional
        "strong_wolfe"; by default steps are of length `lr`.

    >>> import tapegrad as tg
    >>> x = tg.tensor([-1.0, 2.0], requires_grad=True)
    >>> optimizer = tg.optim.LBFGS([x], line_search_fn="strong_wolfe", max_iter=50)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2
    ...     loss.backward()
    ...     return loss
    >>> _ = optimizer.step(closure)
    >>> x
    tensor([1.0000, 1.0000], requires_grad=True)
    """

    def __init__(
        self, params: Any, lr: Any = 1, max_iter: int = 20, max_eval: int | None = None, tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9, history_size: int = 100, line_search_fn: str | None = None,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        }  # fmt: skip
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        if line_search_fn not in (None, "strong_wolfe"):
            raise RuntimeError(f"only 'strong_wolfe' is supported, but line_search_fn is {line_search_fn!r}")

    def check(self, options: Group) -> None:
        """See `Optimizer`."""
        super().check(options)
        if not options["lr"] >= 0:
            raise ValueError(f"Invalid learning rate: {options['lr']}")

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make up to `max_iter` iterations; returns the loss before."""
        if closure is None:
            raise TypeError("LBFGS.step() missing 1 required positional argument: 'closure'")
        tape = current_tape()
        if tape.watch is not None:
            tape.watch.fail("has an optimiser take a step")
        return in_grad_mode(tape, False, self._iterate, closure)

    def _gathered(self) -> np.ndarray:
        """The gradients, as one vector."""
        return np.concatenate(
            [
                np.zeros(t.numel(), t.dtype.numpy) if t.grad is None else t.grad._array().reshape(-1).copy()
                for t in self.param_groups[0]["params"]
            ]
        )

    def _values(self) -> list[np.ndarray]:
        return [t.detach()._array().copy() for t in self.param_groups[0]["params"]]

    def _move(self, start: list[np.ndarray], t: float, d: np.ndarray) -> None:
        """Set the parameters to start + t d."""
        at = 0
        for p, of in zip(self.param_groups[0]["params"], start, strict=True):
            along = d[at : at + of.size].reshape(of.shape)
            writing.assign(p, creation.tensor((of + of.dtype.type(t) * along).astype(of.dtype), dtype=p.dtype))
            at += of.size

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group, state = self.param_groups[0], self.state[self.param_groups[0]["params"][0]]

        def called() -> Any:
            state["func_evals"] = state.get("func_evals", 0) + 1
            return in_grad_mode(current_tape(), True, closure)

        first = called()
        loss, g, n_calls = float(first), self._gathered(), 1
        state.setdefault("n_iter", 0)
        if np.abs(g).max() <= group["tolerance_grad"]:
            return first
        d, t = state.get("d"), state.get("t")
        steps, changes, scale = state.get("old_stps", []), state.get("old_dirs", []), state.get("H_diag", 1.0)
        before, loss_before = state.get("prev_flat_grad"), loss
        for n in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            if state["n_iter"] == 1:
                d, t = -g, float(group["lr"]) / max(1.0, float(np.abs(g).sum()))
            else:
                y, s = g - before, d * g.dtype.type(t)
                if (ys := float(y @ s)) > 1e-10:
                    steps, changes = ([*old, new][-group["history_size"] :] for old, new in ((steps, s), (changes, y)))
                    scale = ys / float(y @ y)
                d, t = _direction(g, steps, changes, scale), float(group["lr"])
            before, loss_before = g, loss
            slope = float(g @ d)
            if slope > -group["tolerance_change"]:
                break
            start = self._values()
            if group["line_search_fn"]:
                point, calls = self._searched(
                    called, start, d, _Point(0.0, loss, g, slope), t, group["max_eval"] - n_calls
                )
                t, loss, g = point.t, point.loss, point.gradient
                self._move(start, t, d)
            else:
                self._move(start, t, d)
                calls = 0
                if n != group["max_iter"]:
                    loss, g, calls = float(called()), self._gathered(), 1
            n_calls += calls
            if (
                n_calls >= group["max_eval"]
                or np.abs(g).max() <= group["tolerance_grad"]
                or np.abs(d * t).max() <= group["tolerance_change"]
                or abs(loss - loss_before) < group["tolerance_change"]
            ):
                break
        state |= {
            "d": d, "t": t, "old_stps": steps, "old_dirs": changes, "H_diag": scale, "prev_flat_grad": before,
            "prev_loss": loss_before,
        }  # fmt: skip
        return first

    def _searched(
        self, called: Callable[[], Any], start: list[np.ndarray], d: np.ndarray, at_start: _Point, t: float, most: int
    ) -> tuple[_Point, int]:
        """The point that the line search finds, and the calls that it took."""

        def at(t: float) -> _Point:
            self._move(start, t, d)
            loss, g = float(called()), self._gathered()
            return _Point(t, loss, g, float(g @ d))

        return _strong_wolfe(at, at_start, t, float(np.abs(d).max()), most)


def _direction(g: np.ndarray, steps: list[np.ndarray], changes: list[np.ndarray], scale: float) -> np.ndarray:
    """The inverse Hessian times -g, by the two loops (Nocedal and Wright, algorithm 7.4)."""
    q, alphas = -g, []
    for s, y in zip(reversed(steps), reversed(changes), strict=True):
        alphas.append((s @ q) / (y @ s))
        q = q - alphas[-1] * y
    q = q * g.dtype.type(scale)
    for s, y, alpha in zip(steps, changes, reversed(alphas), strict=True):
        q = q + (alpha - (y @ q) / (y @ s)) * s
    return q
