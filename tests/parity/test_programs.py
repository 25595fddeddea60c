"""Random programs of views, writes in place, other graphs on the same elements, and gradients: PyTorch, line by line.

A program is drawn from its seed. Both libraries run it a line at a time, on the same names. After each line (or, in
every other program, at the end alone, so that nobody has looked in between) all tensors agree in values, requires_grad,
is_leaf and grad. A line that PyTorch refuses is refused here too, but for what a tape of single assignments need not
refuse.
"""

from __future__ import annotations

import random
import warnings
from typing import Any

import numpy as np
import pytest

import tapegrad

from .oracle import kind, torch

# What PyTorch refuses since it has written over what a gradient needs, or would write over what it reads, or since its
# gradient of a sum has one element in memory, or its results keep the strides of operands.
NOT_REFUSED_HERE = (
    "modified by an inplace operation",
    "some elements of the input tensor and the written-to tensor refer to a single memory location",
    "more than one element of the written-to tensor refers to a single memory location",
    "view size is not compatible with input tensor's size and stride",
    "A view was created in no_grad mode",  # so are some of its gradients
)
# What is refused here: another shape for a computed tensor; for other strides than PyTorch's results have; and what
# PyTorch warns of, since one element would have several values.
REFUSED_HERE = (
    "data set to a computed tensor must have its shape and dtype",
    "view size is not compatible",
    "more than one element of the written-to tensor refers to a single memory location",
)
SHAPES = [(3,), (2, 3), (3, 2), (1, 3), (), (4,)]

VIEWS = """
a[1:]; a[0]; a[..., ::2]; a[None]; a[-1]; a[...]; a.T; a.view(-1); a.reshape(-1); a.unsqueeze(0); a.squeeze(); a.mT
a.permute(1, 0); a.transpose(0, 1); a.diagonal(); a.flatten(); a.view(a.shape); a[:, 1:]; a[:, 0]
a.view(3, 2); a.T.view(-1); a.expand(2, 3); a[1:][0]; a.T[0]; a.select(0, 0); a.t(); a.expand(3)
"""
RESULTS = """
a * b; a + b; a - 0.5; a * 2; a.sin(); a.clone(); a.sum(); a * a; a.exp(); (a * b).sum(); a.T * 2; a.sum(0); -a; a / 3
a.repeat(2); a.repeat(1); a[[0, 1]]; tg.stack([a, a]); tg.cat([a, a]); a @ b; a.mean(); tg.where(a > 0, a, b)
a.contiguous(); a.square(); tg.maximum(a, b)
"""
UNTRACKED = "a.detach(); a.data; a.detach().T; a.detach()[0]; a.data.view(-1)"
LEAVES = "a.detach().clone().requires_grad_(); a.detach().clone()"
WRITES = """
a.add_(0.5); a.mul_(2); a.mul_(b); a.add_(b); a.sub_(b, alpha=2); a.sin_(); a.zero_(); a.fill_(0.5); a.copy_(b)
a[0] = 1; a[0] = b; a[...] = b; a[1:] = 0.5; a[:, 0] = b; a.T[0] = 2; a[0].mul_(b); a[1:].add_(b); a.neg_(); a.square_()
a.data.mul_(2); a.detach().add_(b); a.data[0] = 3; a.data.copy_(b); a.view(-1).mul_(3); a.masked_fill_(a > 0, 0.25)
a.clamp_(-1, 1); a.exp_(); a.div_(b); a.fill_(b); a[[0, 1]] = 0.5; a[a > 0] = 1.5; a.data.add_(b); a.T.mul_(b)
a.detach().zero_(); a[0, 1:] = b; a.unsqueeze(0).mul_(b); a.diagonal().zero_(); a.detach().T.add_(1)
"""
IN_PLACE_OPERATORS = "a += b; a *= 0.5; a -= 1; a *= b; a /= 2"
GRADIENTS = """
a.sum().backward({keep}); (a * a).sum().backward({keep}); a.backward({keep}); (a * b).sum().backward({keep})
a.sum().backward({keep}inputs=[b]); (a * b).sum().backward({keep}inputs=[b]); a.backward(tg.ones_like(a), {keep})
"""
TAKEN = """
tg.autograd.grad((a * 1.5).sum(), b, {keep})[0]; tg.autograd.grad((a * 1.5).sum(), b, {keep}allow_unused=True)[0]
tg.autograd.grad((a * a).sum(), a, {keep})[0]; tg.autograd.grad((a * b).sum(), [a, b], {keep}allow_unused=True)[1]
"""
GRADS = """
a.grad = None; a.grad = b.detach().clone(); a.grad = b.detach(); a.grad.zero_(); a.grad.mul_(2); a.grad = b
a.grad.add_(b.detach())
"""
NUMPY = "a.detach().numpy().__imul__(2); a.detach().numpy().__setitem__(Ellipsis, 0.5); a.data.numpy().__iadd__(1)"
OTHERS = "a.data = b; a.data = b.detach().clone(); a.data = a.data * 2; del a"


def lines_of(text: str) -> list[str]:
    return text.strip().replace("\n", "; ").split("; ")


def program(seed: int, length: int = 14) -> list[str]:
    """The lines of a program."""
    rng = random.Random(seed)
    names: list[str] = []
    views: set[str] = set()
    lines: list[str] = []

    def fresh() -> str:
        names.append(f"t{len(lines)}")
        return names[-1]

    for _ in range(3):
        shape = rng.choice(SHAPES[:4] if rng.random() < 0.8 else SHAPES)
        values = [round(rng.uniform(-2, 2), 2) for _ in range(int(np.prod(shape)))]
        active = ", requires_grad=True" if rng.random() < 0.7 else ""
        lines.append(f"{fresh()} = tg.tensor({np.reshape(values, shape).tolist()}{active})")
    kinds = [
        (VIEWS, 22, True), (RESULTS, 22, True), (UNTRACKED, 7, True), (LEAVES, 4, True), (WRITES, 26, False),
        (IN_PLACE_OPERATORS, 5, False), (GRADIENTS, 8, False), (TAKEN, 6, True), (GRADS, 4, False), (NUMPY, 2, False),
        (OTHERS, 3, False),
    ]  # fmt: skip
    for _ in range(length):
        text, _, names_it = rng.choices(kinds, [weight for _, weight, _ in kinds])[0]
        line = rng.choice(lines_of(text))
        a, b = (rng.choice(names[-5:] if rng.random() < 0.7 else names) for _ in range(2))
        keep = rng.choice(["", "retain_graph=True, ", "create_graph=True, "])
        line = line.replace("{keep}", keep)
        for letter, name in ("a", a), ("b", b):
            line = _named(line, letter, name)
        if line.startswith("del "):
            names.remove(a)
            if len(names) < 2:
                names.append(a)
                continue
        if ".data =" in line and a in views:  # to PyTorch it goes on to be a view of what it was
            continue
        unrecorded = text in (WRITES, IN_PLACE_OPERATORS, RESULTS) and rng.random() < 0.2
        if names_it:
            line = f"{fresh()} = {line}"
            if text == VIEWS:
                views.add(names[-1])
        lines.append(f"with tg.no_grad(): {line}" if unrecorded else line)
    return lines


def _named(line: str, letter: str, name: str) -> str:
    """A name in the place of a letter that stands alone."""
    padded = f" {line} "
    found = []
    for before, here, after in zip(padded, padded[1:], padded[2:], strict=False):
        alone = here == letter and not (before.isalnum() or before in "_.") and not (after.isalnum() or after == "_")
        found.append(name if alone else here)
    return "".join(found)


def run_line(library: Any, line: str, names: dict[str, Any]) -> Exception | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(line, {"tg": library}, names)
    except Exception as error:
        return error
    return None


def facts(value: Any) -> Any:
    grad = value.grad if value.is_leaf else None
    return value.detach().numpy().copy(), value.requires_grad, value.is_leaf, grad


def differ(name: str, theirs: Any, ours: Any) -> str | None:
    """How a name differs."""
    if not isinstance(theirs, torch.Tensor):
        return None if type(theirs) is type(ours) else f"{name}: {theirs!r} {ours!r}"
    expected, got = facts(theirs), facts(ours)
    if expected[0].shape != got[0].shape or not np.allclose(expected[0], got[0], rtol=1e-9, atol=1e-12, equal_nan=True):
        return f"{name}: values {expected[0]}, here {got[0]}"
    if expected[1:3] != got[1:3]:
        return f"{name}: requires_grad, is_leaf {expected[1:3]}, here {got[1:3]}"
    if (expected[3] is None) != (got[3] is None):
        return f"{name}: grad {expected[3]}, here {got[3]}"
    return None if expected[3] is None else differ(f"{name}.grad", expected[3], got[3])


def check(seed: int) -> None:
    """Run a program with both."""
    theirs: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    told: list[str] = []
    for line in program(seed):
        is_sweep = "ackward" in line or "autograd" in line
        if is_sweep and any(".data" in before or "numpy()" in before for before in told):
            break  # PyTorch's gradients may read what was written so
        expected = run_line(torch, line, theirs)
        if expected is not None and any(phrase in str(expected) for phrase in NOT_REFUSED_HERE):
            if is_sweep:
                return  # some of its gradients may be there
            continue
        told.append(line)
        got = run_line(tapegrad, line, ours)
        if expected is None and any(phrase in str(got) for phrase in REFUSED_HERE):
            return
        if (expected is None) != (got is None) or not (expected is None or isinstance(got, kind(expected))):
            raise AssertionError("\n".join([*told, f"PyTorch: {expected!r}", f"here: {got!r}"]))
        if isinstance(expected, IndexError) or (expected is not None and is_sweep):
            return  # PyTorch may have done half of it
        if any(value is None for value in theirs.values()):
            break
        if seed % 2:
            agree(told, theirs, ours)
    agree(told, theirs, ours)


def agree(told: list[str], theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    found = [difference for name in theirs if (difference := differ(name, theirs[name], ours[name]))]
    assert not found, "\n".join([*told, *found])


@pytest.mark.parametrize("seed", range(150))
def test_random_programs(seed: int):
    check(seed)
