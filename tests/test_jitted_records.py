"""Records, and arrays of them, in jitted functions: arguments, made inside, written to."""

import numpy as np
import pytest
from numba import config, njit

import tapegrad as tg

if config.DISABLE_JIT:
    pytest.skip("there is no compiler", allow_module_level=True)


def body_of(real):
    """A dtype whose floats are of another, with fields out of line."""
    orbit = [("u", real), ("k", np.int8)]
    fields = [("n", np.int32), ("x", real), ("v", real, (2, 2)), ("name", "U3"), ("orbit", orbit), ("real", real)]
    return np.dtype(fields)


BODY = body_of(np.float64)


def bodies(dtype=BODY, n=3):
    rng = np.random.default_rng(5)
    made = np.zeros(n, dtype)
    made["n"], made["name"] = np.arange(n) + 2, "abc"
    for field in ("x", "v", "real"):
        made[field] = rng.uniform(0.5, 1.5, made[field].shape)
    made["orbit"]["u"] = rng.uniform(0.5, 1.5, n)
    return made


def energy(a, rest):
    dtype = a.dtype
    total = a[0].x * 0
    for i in range(a.size):
        p = a[i]
        total += p.x * p.n + p.v[0, 1] * p["x"] + p.orbit.u**2 + p["real"] * len(p.name)
        p.x = p.x * p.v[1, 1]
        a[i].v[1, 0] = p.x * 2
    made = np.zeros(2, dtype)
    made[0].x = a[1].x
    made[1] = a[0]
    made[1].orbit.u = made[0].x * made[1].x
    like = np.zeros_like(a)
    like["x"][2] = made[1].orbit.u
    rest[0].x = like[2].x
    rest[1].n = 7
    kept = a.copy()
    kept[0] = a[1]
    return total + a["v"][:, 1].sum() + kept["x"].sum() * like.x.sum() + rest[0].x


def by_complex_step(a, rest):
    wide = body_of(np.complex128)
    found = np.zeros(a.shape, BODY)
    at = [(("x",), ()), *((("v",), (i, j)) for i in range(2) for j in range(2)), (("orbit", "u"), ()), (("real",), ())]
    for k in range(a.size):
        for path, place in at:
            moved, result = a.astype(wide).view(np.recarray), found[k : k + 1]
            field = moved
            for name in path:
                field, result = field[name], result[name]
            field[(k, *place)] += 1e-30j
            result[(0, *place)] = energy(moved, rest.astype(wide).view(np.recarray)).imag / 1e-30
    return found


def dot(a, b):
    return sum(np.vdot(a[f], b[f]) for f in ("x", "v", "real")) + np.vdot(a["orbit"]["u"], b["orbit"]["u"])


def test_arrays_of_records():
    jitted, a, rest, plain_rest = njit(energy), bodies(), bodies(n=2), bodies(n=2)
    plain = jitted(a.copy(), plain_rest)
    value, gradient = tg.func.value_and_grad(jitted)(a, rest)
    assert value == plain
    assert (a == bodies()).all()
    assert (rest == plain_rest).all()
    assert gradient.dtype == BODY
    wanted = by_complex_step(a, bodies(n=2))
    for field in ("x", "v", "real"):
        np.testing.assert_allclose(gradient[field], wanted[field], rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(gradient["orbit"]["u"], wanted["orbit"]["u"], rtol=1e-13, atol=1e-13)
    along = bodies()[::-1].copy()
    _, slope = tg.func.jvp(jitted, (a, bodies(n=2)), (along, np.zeros(2, BODY)))
    np.testing.assert_allclose(slope, dot(gradient, along), rtol=1e-13)
    with pytest.raises(TypeError, match="is of that dtype too"):
        tg.func.jvp(jitted, (a, rest), (np.ones(3), rest))


def test_a_record_by_itself():
    weights = np.dtype([("w", np.float32, (2,)), ("z", np.complex128), ("b", np.float64)])
    p = np.zeros(2, weights)
    p[1] = ([2.0, 3.0], 1.0 + 2.0j, 0.5)

    @njit
    def f(r, x):
        return r.w[0] * r.w[1] * r.b * x + (r.z * r.z).real * x

    value, (by_record, by_x) = tg.func.value_and_grad(f, argnums=(0, 1))(p[1], 2.0)
    assert value == f(p[1], 2.0)
    assert (type(by_record), by_record.dtype) == (np.void, weights)
    assert by_record.tolist()[1:] == (4.0 - 8.0j, 12.0)
    assert by_record["w"].tolist() == [3.0, 2.0]
    assert by_x == f(p[1], 1.0)
    rows = njit(lambda r: np.array([r.b * r.b, r.z.imag * r.w[1]]))
    for jacobian in (tg.func.jacfwd(rows)(p[1]), tg.func.jacrev(rows)(p[1])):
        assert jacobian["b"].tolist() == [1.0, 0.0]
        assert jacobian["z"].tolist() == [0.0, 3.0j]
        assert jacobian["w"].tolist() == [[0.0, 0.0], [0.0, 2.0]]


def test_what_records_cannot_do_is_told():
    a = bodies()
    with pytest.raises(TypeError, match="array of \\[\\('n', '<i8'\\)\\]"):
        tg.func.grad(njit(lambda a: a[0].n * 1.0))(np.zeros(2, [("n", np.int64)]))
    with pytest.raises(RuntimeError, match="this one returns a record"):
        tg.func.grad(njit(lambda a: a[0]))(a)
    with pytest.raises(tg.jitted.NotDifferentiableError, match="attribute `nbytes`"):
        tg.func.grad(njit(lambda a: a.nbytes * a[0].x))(a)
    with pytest.raises(ValueError, match="may write to arguments that share memory"):
        tg.func.grad(njit(lambda a, x: a[0].x * x[0]))(a, a["x"])
    with pytest.raises(TypeError, match="are of numbers, not of records"):
        tg.func.hessian(njit(lambda a: a[0].x ** 2))(a)
