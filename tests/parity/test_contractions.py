"""Products beside PyTorch: what is refused, and gradients."""

import pytest

from .oracle import agree, agree_or_refuse_alike

GIVEN = """\
a, b, v = tg.arange(6.0).reshape(2, 3), tg.arange(12.0).reshape(3, 4), tg.arange(3.0); c = tg.ones(2, 3, 4)
i = tg.arange(6).reshape(2, 3); f = a.to(tg.float32); t = tg.tensor([True, False, True])
"""
PROGRAMS = """
tg.einsum("ij,jk", a, b)
tg.einsum("ij,jk->ki", a, b)
tg.einsum("ij->", a)
tg.einsum("ij,j", a, v)
tg.einsum("...j,j->...", c.transpose(1, 2), v)
tg.einsum("Ab,bC", a, b)
tg.einsum("ij,kl", a, b).shape
tg.einsum("ij,jk", a, a)
tg.einsum("ij,jk", a)
tg.einsum("ij", a, b)
tg.einsum("ijk", a)
tg.einsum("i", a)
tg.einsum("ij->iij", a)
tg.einsum("ij->k", a)
tg.einsum("ii", a)
tg.einsum("i.j", a)
tg.einsum("i1", a)
tg.einsum("ij,jk", f, b)
tg.einsum("ij,ij->i", i, i)
tg.einsum("ij->i", i.to(tg.int32))
tg.einsum("i,i", t, t)
tg.einsum(a, [0, 1], b, [1, 2], [2, 0])
tg.einsum(a, [0, 1])
tg.einsum(a, [0, 60])
tg.einsum("ij,jk", 1, "x")
tg.tensordot(a, b, 1)
tg.tensordot(a, b, 2)
tg.tensordot(a, b, ([1], [0]))
tg.tensordot(a, b, ([0], [0]))
tg.tensordot(c, b, ([1, 2], [0, 1]))
tg.tensordot(c, b, ([1, 2], [0]))
tg.tensordot(a, b, -1)
tg.tensordot(a, f, ([0, 1], [0, 1]))
tg.cross(v, v + 1)
tg.cross(a, a * a + 1)
tg.cross(tg.ones(3, 2), tg.ones(3, 2))
tg.cross(b, b)
tg.cross(b[:2], b[:2])
tg.linalg.cross(a, v)
tg.linalg.cross(a, v + tg.zeros(1, 3))
tg.linalg.cross(b, b)
tg.linalg.vecdot(a, v)
tg.linalg.vecdot(a, b)
tg.linalg.vecdot(i, f)
tg.vdot(v, v)
tg.vdot(a, a)
tg.kron(a, b).shape
tg.kron(i, v)
tg.linalg.matrix_power(a, 2)
tg.linalg.matrix_power(v, 2)
tg.linalg.matrix_power(a @ a.T, 3)
tg.linalg.matrix_power(i @ i.T, 0)
tg.linalg.multi_dot([a, b, b.T])
tg.linalg.multi_dot([a])
tg.linalg.multi_dot([a, a])
tg.linalg.multi_dot([v, b, v])
tg.linalg.multi_dot([a, v, b])
tg.linalg.vander(v, N=4)
tg.linalg.vander(v)
tg.linalg.vander(i)
tg.linalg.vander(v, N=1)
tg.vander(v)
tg.vander(v, 2, increasing=True)
tg.vander(a)
tg.addmm(tg.ones(4), a, b)
tg.addmm(tg.ones(3), a, b)
tg.addmm(tg.ones(4), a, b, beta=2, alpha=0.5)
tg.addmm(tg.ones(4), v, b)
tg.addmm(tg.ones(4, dtype=tg.float32), a, b)
tg.addmv(tg.ones(2), a, v)
tg.addmv(tg.ones(3), a, v)
tg.addr(tg.ones(3, 2), v, v[:2], beta=0.5)
tg.addr(tg.ones(3, 2), a, v)
tg.addr(i[0], v[:2], v)
tg.baddbmm(tg.ones(2, 3, 3), c, c.transpose(1, 2))
tg.baddbmm(tg.ones(2), c, c)
tg.addbmm(tg.ones(3, 3), c, c.transpose(1, 2))
tg.ones(2, 4).addmm_(a, b)
tg.ones(4).addmm_(a, b)
tg.ger(v, v)
"""


@pytest.mark.parametrize("program", PROGRAMS.strip().split("\n"))
def test_values_and_refusals(program: str):
    agree_or_refuse_alike(f"{GIVEN}{program}", text=False)


GRADIENTS = """
tg.einsum("ij,jk,k", x, y, z)
tg.einsum("ij,kj->ikj", x, y.T)
tg.einsum("jj", y[:, :3])
tg.cross(x, y.T[:2])
tg.linalg.matrix_power(y[:, :3], 3)
tg.linalg.vander(z, N=3)
tg.linalg.vander(z * 0.0, N=3)
tg.addmm(z, x, y, beta=2, alpha=3)
tg.addmm(z, x, y, beta=0)
tg.addbmm(x[:, :2], y.reshape(3, 2, 2), y.reshape(3, 2, 2))
tg.kron(x, y)
tg.linalg.multi_dot([x, y, z])
(x @ y).addmm_(x, y)
"""


@pytest.mark.parametrize("program", GRADIENTS.strip().split("\n"))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients(program: str, dtype: str):
    agree(
        f"x, y, z = (tg.tensor(reals(*s), dtype=tg.{dtype}, requires_grad=True) for s in ((2, 3), (3, 4), (4,))); "
        f"r = {program}; g = tg.autograd.grad((r * r).sum(), (x, y, z), allow_unused=True)",
        text=False,
    )
