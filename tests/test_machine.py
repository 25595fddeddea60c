"""Machine code of programs: each instruction, each kernel, whole programs; and where there is none."""

import ctypes
import gc
import io
import os
import threading
import warnings
import weakref

import numpy as np
import pytest
from compiled_functions import agrees, bits, needs_programs
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compile import inputs, program
from test_compile_native import CASES

import tapegrad as tg
from tapegrad import engine, kernels
from tapegrad.dtypes import DTYPES
from tapegrad.kernels.loops import FRESH
from tapegrad.kinds import address_of
from tapegrad.ops.declare import OPS, Elementwise
from tapegrad.replay import machine
from tapegrad.replay.machine import aarch64, avx512, lowering, memory, stencils, x86_64
from tapegrad.replay.machine.lowering import Form, _written

F = tg.func
needs_code = pytest.mark.skipif(machine.isa() is None, reason="there is no machine code here")
pytestmark = needs_programs
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e300, 1e-300, -5e-324, 1e38, 1e-45, np.inf, -np.inf, np.nan, -np.nan]


@pytest.fixture
def hot(monkeypatch):
    """All programs are called often."""
    monkeypatch.setattr(machine, "HOT", 0)


def written(isa, forms, operands, numbers=None):
    """The bytes of rows."""
    n, distinct = len(forms), list(dict.fromkeys(forms))
    return _written(
        isa, distinct, np.array([distinct.index(f) for f in forms], np.int64),
        np.array(operands, np.int64).reshape(n, 6) << 1, np.zeros(n, np.int64) if numbers is None else numbers,
    )  # fmt: skip


def run(forms, operands, arena, numbers=None, header=0, text=0):
    """Run rows over an arena; what the code returns."""
    code = memory.Code(written(machine.lanes_isa(), forms, operands, numbers))
    function = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(code.address)
    return function(address_of(arena), address_of(arena), header, text)


# --- kernels ----------------------------------------------------------------------------------------------------------

FOLLOWED = [
    (op, code, k, mode)
    for op in OPS
    if isinstance(op, Elementwise)
    for code in (4, 3)
    for k in range(-1, op.arity)
    for mode in ((0, FRESH) if k >= 0 else (0,))
    if stencils.expression(op, k, code) is not None
]


def has_registers(isa, known, mode):
    """Whether there are enough for a kernel: those of long formulas are called."""
    try:
        stencils.write(isa, known, mode, 1, 0, 0, True, 0, False)
    except NotImplementedError:
        return False
    return True


@pytest.mark.parametrize("is_double", [True, False])
@pytest.mark.parametrize("where", ["here", "aarch64"])
def test_stencils_have_the_bits_of_kernels(where, is_double):
    """Every kernel that is followed, of all lanes, over pairs of edges; results stay in registers for the next."""
    if where == "here" and machine.isa() is None:
        pytest.skip("there is no machine code here")
    isa, execute = (machine.lanes_isa(), run) if where == "here" else (aarch64, emulated)
    dtype = np.dtype(np.float64 if is_double else np.float32)
    size, random = dtype.itemsize, np.random.default_rng(0)
    with np.errstate(over="ignore"):
        edges = np.concatenate([EDGES, random.normal(size=2)]).astype(dtype)
    pairs = np.array(np.meshgrid(edges, edges)).reshape(2, -1)
    if where == "aarch64":
        pairs = random.permuted(pairs, axis=1)[:, :90]
    n_pairs = pairs.shape[1]
    rest = [random.permutation(np.resize(edges, n_pairs)) for _ in range(4)]
    forms, operands, given, want, of = [], [], [], [], []
    for op, code, k, mode in FOLLOWED:
        kernels.require(op, code, k >= 0)
        kernel = int(kernels.table[(op.opcode * len(DTYPES) + code) * kernels.CELLS + 1 + k])
        known = stencils.kernel_at(kernel)
        if (code == 4) is not is_double or known is None or not has_registers(isa, known, mode):
            continue
        *of_operands, of_y = op.signature(code)
        sizes = [DTYPES[c].itemsize for c in (*of_operands, code, code)[:3]]
        sizes += [DTYPES[of_y].itemsize, size, size]
        begin = len(given) * 6 * n_pairs * size
        given.append(np.array([*pairs, *rest]))  # a, b, c, y, g, k
        want.append(given[-1].copy())
        at = [address_of(want[-1]) + i * n_pairs * size for i in range(6)]
        if k < 0:
            ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(kernel)(n_pairs, 0, *at[:4])
        else:
            ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(kernel)(n_pairs, mode, *at)
        result, done = stencils.K if known.is_partial else stencils.Y, 0
        reads, widths = stencils.reads(known, mode) | 1 << result, (1,) if known.truths else isa.widths(size)
        of.append((op.name, k, mode, result, known.is_truth))
        while done < n_pairs:
            lanes = int(next(w for w in random.permutation(widths) if w <= n_pairs - done or w == 1))
            forms.append(Form(known, mode, lanes))
            at = [begin + i * n_pairs * size + done * sizes[i] if reads >> i & 1 else -1 for i in range(6)]
            operands.append(at)
            done += lanes
    found = np.array(given)
    assert execute(forms, operands, found) == 0
    for name, got, expected in zip(of, found, want, strict=True):
        *_, result, is_truth = name
        if not is_truth:
            assert is_same(got[result], expected[result]), name
            got[result] = expected[result]
        assert got.tobytes() == expected.tobytes(), name  # and nothing else was written
    assert len(of) > 100


@needs_code
@pytest.mark.parametrize("is_double", [True, False])
def test_single_numbers_of_which_something_is_known(is_double):
    """One number for all lanes, of which it is known that it is not zero: partials have the bits of their kernels."""
    size, random, n = 8 if is_double else 4, np.random.default_rng(1), 64
    dtype, seen = np.dtype(f"f{size}"), 0
    with np.errstate(over="ignore"):
        g, k, edges = random.choice(EDGES, n).astype(dtype), random.choice(EDGES, n).astype(dtype), dtype.type(EDGES)
    for op, code, of, mode in FOLLOWED:
        kernels.require(op, code, of >= 0)
        kernel = int(kernels.table[(op.opcode * len(DTYPES) + code) * kernels.CELLS + 1 + of])
        known = stencils.kernel_at(kernel)
        if of < 0 or known is None or known.itemsize != size or known.of not in {("a",), ("b",)}:
            continue
        place, seen = "ab".index(known.of[0]), seen + 1
        for number, isa in ((x, isa) for x in edges[edges != 0] for isa in (machine.isa(), machine.lanes_isa())):
            arena = np.zeros((4, n), dtype)
            arena[0, 0], arena[1], arena[2], arena[3] = number, g, k, k
            at = address_of(arena)
            given = [at if i == place else 0 for i in range(4)]
            ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(kernel)(
                n, mode | 1 << place, *given, at + n * size, at + 2 * n * size
            )
            width = isa.widths(size)[0]
            forms = [Form(known, mode, width, 1 << place, 1 << place)] * (n // width)
            operands = [
                [0 if i == place else -1 for i in range(4)] + [(n + i) * size, (3 * n + i) * size]
                for i in range(0, n, width)
            ]
            made = memory.Code(written(isa, forms, operands))
            assert ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(made.address)(at, at, 0, 0) == 0
            assert is_same(arena[3], arena[2]), (op.name, of, number)
    assert seen >= 4


@needs_code
def test_kernels_that_are_written_out():
    """Each stencil is compared with its kernel before it is used; these pass, and one that differs does not."""
    names = set()
    for op, code, k, _ in FOLLOWED:
        kernels.require(op, code, k >= 0)
        kernel = int(kernels.table[(op.opcode * len(DTYPES) + code) * kernels.CELLS + 1 + k])
        if lowering.stencil_of(kernel) is not None:
            names.add((op.name, code, k))
    arithmetic = ("add", "sub", "mul", "div", "maximum", "minimum")
    assert names >= {(name, code, k) for name in arithmetic for code in (4, 3) for k in (-1, 0, 1)}
    assert names >= {
        (name, code, k) for name in ("neg", "square", "sqrt", "abs", "relu") for code in (4, 3) for k in (-1, 0)
    }
    assert names >= {(name, code, 0) for name in ("exp", "log", "tanh", "sigmoid", "atan") for code in (4, 3)}
    assert names >= {(name, code, -1) for name in ("lt", "ge", "eq", "where", "isnan") for code in (4, 3)}


def is_same(found, want):
    """Whether bits are the same, but for those of nan."""
    number = ~np.isnan(want)
    return (found[number].tobytes() == want[number].tobytes()) and bool(np.isnan(found[~number]).all())


# --- instructions -----------------------------------------------------------------------------------------------------


def disassembled(code, architecture):
    capstone = pytest.importorskip("capstone")
    known = {"x86_64": (capstone.CS_ARCH_X86, capstone.CS_MODE_64), "aarch64": (capstone.CS_ARCH_ARM64, 0)}
    found = list(capstone.Cs(*known[architecture]).disasm(bytes(code), 0))
    assert sum(i.size for i in found) == len(code)
    return [f"{i.mnemonic} {i.op_str}".strip() for i in found]


def lines_of(form, method, *given, isa=x86_64):
    """What a stencil of x86-64 is to a disassembler."""
    stencil = isa.Stencil(*form)
    getattr(stencil, method)(*given)
    for place in stencil.patches:
        if place.form == x86_64.ADDRESS:
            stencil.code[place.at - 1] |= 3
            stencil.code[place.at : place.at + 4] = (0x1230).to_bytes(4, "little")
    return disassembled(stencil.code, "x86_64")


@pytest.mark.parametrize("form", [(1, 8), (2, 8), (4, 8), (1, 4), (4, 4), (8, 4)])
def test_instructions_of_lanes(form):
    lanes, itemsize = form
    suffix = ("s" if lanes == 1 else "p") + ("d" if itemsize == 8 else "s")
    packed = "p" + suffix[1]
    name = "ymm" if lanes * itemsize == 32 else "xmm"
    size = {4: "dword", 8: "qword", 16: "xmmword", 32: "ymmword"}[lanes * itemsize]
    memory_of = f"{size} ptr [rbx + 0x1230]"
    for r, s, t in (0, 1, 2), (9, 3, 15), (7, 12, 8), (15, 15, 15), (3, 8, 0):
        x, y, z = (f"{name}{i}" for i in (r, s, t))
        for operation in "add", "sub", "mul", "div":
            assert lines_of(form, "binary", operation, r, s, t) == [f"v{operation}{suffix} {x}, {y}, {z}"]
            assert lines_of(form, "binary_of_memory", operation, r, s, 0) == [
                f"v{operation}{suffix} {x}, {y}, {memory_of}"
            ]
        for operation in "and", "or", "xor":
            assert lines_of(form, "logic", operation, r, s, t) == [f"v{operation}{packed} {x}, {y}, {z}"]
        operands = f"{x}, {y}, {y}" if lanes == 1 else f"{x}, {y}"
        assert lines_of(form, "sqrt", r, s) == [f"vsqrt{suffix} {operands}"]
        assert lines_of(form, "move", r, s) == [f"vmova{packed} {x}, {y}"]
        assert lines_of(form, "choose", r, s, t, 5) == [f"vblendv{packed} {x}, {name}5, {z}, {y}"]
        for relation, known in ("eq", "eq"), ("lt", "lt_oq"), ("le", "le_oq"), ("ne", "neq"):
            assert lines_of(form, "compare", relation, r, s, t) == [f"vcmp{known}{suffix} {x}, {y}, {z}"]
        moved = f"vmov{suffix if lanes == 1 else 'u' + packed}"
        assert lines_of(form, "load", r, 0) == [f"{moved} {x}, {memory_of}"]
        assert lines_of(form, "store", r, 0) == [f"{moved} {memory_of}, {x}"]
        single = "vmovddup" if (lanes, itemsize) == (2, 8) else f"vbroadcasts{suffix[1]}" if lanes > 1 else moved
        assert lines_of(form, "load", r, 0, True) == [
            f"{single} {x}, {'qword' if itemsize == 8 else 'dword'} ptr [rbx + 0x1230]"
        ]
        truth = ["movzx eax, byte ptr [rbx + 0x1230]", "neg eax", "sbb rax, rax", f"vmovq xmm{r}, rax"]
        assert lines_of(form, "load_truth", r, 0) == truth
        truth = [f"vmovmsk{packed} eax, xmm{r}", "and eax, 1", "mov byte ptr [rbx + 0x1230], al"]
        assert lines_of(form, "store_truth", r, 0) == truth
        assert lines_of(form, "bits", r, 0) == [f"vxor{packed} {x}, {x}, {x}"]
        bits = lines_of(form, "bits", r, 0x41424344)
        number = "rax" if itemsize == 8 else "eax"
        assert bits[0] == f"mov{'abs' if itemsize == 8 else ''} {number}, 0x41424344"
        assert bits[1] == f"vmov{'q' if itemsize == 8 else 'd'} xmm{r}, {number}"
        spread = f"vmovddup xmm{r}, xmm{r}" if itemsize == 8 else f"vshufps xmm{r}, xmm{r}, xmm{r}, 0"
        assert bits[2:3] == [spread] * (lanes > 1)
        assert bits[3:] == [f"vinsertf128 {x}, {x}, xmm{r}, 1"] * (name == "ymm")


@pytest.mark.parametrize("itemsize", [8, 4])
def test_instructions_of_whole_registers(itemsize):
    """Of AVX-512; of fewer lanes they are those of AVX."""
    form, suffix, letter = (64 // itemsize, itemsize), "pd" if itemsize == 8 else "ps", "q" if itemsize == 8 else "d"
    memory_of = "zmmword ptr [rbx + 0x1230]"
    one = f"{'qword' if itemsize == 8 else 'dword'} ptr [rbx + 0x1230]"

    def lines(method, *given):
        return lines_of(form, method, *given, isa=avx512)

    for r, s, t in (0, 1, 2), (9, 3, 15), (7, 12, 8), (15, 15, 15), (3, 8, 0):
        x, y, z = (f"zmm{i}" for i in (r, s, t))
        for operation in "add", "sub", "mul", "div":
            name = f"v{operation}{suffix} {x}, {y}"
            assert lines("binary", operation, r, s, t) == [f"{name}, {z}"]
            assert lines("binary_of_memory", operation, r, s, 0) == [f"{name}, {memory_of}"]
            assert lines("binary_of_memory", operation, r, s, 0, True) == [f"{name}, {one}{{1to{form[0]}}}"]
        for operation in "and", "or", "xor":
            assert lines("logic", operation, r, s, t) == [f"v{operation}{suffix} {x}, {y}, {z}"]
        assert lines("sqrt", r, s) == [f"vsqrt{suffix} {x}, {y}"]
        assert lines("move", r, s) == [f"vmova{suffix} {x}, {y}"]
        assert lines("choose", r, s, t, 5) == [f"vpmov{letter}2m k1, {y}", f"vblendm{suffix} {x} {{k1}}, zmm5, {z}"]
        for relation, known in ("eq", "eq"), ("lt", "lt_oq"), ("le", "le_oq"), ("ne", "neq"):
            mask = f"vcmp{known}{suffix} k1, {y}, {z}"
            assert lines("compare", relation, r, s, t) == [mask, f"vpmovm2{letter} {x}, k1"]
        assert lines("load", r, 0) == [f"vmovu{suffix} {x}, {memory_of}"]
        assert lines("store", r, 0) == [f"vmovu{suffix} {memory_of}, {x}"]
        assert lines("load", r, 0, True) == [f"vbroadcasts{suffix[1]} {x}, {one}"]
        assert lines("bits", r, 0) == [f"vxor{suffix} {', '.join([f'xmm{r}'] * 3)}"]
        number = "movabs rax" if itemsize == 8 else "mov eax"
        assert lines("bits", r, 0x41424344) == [
            f"{number}, 0x41424344", f"vpbroadcast{letter} {x}, {'rax' if itemsize == 8 else 'eax'}"
        ]  # fmt: skip
        product = f"vmul{suffix} {x} {{k1}} {{z}}, {y}, {z}"
        test = f"vcmpneq{suffix} k1"
        assert lines("product", r, s, t, [t], 6) == [f"{test}, {z}, zmm6", product]
        assert lines("product", r, s, t, [s, t], 6) == [
            f"{test}, {y}, zmm6", f"{test} {{k1}}, {z}, zmm6", product
        ]  # fmt: skip
    for fewer in (1, itemsize), (32 // itemsize, itemsize):
        for method, *rest in ("load", 3, 0), ("store", 3, 0), ("binary", "sub", 1, 2, 3), ("compare", "lt", 1, 2, 3):
            assert lines_of(fewer, method, *rest, isa=avx512) == lines_of(fewer, method, *rest)


def test_instructions_of_words():
    assert lines_of((1, 8), "copy", 1, 0, 8) == [
        "mov rax, qword ptr [rbx + 0x1230]", "mov qword ptr [rbx + 0x1230], rax"
    ]  # fmt: skip
    assert lines_of((1, 8), "copy", 1, 0, 1) == [
        "mov al, byte ptr [rbx + 0x1230]", "mov byte ptr [rbx + 0x1230], al"
    ]  # fmt: skip
    for size, name, register in (8, "qword", "rcx"), (4, "dword", "ecx"), (1, "byte", "cl"):
        assert lines_of((1, 8), "guard", 0, 1, size) == [
            "mov eax, 0", f"mov {register}, {name} ptr [rbx + 0x1230]", f"cmp {register}, {name} ptr [rbx + 0x1230]",
            f"jne {'0x19' if size == 8 else '0x17'}",
        ]  # fmt: skip
    given = [x86_64.TAPE, x86_64.Offset(0), x86_64.Address(0), 7, 1 << 40, x86_64.Address(0), x86_64.Address(0), 5]
    assert lines_of((1, 8), "call", 0x123456789A, given, True) == [
        "mov rdi, r12", "lea rsi, [r13]", "lea rdx, [rbx + 0x1230]", "mov ecx, 7", "movabs r8, 0x10000000000",
        "lea r9, [rbx + 0x1230]", "lea rax, [rbx + 0x1230]", "mov qword ptr [rsp], rax", "mov eax, 5",
        "mov qword ptr [rsp + 8], rax", "vzeroupper", "movabs rax, 0x123456789a", "call rax", "test rax, rax",
        "jne 0x55",
    ]  # fmt: skip
    assert disassembled(x86_64.PROLOGUE, "x86_64") == [
        "push rbx", "push rbp", "push r12", "push r13", "sub rsp, 0x18", "mov rbx, rdi", "mov rbp, rsi", "mov r12, rdx",
        "mov r13, rcx",
    ]  # fmt: skip
    assert disassembled(x86_64.SUCCESS + x86_64.EPILOGUE, "x86_64") == [
        "xor eax, eax", "vzeroupper", "add rsp, 0x18", "pop r13", "pop r12", "pop rbp", "pop rbx", "ret"
    ]  # fmt: skip


@needs_code
def test_words_and_calls_run():
    arena = np.arange(16, dtype=np.int64)
    arena[3] = -1
    forms = [Form(word=("copy", 8)), Form(word=("copy", 4)), Form(word=("copy", 1))]
    assert run(forms, [[24, -1, -1, -1, -1, to] for to in (0, 8, 16)], arena) == 0
    assert arena[:3].tolist() == [-1, 0xFFFFFFFF, 0xFF]
    guard = [Form(word=("guard", size)) for size in (8, 4, 1)]
    held = [[24, 0, -1, -1, -1, -1], [24, 8, -1, -1, -1, -1], [24, 16, -1, -1, -1, -1]]
    numbers = np.array([100, 101, 102])
    assert run(guard, held, arena, numbers) == 0
    for i in range(3):
        missed = [[32, 40, -1, -1, -1, -1] if i == k else of for k, of in enumerate(held)]
        assert run(guard, missed, arena, numbers) == 100 + i
    seen = []
    of_eight = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 8)(lambda *given: seen.append(given) or 0)
    at = ctypes.cast(of_eight, ctypes.c_void_p).value
    arguments = (x86_64.TAPE, x86_64.Offset(0), x86_64.Address(1), -3, 1 << 60, x86_64.Address(2), x86_64.Address(3), 9)
    base = address_of(arena)
    assert run([Form(word=("call", at, arguments, True))], [[16, 8, 24, 40, -1, -1]], arena, None, 77, 1000) == 0
    assert seen == [(77, 1032, base + 8, -3, 1 << 60, base + 24, base + 40, 9)]
    failing = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: 5)
    at = ctypes.cast(failing, ctypes.c_void_p).value
    calls = [Form(word=("call", at, (), False)), Form(word=("call", at, (), True)), forms[0]]
    before = arena.copy()
    assert run(calls, [[-1] * 6, [-1] * 6, [0, -1, -1, -1, -1, 80]], arena) == 5
    assert (arena == before).all()


# --- aarch64, in an emulator ------------------------------------------------------------------------------------------


def lines_of_aarch64(form, method, *given):
    stencil = aarch64.Stencil(*form)
    getattr(stencil, method)(*given)
    code = np.frombuffer(bytes(stencil.code), np.uint8).copy()
    for place in stencil.patches:
        values = {aarch64.ADDRESS: -0x70000 << 1 | 1, aarch64.EXIT: len(code) + 4}.get(place.form, 0x12345)
        aarch64.patch(code, np.array([place.at]), place.form, np.array([values]))
    return disassembled(code.tobytes(), "aarch64")


@pytest.mark.parametrize("form", [(1, 8), (2, 8), (1, 4), (4, 4)])
def test_instructions_of_aarch64(form):
    letter, dots = {1: "d", 2: "v", 4: "s"}[form[0] if form[1] == 8 else form[1] if form[0] == 1 else 2], ""
    if form[0] > 1:
        letter, dots = "v", ".2d" if form[1] == 8 else ".4s"
    loaded = "q" if form[0] > 1 else letter
    offset = ["mov w9, #0", "movk w9, #0xfff9, lsl #16"]
    for r, s, t in (0, 1, 2), (22, 7, 8), (8, 22, 3):
        numbers = [i if i < 8 else i + 8 for i in (r, s, t)]
        x, y, z = (f"{letter}{i}{dots}" for i in numbers)
        b, c, d = (f"v{i}.16b" for i in numbers)
        for operation in "add", "sub", "mul", "div":
            assert lines_of_aarch64(form, "binary", operation, r, s, t) == [f"f{operation} {x}, {y}, {z}"]
        assert lines_of_aarch64(form, "sqrt", r, s) == [f"fsqrt {x}, {y}"]
        assert lines_of_aarch64(form, "move", r, s) == [f"mov {b}, {c}"]
        for operation, known in ("and", "and"), ("or", "orr"), ("xor", "eor"):
            assert lines_of_aarch64(form, "logic", operation, r, s, t) == [f"{known} {b}, {c}, {d}"]
        equal = f"fcmeq {x}, {y}, {z}"
        assert lines_of_aarch64(form, "compare", "eq", r, s, t) == [equal]
        assert lines_of_aarch64(form, "compare", "ne", r, s, t) == [equal, f"mvn {b}, {b}"]
        assert lines_of_aarch64(form, "compare", "lt", r, s, t) == [f"fcmgt {x}, {z}, {y}"]
        assert lines_of_aarch64(form, "compare", "le", r, s, t) == [f"fcmge {x}, {z}, {y}"]
        chosen = ["mov v31.16b, v4.16b", f"bsl v31.16b, {c}, {d}", f"mov {b}, v31.16b"]
        assert lines_of_aarch64(form, "choose", r, 4, s, t) == chosen
        to = f"{loaded}{numbers[0]}"
        assert lines_of_aarch64(form, "load", r, 0) == [*offset, f"ldr {to}, [x20, w9, sxtw]"]
        assert lines_of_aarch64(form, "store", r, 0) == [*offset, f"str {to}, [x20, w9, sxtw]"]
        single = [*offset, "add x9, x20, w9, sxtw", f"ld1r {{{x}}}, [x9]"]
        assert lines_of_aarch64(form, "load", r, 0, True)[2:] == (
            single[2:] if form[0] > 1 else [f"ldr {to}, [x20, w9, sxtw]"]
        )
        truth = [*offset, "ldrb w10, [x20, w9, sxtw]", "cmp x10, #0", "csetm x10, ne", f"fmov d{numbers[0]}, x10"]
        assert lines_of_aarch64(form, "load_truth", r, 0) == truth
        truth = [f"fmov x10, d{numbers[0]}", "and x10, x10, #1", *offset, "strb w10, [x20, w9, sxtw]"]
        assert lines_of_aarch64(form, "store_truth", r, 0) == truth
        put = f"{'dup' if form[0] > 1 else 'fmov'} {x}, {'x9' if form[1] == 8 else 'w9'}"
        assert lines_of_aarch64(form, "bits", r, 0x3FF0 << 16)[-1] == put
        assert lines_of_aarch64(form, "bits", r, 0) == [f"movi v{numbers[0]}.2d, #0000000000000000"]


def test_words_of_aarch64():
    offset = ["mov w9, #0", "movk w9, #0xfff9, lsl #16"]
    for size, load, w in (8, "ldr x", "str x"), (4, "ldr w", "str w"), (1, "ldrb w", "strb w"):
        at = "10, [x20, w9, sxtw]"
        assert lines_of_aarch64((1, 8), "copy", 0, 1, size) == [*offset, load + at, *offset, w + at]
        assert lines_of_aarch64((1, 8), "guard", 0, 1, size) == [
            "mov w0, #0x2345", "movk w0, #1, lsl #16", *offset, load + at, *offset, load + at.replace("10", "11"),
            "cmp x10, x11", "b.eq #0x2c", "b #0x30",
        ]  # fmt: skip
    given = [aarch64.TAPE, aarch64.Offset(0), aarch64.Address(0), -2]
    assert lines_of_aarch64((1, 8), "call", 0x1234, given, True) == [
        "mov x0, x21", "mov w9, #0x2345", "movk w9, #1, lsl #16", "add x1, x22, w9, sxtw",
        *offset, "add x2, x20, w9, sxtw",
        "mov x3, #0xfffe", *(f"movk x3, #0xffff, lsl #{i}" for i in (16, 32, 48)),
        "mov x16, #0x1234", *(f"movk x16, #0, lsl #{i}" for i in (16, 32, 48)), "blr x16", "cbz x0, #0x48", "b #0x4c",
    ]  # fmt: skip
    assert disassembled(aarch64.PROLOGUE + aarch64.SUCCESS + aarch64.EPILOGUE, "aarch64") == [
        "stp x29, x30, [sp, #-0x30]!", "stp x19, x20, [sp, #0x10]", "stp x21, x22, [sp, #0x20]",
        "mov x19, x0", "mov x20, x1", "mov x21, x2", "mov x22, x3", "mov x0, #0",
        "ldp x19, x20, [sp, #0x10]", "ldp x21, x22, [sp, #0x20]", "ldp x29, x30, [sp], #0x30", "ret",
    ]  # fmt: skip


def emulated(forms, operands, arena, numbers=None):
    """Run rows over an arena, as an aarch64 would; what the code returns."""
    unicorn = pytest.importorskip("unicorn")
    from unicorn import arm64_const

    machine = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
    code = written(aarch64, forms, operands, numbers)
    code_at, arena_at, stack, back = 0x10000000, 0x20000000, 0x40000000, 0x50000000
    for at, nbytes in (code_at, len(code)), (arena_at, arena.nbytes), (stack, 4096), (back, 4096):
        machine.mem_map(at, -(-nbytes // 4096) * 4096)
    machine.mem_write(code_at, code)
    machine.mem_write(arena_at, arena.tobytes())
    given = {
        arm64_const.UC_ARM64_REG_X0: arena_at, arm64_const.UC_ARM64_REG_X1: arena_at,
        arm64_const.UC_ARM64_REG_SP: stack + 4096, arm64_const.UC_ARM64_REG_LR: back,
        arm64_const.UC_ARM64_REG_CPACR_EL1: 3 << 20,
    }  # fmt: skip
    for register, value in given.items():
        machine.reg_write(register, value)
    machine.emu_start(code_at, back)
    arena.view(np.uint8).reshape(-1)[:] = np.frombuffer(machine.mem_read(arena_at, arena.nbytes), np.uint8)
    assert machine.reg_read(arm64_const.UC_ARM64_REG_SP) == stack + 4096
    return machine.reg_read(arm64_const.UC_ARM64_REG_X0)


def test_words_run_on_aarch64():
    arena = np.arange(16, dtype=np.int64)
    arena[3] = -1
    copies = [Form(word=("copy", size)) for size in (8, 4, 1)]
    assert emulated(copies, [[24, -1, -1, -1, -1, to] for to in (0, 8, 16)], arena) == 0
    assert arena[:3].tolist() == [-1, 0xFFFFFFFF, 0xFF]
    guards, held = [Form(word=("guard", 8))] * 3, [[24, 0, -1, -1, -1, -1]] * 3
    numbers = np.array([100, 101, 70000])
    assert emulated(guards, held, arena, numbers) == 0
    assert emulated(guards, [*held[:2], [24, 8, -1, -1, -1, -1]], arena, numbers) == 70000


def arenas_agree(compiled):
    """Whether machine code leaves the whole arena of each program as the interpreter does, and answers the same."""
    tape = tg.tensor(0.0)._tape
    for of, _, _ in compiled._programs:
        memory_of = getattr(of.memories, "of_thread", None)
        if memory_of is None or of.lowered is None or of.draws:
            continue
        before = memory_of.arena.copy()
        found = [engine.replay(tape, memory_of.run_at, memory_of.tables_at), memory_of.arena.copy()]
        memory_of.arena[:] = before
        want = [engine.replay(tape, memory_of.text_at, memory_of.tables_at), memory_of.arena.copy()]
        assert found[0] == want[0]
        assert found[1].tobytes() == want[1].tobytes()


# --- programs ---------------------------------------------------------------------------------------------------------


@needs_code
@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_the_function(name, hot):
    function, make = CASES[name]
    compiled, random = tg.compile(function), np.random.default_rng(0)
    for _ in range(8):
        agrees(function, compiled, *make(random))
    assert compiled.stats()["machine"] == compiled.stats()["programs"]


@needs_code
@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.integers(0, 10**6), st.integers(1, 14), st.sampled_from([(), (1,), (3,), (2, 7)]), st.booleans(), st.booleans()
)
def test_random_programs_with_branches(seed, n_steps, shape, is_double, differentiates):
    of, random = program(seed, n_steps), np.random.default_rng(seed)
    function = F.value_and_grad(lambda x, y, t, n: of(x, y, t, n)[0], (0, 1)) if differentiates else of
    compiled, before = tg.compile(function), machine.HOT
    machine.HOT = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(12):
                x, y, t, n = inputs(random, shape or (1,), np.float64 if is_double else np.float32)
                agrees(function, compiled, tg.tensor(x.reshape(shape)), tg.tensor(y.reshape(shape)), t, n)
            arenas_agree(compiled)
    finally:
        machine.HOT = before


def of_scalars(x):
    """Rows of scalars, with a branch, and functions that are called."""
    a, b, c = x[0], x[1], x[2]
    for k in range(20):
        a, b, c = b - a * a, tg.sin(3.0 * b) / (1.0 + a * a), tg.maximum(c, a).abs().sqrt() - 0.7
        if k % 4 == 3 and a > c:
            a = a - 2.0 * b
    return a * b + c


@needs_code
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scalars_branch(dtype, hot):
    function, random = F.value_and_grad(of_scalars), np.random.default_rng(3)
    compiled = tg.compile(function)
    given = random.normal(size=(12, 3)).astype(dtype)
    for k in [*range(12), *range(12), *range(12)]:
        agrees(function, compiled, given[k])
    stats = compiled.stats()
    assert stats["machine"] == stats["programs"] > 2
    assert stats["misses"] > 4
    arenas_agree(compiled)


def test_hot_programs_only():
    compiled = tg.compile(F.grad(lambda x: (x * x).sum()))
    for _ in range(machine.HOT):
        compiled(np.ones(3))
    assert compiled.stats()["machine"] == 0
    for _ in range(3):
        compiled(np.ones(3))
    assert compiled.stats()["machine"] == (machine.isa() is not None)
    assert compiled.stats()["replays"] == machine.HOT + 2


def test_zeros_take_nothing(hot):
    function = F.grad(lambda x: x[0] * (1.0 / x[1]) * 0.0 + x[2] * tg.log(x[1]))
    compiled = tg.compile(function)
    for x in [1.0, 0.0, 0.0], [np.inf, 0.0, 0.0], [0.0, -0.0, -0.0], [np.nan, 1.0, 2.0], [5e-324, 1e-308, 1e308]:
        for _ in range(3):
            agrees(function, compiled, np.array(x))


@pytest.mark.parametrize("what", ["map", "protect"])
def test_without_executable_memory(what, hot, monkeypatch):
    functions = list(memory._functions())
    functions[0 if what == "map" else 1] = lambda *_: None if what == "map" else -1
    monkeypatch.setattr(memory, "_functions", lambda: tuple(functions))
    function = F.value_and_grad(of_scalars)
    for forget in range(2):  # it is found missing at the first program, and before
        if forget:
            forget_instructions()
        compiled, random = tg.compile(function), np.random.default_rng(0)
        for _ in range(6):
            agrees(function, compiled, random.normal(size=3))
        assert compiled.stats()["machine"] == 0
        assert compiled.stats()["replays"] > 0
    assert lowering.isa() is None
    forget_instructions()


def forget_instructions():
    lowering.isa.cache_clear()
    lowering.lanes_isa.cache_clear()


@needs_code
def test_memory_is_given_back(hot):
    compiled = tg.compile(F.value_and_grad(lambda x, k: (x * float(k)).sum()))
    compiled(np.ones(3), "7")
    compiled(np.ones(3), "7")
    ((of, _, _),) = compiled._programs
    known = weakref.ref(of.lowered.code)
    del compiled, of
    gc.collect()
    assert known() is None


@needs_code
def test_threads_share_code(hot):
    function = F.value_and_grad(of_scalars)
    compiled, failures = tg.compile(function), []
    given = np.random.default_rng(5).normal(size=(12, 3))
    want = [bits(function(x)) for x in given]

    def work():
        for k in range(24):
            x, of = given[k % 12], want[k % 12]
            if bits(compiled(x)) != of:
                failures.append(k)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    codes = {id(of.lowered.code) for of, _, _ in compiled._programs if of.lowered is not None}
    assert len(codes) == compiled.stats()["machine"] > 1


@needs_code
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_children_go_on(hot):
    function = F.value_and_grad(of_scalars)
    compiled, x = tg.compile(function), np.array([0.3, -0.2, 0.9])
    for _ in range(3):
        want = bits(compiled(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        os._exit(0 if bits(compiled(x)) == want else 1)
    assert os.waitpid(child, 0)[1] == 0


@needs_code
def test_files_and_jitted_code(hot):
    import numba

    function = F.value_and_grad(of_scalars)
    compiled, x = tg.compile(function), np.array([0.3, -0.2, 0.9])
    of, slope = compiled.jitted(x), np.empty(3)
    assert bits((numba.njit(lambda x, slope: of(x, slope))(x, slope), slope)) == bits(function(x))
    file = io.BytesIO()
    compiled.save(file)
    file.seek(0)
    loaded = tg.load(file)
    for _ in range(3):
        agrees(function, loaded, x)
    assert loaded.stats()["machine"] == 1
