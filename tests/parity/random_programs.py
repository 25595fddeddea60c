"""Random programs: every kind of operation on operands of every layout, views, in-place writes, deletions, gradients.

A program is grown line by line. Each line is drawn from TEMPLATES and tried in PyTorch: it stays where PyTorch takes it
and the result is of moderate size and away from the jumps of what it was made by. So each program is one that PyTorch
runs, and tapegrad must leave the same behind: values, gradients, and gradients of gradients.

    python -m tests.parity.random_programs --count 3000 --seed 0 [--threads 8] [--slices] [--interrupts]

compares that many, and prints a digest of all that tapegrad computed: the same in every process.
"""

import argparse
import collections
import contextlib
import ctypes
import functools
import hashlib
import itertools
import random
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import tapegrad

from . import oracle

torch = oracle.torch  # or this module is skipped

# What a line may be. `x`, `y`, `z` become names of floating-point tensors, `i` of index tensors, `m` of masks, `M` of
# matrices or batches of them; `d` a dim of x, `n` a small number, `c` a constant, `S` one of x's layouts.
UNARY = """neg abs exp expm1 sin cos tan atan sinh cosh tanh sigmoid relu square sign floor ceil round asinh erf erfc
exp2""".split()
TAMED = """log(x.abs() + 0.5)|log1p(x.abs())|log2(x.abs() + 0.1)|log10(x.abs() + 0.1)|sqrt(x.abs() + 0.01)
rsqrt(x.abs() + 0.1)|reciprocal(x.abs() + 0.3)|asin(x.tanh() * 0.9)|acos(x.tanh() * 0.9)|atanh(x.tanh() * 0.9)
acosh(x.abs() + 1.1)|lgamma(x.abs() + 0.5)|digamma(x.abs() + 0.5)""".replace("\n", "|").split("|")
BINARY = """x + y|x - y|x * y|x / (y.abs() + 0.5)|tg.maximum(x, y)|tg.minimum(x, y)|tg.atan2(x, y)|(x.abs() + 0.1) ** y
tg.where(x > y, x, y * 2)|tg.where(m, x, y)|tg.remainder(x, y.abs() + 0.5)|tg.add(x, y, alpha=c)|x * c|x + c|c - x
c / (x.abs() + 0.4)|x ** 2|x ** 3|(x.abs() + 0.1) ** c|x.clamp(-0.7, 0.9)|x.clamp(min=y)|tg.lerp(x, y, c)
x.masked_fill(m, c)|tg.where(m, x, 0.0)|x * m|x.to(tg.float32).to(tg.float64) * y""".replace("\n", "|").split("|")
REDUCTIONS = """x.sum()|x.sum(d)|x.mean(d)|x.mean(d, keepdim=True)|x.var(d)|x.std(d)|x.var(d, correction=0)|x.amax(d)
x.amin(d, keepdim=True)|x.logsumexp(d)|x.prod(d)|x.norm()|x.norm(dim=d)|x.softmax(d)|x.log_softmax(d)|x.max(d).values
x.min(d)[0]|x.norm(1, dim=d)|x.norm(3, dim=d)|x.sum(d, keepdim=True)|x.norm(inf, dim=d)|tg.linalg.norm(x)
x.max(d).values""".replace("\n", "|").split("|")
LAYOUTS = """x.T|x.mT|x.transpose(d, d)|x.unsqueeze(d)|x.squeeze()|x.reshape(-1)|x.flatten()|x.view(-1)|x[0]|x[-1]|x[1:]
x[:-1]|x[::2]|x[..., 0]|x[..., 1:]|x[:, 0]|x[:, ::2]|x[None]|x.expand(2, *x.shape)|x.unsqueeze(-1).expand(*x.shape, 3)
x.movedim(0, -1)|x.repeat(2, *[1] * x.ndim)|x.narrow(d, 0, 1)|x.flip(d)|x.roll(1, d)|x.diagonal()|x.contiguous()
x.clone()|x.select(d, 0)|x.swapaxes(0, -1)|x.permute(*range(x.ndim - 1, -1, -1))|x.detach()
x.unfold(d, 2, 1)""".replace("\n", "|").split("|")
JOINS = """tg.cat([x, y], d)|tg.stack([x, y], d)|tg.cat([x, x, y])|x.chunk(2, d)[0]|x.split(1, d)[-1]|tg.hstack([x, y])
x.unbind(d)[0]|tg.stack([x, x.flip(0)])""".replace("\n", "|").split("|")
INDEXING = """x[i]|x.index_select(0, i)|x[m]|x.gather(0, tg.zeros_like(x, dtype=tg.int64))|x[i, ..., 0]|tg.take(x, i)
x.triu()|x.tril(-1)|tg.diag(x)|tg.outer(x, y)""".replace("\n", "|").split("|")
PRODUCTS = """x @ y|x @ x.mT|x.mT @ x|tg.dot(x, y)|tg.mv(x, y)|tg.mm(x, y)|tg.bmm(x, y)|x @ y.expand(3, *y.shape)
x.expand(3, *x.shape) @ y|x[..., :2] @ y[..., :2, :]|x.matmul(y)|tg.inner(x, y)|x @ y.mT|y @ x|x[:, :2] @ x[:, :2].mT
tg.addmm(x, x, y)|tg.trace(x)|tg.linalg.det(x @ x.mT + 2 * tg.eye(x.shape[-2]))
tg.linalg.inv(x @ x.mT + 3 * tg.eye(x.shape[-1]))
tg.linalg.cholesky(x @ x.mT + 2 * tg.eye(x.shape[-2]))|tg.linalg.solve(x @ x.mT + 2 * tg.eye(x.shape[-2]), y)
tg.linalg.slogdet(x @ x.mT + 2 * tg.eye(x.shape[-2]))[1]""".replace("\n", "|").split("|")
IN_PLACE = """x.add_(y)|x.mul_(y)|x.mul_(c)|x.sub_(y)|x.exp_()|x.tanh_()|x[0] = y|x[..., 0] = c|x[1:] = y|x[m] = c
x[i] = c|x.copy_(y)|x.zero_()|x.fill_(c)|x.clamp_(-1, 1)|x += y|x *= x|x -= c|x.neg_()|x.sigmoid_()|x.div_(c)
x[::2] *= c|x.T.mul_(c)|x.view(-1)[0] = c|x[0].add_(1)""".replace("\n", "|").split("|")
SLICES = """x[1:] * x[:-1]|x[0] * x[-1]|x[..., 1:] - x[..., :-1]|x[:, 0] * x[:, -1]|x.T[0] + x.T[-1]|x[0][1:]|x[-1][:-1]
x.reshape(-1)[:3] * y.reshape(-1)[-3:]|x.view(-1)[1:4]|(x * c)[0] * x[0]|x[1:].exp() + y[0]|x[0].tanh() @ x[-1]|x[::2]
x.reshape(-1)[:4].reshape(2, 2) @ y.reshape(-1)[-4:].reshape(2, 2)|x[0] * y[0] + x[1]
x.reshape(-1)[1] * y.reshape(-1)[0]|x.T[1:]|x[..., 0] * x[..., -1]|(x[1:] * 2)[0]
x[0].sum() * x[1]|x[None, ..., 1:]|x.diagonal() * x[0]""".replace("\n", "|").split("|")
WRITES = """x[0] += y[0]|x[1:] *= c|x[0] = x[-1] * c|x[..., 0] = y[..., 0] * y[..., -1]|x.view(-1)[1] = c
x.reshape(-1)[0] += c|x[-1] = y.sum()|x[:, 0] -= y[:, -1]|x.T[0] *= c|x[0, 0] = c|x[:1] = y[1:2]
x[::2] = y[::2]|x -= x[0] * c""".replace("\n", "|").split("|")
JUMPS = {"floor", "ceil", "round", "sign", "relu", "abs"}  # have jumps, or kinks: operands keep away from them
SHAPES = (
    (),
    (3,),
    (4,),
    (2, 3),
    (3, 3),
    (3, 4),
    (1, 3),
    (2, 1),
    (2, 2, 3),
    (2, 3, 3),
    (0,),
    (0, 3),
    (1,),
    (2, 3, 1, 2),
)
TEMPLATES = [
    (6, [f"tg.{name}(x)" for name in UNARY] + [f"tg.{call}" for call in TAMED]), (6, BINARY), (3, REDUCTIONS),
    (6, LAYOUTS), (1, JOINS), (2, INDEXING), (4, PRODUCTS), (3, IN_PLACE),
]  # fmt: skip
SLICED = [(weight, templates) for weight, templates in TEMPLATES if templates not in (LAYOUTS, IN_PLACE)]
SLICED += [(8, LAYOUTS), (20, SLICES), (4, IN_PLACE), (6, WRITES)]
LARGEST = 50.0


def _known(template: str) -> bool:
    """Whether tapegrad has all the functions and methods of a template."""
    functions, methods = (
        re.findall(r"\btg\.(?:(linalg)\.)?(\w+)", template),
        re.findall(r"(?<!tg)\.([a-z_]\w*)", template),
    )
    has = [hasattr(tapegrad.linalg if module else tapegrad, name) for module, name in functions if name != "linalg"]
    names = [name for name in methods if f"linalg.{name}" not in template and name not in ("values", "shape", "ndim")]
    return all(has) and all(hasattr(tapegrad.Tensor, name) for name in names)


TEMPLATES, SLICED = (
    [(weight, [t for t in templates if _known(t)]) for weight, templates in of] for of in (TEMPLATES, SLICED)
)


class Grower:
    """Grows one program, and runs it in PyTorch as it grows."""

    def __init__(self, seed: int, templates: list[Any] = TEMPLATES) -> None:
        self.choose = random.Random(seed)
        self.templates = templates
        self.lines: list[str] = []
        self.names: dict[str, Any] = {**oracle.givens(torch)}
        self.given = set(self.names)
        self.counter = itertools.count()

    def run(self, line: str) -> bool:
        """Run a line; False where PyTorch refuses it."""
        try:
            exec(line, self.names)
        except (RuntimeError, IndexError, ValueError, TypeError, AttributeError):
            return False
        return True

    def pool(self) -> list[str]:
        """The names of floating-point tensors."""
        return [n for n, v in self.names.items() if n not in self.given and n[0] in "lv" and v.dtype == torch.float64]

    def leaf(self) -> None:
        """A leaf of some layout."""
        name, shape = f"l{next(self.counter)}", self.choose.choice(SHAPES)
        seed = self.choose.randrange(1000)
        base = f"np.asarray(np.random.default_rng({seed}).uniform(-1.5, 1.5, {shape}))"
        forms = ["{}", "{}", "{}.T", "np.asfortranarray({})", "{}[...]"]
        forms += ["{}[::-1]", "np.repeat({}, 2, 0)[::2]"] if shape else []
        array = self.choose.choice(forms).format(base)
        active = self.choose.random() < 0.7
        if array == f"{base}[::-1]" or self.choose.random() < 0.5:  # PyTorch shares no array of negative strides
            line = f"{name} = tg.tensor({array}.copy(), requires_grad={active})"
        else:
            line = f"{name} = tg.from_numpy(np.asarray({array})).requires_grad_({active})"
        if self.run(line):
            self.lines.append(line)

    def line(self) -> None:
        """One more line, if the one that is drawn fits."""
        weights = [w for w, _ in self.templates]
        template = self.choose.choice(self.choose.choices([t for _, t in self.templates], weights)[0])
        pool = self.pool()
        if len(pool) > 3 and self.choose.random() < 0.06:
            name = self.choose.choice([n for n in pool if n[0] == "v"] or [None])
            if name:
                del self.names[name]
                self.lines.append(f"del {name}")
            return
        x, y = self.choose.choice(pool), self.choose.choice(pool)
        text = self.filled(template, x, y)
        if text is None:
            return
        if template in IN_PLACE or template in WRITES:
            if re.search(r"\by\b", template) and self.overlap(self.names[x], self.names[y]):
                return
            guarded = self.choose.random() < 0.25
            line = f"with tg.no_grad(): {text}" if guarded else text
            if not self.run(line):
                return
            if not all(self.moderate(self.names[n]) for n in pool):
                raise EndOfProgramError  # PyTorch has no way back
            self.lines.append(line)
            return
        name = f"v{next(self.counter)}"
        line = f"{name} = {text}"
        if not self.run(line):
            self.names.pop(name, None)
            return
        made = self.names[name]
        if not self.usual(made) or not self.moderate(made):
            del self.names[name]
            return
        self.lines.append(line)

    def filled(self, template: str, x: str, y: str) -> str | None:
        """The template with names for its letters; None where an operand stands on a jump."""
        value = self.names[x]
        if any(f"tg.{name}(" in template for name in JUMPS) and not self.away(value):
            return None
        if ("where(x > y" in template or "max" in template or "min" in template or "clamp" in template) and not (
            self.distinct(value, self.names[y])
        ):
            return None
        if "remainder" in template and not self.away(
            value.detach() / (self.names[y].detach().abs() + 0.5) if self.fit(value, self.names[y]) else value
        ):
            return None
        length = value.shape[0] if value.ndim else 1
        index = [self.choose.randrange(max(length, 1)) for _ in range(self.choose.randrange(1, 5))]
        words = {
            "x": x, "y": y, "c": repr(self.choose.choice([0.5, -1.25, 2.0, 1.0, 0.0])),
            "i": f"tg.tensor({index})", "m": f"({x}.detach() > 0.1234567)",
        }  # fmt: skip
        out, previous = [], ""
        for token in re.findall(r"\w+|\W", template):
            if token == "d":
                out.append(str(self.choose.randrange(-max(value.ndim, 1), max(value.ndim, 1))))
            elif token in words and previous != ".":
                out.append(words[token])
            else:
                out.append(token)
            previous = token
        return "".join(out)

    def usable(self, name: str) -> bool:
        """Whether PyTorch still lets one look at it."""
        return self.run(f"{name}.is_leaf")

    def usual(self, made: Any) -> bool:
        """Whether it is a tensor of float64, and its elements are in order unless it is a view.

        PyTorch keeps the order of operands, here results are in order: so `flatten` makes views of others.
        """
        if not isinstance(made, torch.Tensor) or made.dtype != torch.float64:
            return False
        return made.is_contiguous() or any(made is not t and self.share(made, t) for t in self.tensors())

    def tensors(self) -> list[Any]:
        return [value for value in self.names.values() if isinstance(value, torch.Tensor)]

    @staticmethod
    def share(a: Any, b: Any) -> bool:
        return bool(a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr())

    @staticmethod
    def overlap(a: Any, b: Any) -> bool:
        """Whether a write to `a` changes elements of `b` other than those that it reads: PyTorch doesn't look first."""
        same = (a.data_ptr(), a.shape, a.stride()) == (b.data_ptr(), b.shape, b.stride())
        return a.numel() > 0 < b.numel() and Grower.share(a, b) and not same

    @staticmethod
    def fit(a: Any, b: Any) -> bool:
        try:
            torch.broadcast_shapes(a.shape, b.shape)
        except RuntimeError:
            return False
        return True

    @staticmethod
    def moderate(t: Any) -> bool:
        values = t.detach()
        return t.numel() <= 400 and bool((values.abs() < LARGEST).all())  # nan is not

    @staticmethod
    def away(t: Any) -> bool:
        """Whether no element is near a multiple of a half."""
        doubled = 2 * t.detach()
        return bool(((doubled - doubled.round()).abs() > 1e-5).all())

    @staticmethod
    def distinct(a: Any, b: Any) -> bool:
        """Whether no two elements, of one or of both, are equal or nearly so, nor equal to a bound."""
        numbers = torch.cat([a.detach().flatten(), b.detach().flatten() if a is not b else a.detach().flatten()[:0]])
        numbers = torch.cat([numbers, torch.tensor([-0.7, 0.9, -1.0, 1.0, 0.0, 0.1234567])]).sort().values
        return bool((numbers.diff() > 1e-6).all())

    def program(self, length: int) -> str:
        """The program's text: its lines, then the gradients of first and second order of what is left."""
        for _ in range(self.choose.randrange(2, 5)):
            self.leaf()
        with contextlib.suppress(EndOfProgramError, RuntimeError):  # PyTorch forbids some views after a write
            while len(self.lines) < length:
                self.line()
        self.names = {**oracle.givens(torch)}
        for line in self.lines:
            exec(line, self.names)
        active = [n for n in self.pool() if self.usable(n) and self.names[n].requires_grad and self.names[n].numel()]
        leaves = [n for n in active if self.names[n].is_leaf]
        results = [n for n in active if not self.names[n].is_leaf]
        if leaves and results:
            chosen = self.choose.sample(results, min(3, len(results)))
            loss = " + ".join(f"({n} * weights({n})).sum()" for n in chosen)
            self.lines += GRADIENTS.format(loss=loss, leaves=", ".join(leaves)).strip().split("\n")
        return "\n".join(self.lines)


class EndOfProgramError(Exception):
    """What was drawn can't be taken back."""


GRADIENTS = """
_loss = {loss}
_first = tg.autograd.grad(_loss, [{leaves}], create_graph=True, allow_unused=True)
_found = [g for g in _first if g is not None and g.requires_grad]
_squares = sum([(g * weights(g) * g).sum() for g in _found]) if _found else None
second = tg.autograd.grad(_squares, [{leaves}], allow_unused=True, retain_graph=True) if _found else None
first = [None if g is None else g.detach() for g in _first]
_loss.backward()
"""


def run(library: Any, program: str) -> Any:
    """What the program leaves behind, or the exception it ends with."""
    try:
        return oracle.left_behind(library, compile(program, "<program>", "exec"))  # which makes no syntax tree
    except Exception as error:
        return error


def grown(seed: int, length: int = 14, slices: bool = False) -> str:
    """The program of this seed; one of many slices.

    PyTorch refuses some gradients, where a value that they need was overwritten, and some views after a write: then the
    program ends before that.
    """
    return runnable(Grower(seed, SLICED if slices else TEMPLATES).program(length))


def runnable(program: str) -> str:
    """The program, without its last lines where PyTorch refuses them."""
    body = program.partition("_loss =")[0].rstrip()
    for text in [program, *("\n".join(body.split("\n")[:n]) for n in range(body.count("\n") + 1, 0, -1))]:
        if not isinstance(run(torch, text), Exception):
            return text
    raise AssertionError(f"PyTorch refuses the leaves of\n{program}")


def differences(expected: Any, got: Any) -> list[str]:
    """How what tapegrad left behind differs from what PyTorch left."""
    return list(_differences(expected, got, ""))


def _differences(expected: Any, got: Any, where: str) -> Iterator[str]:
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in {**expected, **got}:
            if name not in {"text", "grad_fn", "printed"}:
                yield from _differences(expected.get(name), got.get(name), f"{where}.{name}".lstrip("."))
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        for i, pair in enumerate(zip(expected, got, strict=True)):
            yield from _differences(*pair, f"{where}[{i}]")
    elif isinstance(expected, np.ndarray) and isinstance(got, np.ndarray):
        if expected.shape != got.shape or expected.dtype != got.dtype:
            yield f"{where}: PyTorch {expected.dtype}{expected.shape}, tapegrad {got.dtype}{got.shape}"
        elif expected.size:
            if where.startswith(("first", "second")):  # what was not taken leaves no nan
                got = np.where(np.isnan(expected), expected, got)
            scale = 1 + np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
            if not np.allclose(got, expected, rtol=1e-7, atol=1e-8 * scale, equal_nan=True):
                yield f"{where}: PyTorch {expected!r}, tapegrad {got!r}"
    elif where.startswith(("first", "second")) and _is_nothing(expected) and _is_nothing(got):
        return  # where a gradient is constant, its own gradient is none at all
    elif type(expected) is not type(got) or expected != got:
        yield f"{where}: PyTorch {expected!r}, tapegrad {got!r}"


def _is_nothing(gradient: Any) -> bool:
    """Whether a gradient is None, or zero; or all of a list are."""
    if isinstance(gradient, list):
        return all(map(_is_nothing, gradient))
    return gradient is None or (isinstance(gradient, dict) and not gradient["values"].any())


def least(program: str) -> str:
    """The program without the lines that its failing can do without."""
    lines = program.split("\n")
    for n in reversed(range(len(lines))):
        shorter = lines[:n] + lines[n + 1 :]
        text = "\n".join(shorter)
        if shorter and not isinstance(run(torch, text), Exception) and compare(text)[0]:
            lines = shorter
    return "\n".join(lines)


def compare(program: str) -> tuple[list[str], Any]:
    """The differences of one program, and what tapegrad left behind."""
    expected = run(torch, program)
    if isinstance(expected, Exception):
        return [f"PyTorch refuses it: {type(expected).__name__}: {expected}"], None
    got = run(tapegrad, program)
    if isinstance(got, RuntimeError) and "more than one element of the written-to tensor" in str(got):
        return [], None  # PyTorch lets masks and indices write to expanded tensors, with a warning that it will not
    if isinstance(got, Exception):
        return [f"only tapegrad refuses it: {type(got).__name__}: {got}"], got
    return differences(expected, got), got


def digest(facts: Any) -> str:
    """Of all that a program has left behind: its bits."""
    state = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for name in sorted(value):
                if name not in {"text", "grad_fn"}:
                    state.update(name.encode())
                    add(value[name])
        elif isinstance(value, list):
            for item in value:
                add(item)
        elif isinstance(value, np.ndarray):
            state.update(value.tobytes())

    add(facts)
    return state.hexdigest()


def main() -> int:
    """Compare many programs."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--count", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--slices", action="store_true", help="programs of many slices and writes to them")
    arguments.add_argument("--interrupts", action="store_true", help="interrupt each program, then run it again")
    arguments.add_argument("--show", type=int, default=5, help="how many of the failing programs are printed")
    options = arguments.parse_args()
    grow = functools.partial(grown, slices=options.slices)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    failed: list[tuple[int, list[str]]] = []
    state = hashlib.sha256()
    lock = threading.Lock()
    seeds = collections.deque(range(options.seed, options.seed + options.count))
    results: dict[int, Any] = {}

    def work() -> None:
        while True:
            try:
                seed = seeds.popleft()
            except IndexError:
                return
            if options.interrupts:
                _interrupted(grow(seed), seed)
            found, got = compare(grow(seed))
            with lock:
                results[seed] = got
                if found:
                    failed.append((seed, found))

    for seed in range(10):  # what is imported by need is imported now: an interrupt amid it would lock all threads out
        compare(grow(seed))
    if options.threads > 1:
        workers = [threading.Thread(target=work) for _ in range(options.threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    else:
        work()
    for seed in sorted(results):
        state.update(digest(results[seed]).encode())
    for seed, found in failed[: options.show]:
        program = least(grow(seed))
        found = compare(program)[0] or found
        print(f"--- seed {seed}\n{program}\n  " + "\n  ".join(line[:300] for line in found[:2]))
    print(f"{options.count - len(failed)} of {options.count} agree; digest {state.hexdigest()[:16]}")
    print("seeds that don't:", [seed for seed, _ in failed][:60]) if failed else None
    return 1 if failed else 0


def _interrupted(program: str, seed: int) -> None:
    """Run the program while an interrupt comes after a moment: on any thread, where Ctrl-C comes on the main one."""
    thread = threading.get_ident()
    timer = threading.Timer(random.Random(seed).uniform(2e-4, 6e-3), _raise, (thread, KeyboardInterrupt))
    try:
        timer.start()
        try:
            run(tapegrad, program)
        finally:
            timer.cancel()
            timer.join()
            _raise(thread, None)  # what is still to come doesn't come
    except KeyboardInterrupt:
        timer.join()


def _raise(thread: int, exception: type[BaseException] | None) -> None:
    """Have an exception raised in a thread, or none of those that were to be."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(exception) if exception else None
    )


if __name__ == "__main__":
    sys.exit(main())
