"""Bad and borderline arguments of every function: PyTorch's refusals, and nobody's raw errors.

Every function has calls that are right (`CALLS`). In each of their arguments stand, one after the other, values that
mostly don't belong there; arguments are left out, too many, or unknown. What PyTorch refuses tapegrad must refuse, with
an exception of the same type and from a `raise` of its own; what both take must come to the same.

Arrays and numbers are taken wherever a Tensor may stand, as the Tensors of them, so that one function serves for values
and for gradients: there PyTorch is given these Tensors.
"""

import itertools
import linecache
import re
from collections.abc import Iterator
from typing import Any

import pytest

import tapegrad

from .oracle import differences, kind, run, torch

M = "tg.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.5]])"
J = "tg.tensor([[1, 2, 3], [4, 5, 6]])"
B = "tg.tensor([[True, False, True], [False, True, False]])"
V, W = "tg.tensor([1.0, 2.0, 3.0])", "tg.tensor([1, 2, 3])"
S = "tg.tensor([[4.0, 1.0], [1.0, 3.0]])"

# Upper-case letters are the tensors above; "f" a function of the library, "m" a method, "fm" both.
CALLS = {
    "fm": """
        exp(M) log1p(M) sqrt(J) sigmoid(M) relu(J) neg(M) abs(J) sign(J) square(M) floor(J) trunc(M) erf(M) lgamma(M)
        isnan(M) logical_not(B) bitwise_not(J) round(M) round(M, decimals=1) add(M, V) add(J, 2) add(J, W, alpha=2)
        sub(M, V, alpha=2) mul(M, 2) mul(J, W) div(M, V) div(J, J, rounding_mode='trunc')
        div(M, V, rounding_mode='floor') pow(M, 2) pow(J, W) remainder(J, 2) floor_divide(M, V) maximum(M, V)
        atan2(M, V) eq(J, 2) lt(J, 2.5) ge(M, V) logical_and(B, M) bitwise_or(J, W) clamp(M, 1, 2.5)
        clamp(M, min=V, max=M) clamp(J, 2, 3) sum(M) sum(M, (0, 1), True) sum(J, 0, dtype=tg.float32) mean(M, 0)
        mean(J, 0, True, dtype=tg.float64) prod(M, 0, True) var(M, 0, correction=1) std(M, (0, 1), correction=0.5)
        amax(M, 0, True) amin(M) max(M) max(M, 0, True) min(M, V) argmax(M, 0, True) argmin(M) logsumexp(M, 0, True)
        softmax(M, 0) log_softmax(M, 1, dtype=tg.float32) norm(M, 2, 0, True) norm(M, 1) all(B, 0, True) any(B)
        count_nonzero(M, 0) allclose(M, M, 1e-5, 1e-8, True) equal(M, M) transpose(M, 0, 1) t(M) movedim(M, 0, 1)
        movedim(M, (0, 1), (1, 0)) flatten(M, 0, 1) ravel(M) squeeze(M) squeeze(M, 0) unsqueeze(M, 0)
        broadcast_to(M, (2, 2, 3)) detach(M) unbind(M, 1) split(M, 1, 0) split(M, (1, 2), 1) chunk(M, 2, 1)
        narrow(M, 1, 0, 2) select(M, 0, 1) index_select(M, 0, tg.tensor([1, 0]))
        gather(M, 1, tg.tensor([[0, 2], [1, 1]])) masked_select(M, B) nonzero(M) nonzero(M, as_tuple=True)
        masked_fill(M, B, 2.0) masked_fill(J, B, 2) matmul(M, V) mm(S, M) mv(M, V) dot(V, V) outer(V, V)
        inner(tg.ones(2, 2, 3), tg.ones(4, 1, 3)) bmm(tg.ones(2, 2, 3), tg.ones(2, 3, 2)) diagonal(M, 0, 0, 1)
        diag(M, 1) diag_embed(M, 0, 0, 1) trace(M) tril(M, 1) triu(M) logdet(S) det(S) slogdet(S) inverse(S)
        cholesky_solve(S, S, False)""",
    "f": """
        reshape(M, (3, -1)) permute(M, (1, 0))
        where(B, M, V) where(B) where(B, 1.0, 2) cat([M, M], 0) cat([M, V]) cat((M, tg.ones(0))) stack([M, M], 0)
        stack([M, 1.0]) linalg.cholesky(S, upper=True) linalg.solve(S, S, left=True) linalg.inv(S) linalg.det(S)
        linalg.solve_triangular(S, S, upper=True, left=False) linalg.norm(M) linalg.norm(M, 1, (0, 1), True)
        linalg.vector_norm(M, 3, 0, True) linalg.matrix_norm(M, 1, (0, 1), True) zeros((2, 3)) ones(2, dtype=tg.int32)
        full((2,), 1.5) full((2,), 1, dtype=tg.int32) zeros_like(M, dtype=tg.int32) full_like(J, 2) eye(2, 3) arange(3)
        arange(1, 5, 2) arange(2, end=5) arange(start=2, end=5) arange(1.5, 5, 2, dtype=tg.int64) linspace(0, 1, 3)
        linspace(0, 7, 5, dtype=tg.int64) tensor([1.0, 2.0], dtype=tg.int32) tensor(3, dtype=tg.bool)
        tensor([3], requires_grad=False) as_tensor([1.0, 2.0], dtype=tg.float32) set_default_dtype(tg.float64)""",
    "m": """
        add_(M, V) sub_(J, 2, alpha=3) mul_(J, 2) div_(M, 2, rounding_mode='trunc') pow_(J, 2) clamp_(M, 1, 2)
        clamp_min(M, 2) exp_(M) round_(M, decimals=1) remainder_(J, 2) atan2_(M, V) square_(M) masked_fill_(M, B, 2)
        masked_fill_(J, B, 2) masked_fill_(B, B, False) fill_(J, 2) copy_(M, V) view(M, 3, 2) reshape(M, 3, -1)
        permute(M, 1, 0) expand(V, 2, 3) expand_as(V, M) repeat(M, 2, 1) broadcast_to(V, 2, 3)
        sum_to_size(M, 1, 3) size(M, 0) stride(M, 0)
        type_as(M, J) where(M, B, V) new_zeros(M, 2, 3) new_full(M, (2,), 3) new_tensor(M, [1, 2])
        requires_grad_(M, True)
        __add__(M, 2) __lt__(J, 2) __eq__(J, 2) __pow__(J, 2) __floordiv__(J, 2) __getitem__(M, 0)
        __getitem__(M, (0, 1))""",
}
TENSORS = """
    None 'a' [1.0,2.0] 1.5 2 True tg.ones(0) tg.tensor(1.5) tg.tensor(2) tg.ones(2,3,dtype=tg.float32) tg.zeros(2,0)
    tg.ones(3,dtype=tg.int32) J B tg.ones(3,2) tg.ones(5) tg.ones(2,2,3) tg.tensor([[nan,1.0,-inf],[0.0,-0.0,inf]])
    tg.tensor([5]) tg.tensor([-1,0]) tg.ones(2,3,requires_grad=True) np.float64(2.5) object""".split()
NUMBERS = {"1.5", "2", "True", "np.float64(2.5)"}
OTHERS = """
    None 'a' [] () [0] [0,0] (0,1) (-1,) [2,-1] ['a'] [1.5] [None] 1.5 True False np.int64(1) np.float64(1.0) -1 0 1 2 3
    5 -5 2**70 nan inf -inf tg.tensor(1) tg.tensor(1.5) tg.tensor([0,1]) tg.float32 tg.int64 tg.bool int object 0.5 -0.5
    slice(None) {} 2**40 -2**40""".split()

# Where tapegrad differs, and means to.
DELIBERATE = [
    r"(prod|var|std|logsumexp|arange|linalg\.norm)\(.*None",  # as in NumPy: all dimensions, or what is usual
    r"arange\((-?\d+), step=",  # as in NumPy
    r"(zeros|ones|expand|new_zeros)\((\)|dtype)",  # so that `zeros(*x.shape)` is right for every shape
    r"split\(.*np\.int64",
    r"(view|reshape|permute|expand|sum_to_size)\(.*(True|False)\)",  # PyTorch looks at the first of several ints only
    r"sign\(tg\.tensor\(\[\[nan",  # NumPy's nan, PyTorch's 0
    r"(std|var)\(.*correction=nan",  # nan for every mean; in PyTorch it depends on the number of dimensions
    r"norm\(.*2\*\*40",  # PyTorch's overflows
    r"(__lt__|__eq__|lt|ge|eq)\(J, -?2\*\*",  # PyTorch compares with what is left of the number in the dtype
    r"[ .](to|new_empty)\(",
    r"(cat|stack)\([\[(](-?\d|M, 1)|allclose\((M, )?1e-5|cholesky_solve\((S, )?False",  # numbers stand for tensors
]
# Of these PyTorch's type is an accident: it fails further in, or asserts.
UNALIKE = """
    norm( split( as_tensor( tensor( new_tensor( narrow( mv( movedim( linspace( broadcast_to( count_nonzero( squeeze(
    matrix_norm( __getitem__( reshape( view(""".split()


def shown(text: str) -> str:
    """A call with its letters for what they stand for."""
    return re.sub(r"\b[MJBVWS]\b", lambda match: globals()[match[0]], text)


def split_arguments(text: str) -> list[str]:
    depth, parts = 0, [""]
    for character in text:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def calls() -> Iterator[tuple[str, str, list[str]]]:
    for forms, text in CALLS.items():
        for call in re.findall(r"[\w.]+\((?:[^()]|\([^()]*(?:\([^()]*\)[^()]*)*\))*\)", text):
            name, _, rest = call.partition("(")
            for form in forms:
                yield form, name, split_arguments(rest[:-1])


def written(form: str, name: str, arguments: list[str]) -> str:
    if form == "m":
        return f"{arguments[0]}.{name}({', '.join(arguments[1:])})"
    return f"tg.{name}({', '.join(arguments)})"


def variations(form: str, name: str, arguments: list[str], turn: int, share: int) -> Iterator[tuple[str, str]]:
    """The call itself, and with an argument less, more, unknown, or another: every `share`-th of the others.

    Each comes twice, the second time with a tensor where a number has the place of one.
    """

    def both(arguments: list[str]) -> tuple[str, str]:
        text = written(form, name, arguments)
        return text, re.sub(r"^(tg\.[\w.]+\()(\d[\d.]*)(?=[,)])", r"\1tg.tensor(\2)", text)

    yield both(arguments)
    positional = [argument for argument in arguments if "=" not in argument]
    yield both([*positional, "7", "8", "9", *arguments[len(positional) :]])
    yield both([*arguments, "nonsense=1"])
    for k in range(form == "m", len(arguments)):
        yield both(arguments[:k] + arguments[k + 1 :])
    for k, argument in enumerate(arguments):
        keyword, _, value = argument.rpartition("=")
        is_tensor = value in {*"MJBVWS"} or value.startswith(("tg.tensor", "tg.ones("))
        others = TENSORS if is_tensor else OTHERS
        for other in others[(turn + k) % share :: share]:
            if form == "m" and k == 0 and not other.startswith("tg."):
                continue
            if "2**40" in other and re.match(
                "zeros|ones|full|eye|arange|linspace|expand|repeat|broadcast_to|new_|diag", name
            ):
                continue  # too much memory to ask for
            yield tuple(
                written(form, name, [*arguments[:k], f"{keyword}={v}" if keyword else v, *arguments[k + 1 :]])
                for v in (other, f"tg.tensor({other})" if is_tensor and other in NUMBERS else other)
            )


def is_raw(error: Exception) -> bool:
    """Whether it came from neither a `raise` of ours nor the call itself (Python's own: takes, missing, got)."""
    if re.search(
        r"\(\) (takes|missing|got) |expected \d argument|no keyword arguments|exactly one argument", str(error)
    ):
        return False
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    file, line = (
        trace.tb_frame.f_code.co_filename,
        linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno),
    )
    return file != "<program>" and not re.match(r"\s*raise\b", line)


def fault(text: str, with_tensors: str) -> str | None:
    """What is wrong with tapegrad's answer to a call."""
    program = shown(text)
    expected, got = run(torch, program), run(tapegrad, program)
    if isinstance(expected, Exception):
        expected = run(torch, shown(with_tensors))
    for library in (torch, tapegrad):
        library.set_default_dtype(library.float64)
    if isinstance(got, Exception) and is_raw(got):
        return f"{text}: raw {got!r}"
    if any(re.search(pattern, text) for pattern in DELIBERATE):
        return None
    if isinstance(expected, Exception):
        if not isinstance(got, Exception):
            return f"{text}: taken; PyTorch raises {type(expected).__name__}: {expected}"
        alike = isinstance(got, kind(expected)) or any(name in text for name in UNALIKE)
        return None if alike else f"{text}: {got!r}; PyTorch raises {type(expected).__name__}: {expected}"
    if isinstance(got, Exception):
        return None  # refusing more than PyTorch is no fault
    found = list(differences(expected, got, text=False, tolerance=None))
    return f"{text}: {'; '.join(found)}" if found else None


ALL = list(calls())


@pytest.mark.parametrize("name", dict.fromkeys(name for _, name, _ in ALL))
def test_bad_arguments_are_refused_as_by_pytorch(name: str):
    given = [(turn, call) for turn, call in enumerate(ALL) if call[1] == name]
    tried = itertools.chain.from_iterable(variations(*call, turn, share=7) for turn, call in given)
    faults = [wrong for texts in dict.fromkeys(tried) if (wrong := fault(*texts))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", dict.fromkeys(name for form, name, _ in ALL if form == "f"))
def test_functions_take_arrays_where_tensors_stand(name: str):
    given = {letter: re.sub(r"^tg\.tensor", "np.array", globals()[letter]) for letter in "MJBVWS"}
    for form, called, arguments in ALL:
        if called != name or form != "f":
            continue
        text = written(form, name, arguments)
        expected, got = run(tapegrad, shown(text)), run(tapegrad, re.sub(r"\b[MJBVWS]\b", lambda m: given[m[0]], text))
        if isinstance(expected, Exception) or isinstance(got, Exception):
            assert repr(got) == repr(expected), text
        else:
            assert not list(differences(expected, got, text=False, tolerance=0.0)), text


# Neither complex numbers nor objects are taken anywhere, whatever PyTorch says, and no error is raw.
@pytest.mark.parametrize("bad", ["1j", "object()", "np.complex128(1j)", "'text'", "{}"])
def test_what_no_function_takes_is_refused_clearly(bad: str):
    faults = []
    for form, name, arguments in ALL:
        for k in range(form == "m", len(arguments)):
            if name in {"__eq__", "eq", "where", "tensor", "as_tensor", "new_tensor"} or "device" in arguments[k]:
                continue
            keyword = arguments[k].rpartition("=")[0]
            text = written(form, name, [*arguments[:k], f"{keyword}={bad}" if keyword else bad, *arguments[k + 1 :]])
            got: Any = run(tapegrad, shown(text))
            if isinstance(got, Exception) and is_raw(got):
                faults.append(f"{text}: raw {got!r}")
            if not isinstance(got, Exception) and "NotImplemented" not in str(got):
                faults.append(f"{text}: taken")
    assert not faults, "\n".join(faults)


REFUSED = """
tg.tensordot(M, M, dims=None)
tg.tensordot(M, M, dims=([0], [None]))
tg.tensordot(M, M, dims=tg.ones(2))
tg.gradient(V, spacing="a")
tg.gradient(V, spacing=[None])
tg.histogramdd(M, bins="a")
tg.lu_unpack(M, tg.tensor([0, 7], dtype=tg.int32))
tg.lu_unpack(M, tg.tensor([1, 3], dtype=tg.int32))
tg.nn.functional.interpolate(M[None], scale_factor="a")
tg.nn.functional.interpolate(M[None], scale_factor=nan)
tg.nn.functional.interpolate(M[None], scale_factor=0)
tg.nn.functional.max_unpool1d(tg.ones(1, 1, 2), tg.tensor([[[0, 1]]]), 2, output_size=3)
tg.nn.functional.max_unpool1d(tg.ones(1, 1, 2), tg.tensor([[[0, 1]]]), 2, output_size=None, stride="a")
tg.nn.functional.triplet_margin_with_distance_loss(M, M, M, distance_function=1.5)
tg.nn.functional.local_response_norm(tg.ones(1, 2, 3), 0)
tg.nn.functional.local_response_norm(tg.ones(1, 2, 3), -1)
tg.nn.functional.fractional_max_pool2d(tg.ones(1, 1, 8, 8), 2, output_ratio="a")
tg.nn.functional.instance_norm(tg.ones(2, 3, 4), running_mean=tg.ones(3))
tg.nn.functional.multilabel_soft_margin_loss(tg.tensor(1.0), tg.tensor(1.0))
tg.nn.functional.cosine_similarity(M, M, eps=-1.0)
tg.cdist(M, M, nan)
tg.linalg.eigh(S, None)
tg.special.legendre_polynomial_p(None, M)
tg.special.legendre_polynomial_p(M, 'a')
tg.special.chebyshev_polynomial_v(M, 'a')
tg.special.shifted_chebyshev_polynomial_w(None, M)
tg.special.hyp1f1('a', 1.0, M)
tg.special.betainc(None, 1.0, M)
""".strip().splitlines()


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_refused_with_its_reason(text: str):
    expected, got = run(torch, shown(text)), run(tapegrad, shown(text))
    assert isinstance(got, Exception), got
    assert not is_raw(got), repr(got)
    if isinstance(expected, Exception) and not isinstance(expected, (AssertionError, AttributeError)):
        assert isinstance(got, (kind(expected), ValueError)), (got, expected)


@pytest.mark.parametrize("text", [
    "tg.nn.functional.embedding_bag(W[:2], tg.ones(4, 2), W[:0], per_sample_weights=V[:2], mode='sum')",
    "tg.grid_sampler_2d(tg.ones(1, 1, 2, 2), tg.zeros(1, 1, 1, 2), 7, 0, False)",
])  # fmt: skip
def test_what_ends_the_process_in_pytorch_is_refused(text: str):
    got: Any = run(tapegrad, shown(text))
    assert isinstance(got, RuntimeError), got
    assert not is_raw(got), repr(got)


ALIKE = """
tg.nn.functional.l1_loss(tg.tensor([1.0, 2.0], dtype=tg.float32), tg.tensor(1.0, dtype=tg.float64))
tg.nn.functional.smooth_l1_loss(tg.tensor([1.0, 2.0], dtype=tg.float32), tg.tensor(1.0, dtype=tg.float64))
tg.nn.functional.hardtanh(M, nan, 1.0)
tg.nn.functional.hardtanh(M, -1.0, nan)
tg.unravel_index(tg.tensor([5, 1], dtype=tg.int32), (2, 3))
tg.renorm(tg.arange(27.0).reshape(3, 3, 3), 3, 1, 0.5)
tg.renorm(tg.arange(27.0).reshape(3, 3, 3), inf, 1, 0.5)
tg.linalg.vector_norm(tg.tensor(1.5), nan, 0, True)
""".strip().splitlines()


@pytest.mark.parametrize("text", ALIKE)
def test_borderline_arguments_mean_what_they_mean_to_pytorch(text: str):
    expected, got = run(torch, shown(text)), run(tapegrad, shown(text))
    assert not isinstance(got, Exception), got
    assert not list(differences(expected, got, text=False, tolerance=1e-7))


# A leaf `w`, what was computed of it, and what is called; each value takes the place of the question mark.
GIVEN = """
x, w = tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0], requires_grad=True)
h = w * w
y = h.sum()
"""
CALLED = """
y.backward(?)
y.backward(retain_graph=?)
y.backward(create_graph=?)
y.backward(inputs=?)
y.backward(inputs=[w, ?])
tg.autograd.backward(?)
tg.autograd.backward([y, ?])
tg.autograd.backward(y, ?)
tg.autograd.backward(y, [?])
tg.autograd.backward([h, h], [x, ?])
tg.autograd.grad(?, w)
tg.autograd.grad(y, ?)
tg.autograd.grad(y, [w, ?])
tg.autograd.grad(y, w, ?)
tg.autograd.grad(h, w, ?)
tg.autograd.grad(y, w, retain_graph=?)
tg.autograd.grad(y, w, create_graph=?)
tg.autograd.grad(y, w, allow_unused=?)
tg.autograd.grad(y, [w, x.clone().requires_grad_()], materialize_grads=?)
_mode = tg.set_grad_enabled(?)
_mode = tg.Size(?)
_mode = tg.Size([2, ?])
w.requires_grad_(?)
x.requires_grad_(?)
h.requires_grad_(?)
w.requires_grad = ?
h.requires_grad = ?
w.grad = ?
x.grad = ?
w.data = ?
x.size(?)
x.stride(?)
x.numpy(force=?)
tg.set_num_threads(?)
""".strip().splitlines()
VALUES = """
    None 'a' [1.0,2.0] [] () [0] (0,1) ['a'] [None] 1.5 2 True False -1 2**40 2**70 nan -inf object slice(None) {}
    tg.ones(0) tg.tensor(1.5) tg.tensor(1) tg.ones(2,dtype=tg.float32) J B tg.ones(2,3,requires_grad=True) tg.float32
    np.int64(1) np.float64(2.5) w x y h {w} iter([w]) np.ones(2) [w,None]""".split()


@pytest.mark.parametrize("call", CALLED)
def test_bad_arguments_of_gradients_and_of_tensors_own(call: str):
    """They are refused as by PyTorch, and nothing has changed: what is called next gives what it would have."""
    faults = []
    for value in VALUES:
        text = call.replace("?", value)
        program = f"{shown(GIVEN)}\n{text}"
        expected, got = run(torch, program), run(tapegrad, program)
        for library in (torch, tapegrad):
            library.set_grad_enabled(True)
            library.set_num_threads(2)
        if isinstance(got, Exception) and is_raw(got):
            faults.append(f"{text}: raw {got!r}")
        # Refusing more is no fault, nor another type where PyTorch asserts, or asks for the truth of an array.
        is_refused = isinstance(expected, Exception)
        is_accident = isinstance(expected, AssertionError) or re.search("value of .* with", str(expected))
        alike = (TypeError, RuntimeError) if is_accident else kind(expected) if is_refused else object
        if is_refused and not isinstance(got, alike):
            faults.append(f"{text}: {got!r}; PyTorch raises {expected!r}")
        if isinstance(got, Exception) and "not have been used" not in str(got):  # there the graph has been swept
            tried = f"try:\n    {text}\nexcept Exception:\n    pass\n"
            left = run(tapegrad, f"{shown(GIVEN)}\n{tried}\ny.backward(); g = (x * 2 + w).sum().item(); e = w.grad + 0")
            plain = run(tapegrad, f"{shown(GIVEN)}\ny.backward(); g = (x * 2 + w).sum().item(); e = w.grad + 0")
            if isinstance(left, Exception):
                faults.append(f"{text}: leaves {left!r}")
            elif found := list(differences(plain, left, text=False, tolerance=None)):
                faults.append(f"{text}: leaves {found}")
    assert not faults, "\n".join(faults)
