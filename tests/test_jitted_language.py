"""What Numba compiles is differentiated: construct, program, arguments.

The value is the plain call's to the last bit; the gradient is that of the same program with a complex step, run by
Python, or a formula where Python's complex numbers can't run it.
"""

import heapq
from collections import namedtuple

import numba as nb
import numpy as np
import pytest
from numba import guvectorize, literal_unroll, njit, vectorize
from numba.experimental import jitclass, structref
from numba.typed import Dict, List
from thoroughness import thorough

import tapegrad as tg

if nb.config.DISABLE_JIT:
    pytest.skip("there is no compiler, and so there are no types of classes", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::numba.core.errors.NumbaWarning")
X = np.array([1.3, 0.4, 3.1, -0.7])
CASES = []


def case(construct, gradient=None, marks=()):
    """A function of a vector, and its gradient, if it isn't that of a complex step."""

    def enter(function):
        CASES.append(pytest.param(function, gradient, id=construct.replace(" ", "_"), marks=marks))
        return function

    return enter


def by_complex_step(function, x):
    step = 1e-30
    return [function(x + 1j * step * unit).imag / step for unit in np.eye(x.size)]


# --- parameters and results -------------------------------------------------------------------------------------------


@njit
def squares(*xs):
    total = 0.0
    for x in xs:
        total += x * x
    return total


@njit
def numbered(a, *xs):
    for i, x in enumerate(xs):
        a += i * x * x
    return a


@case("star arguments", lambda x: [2 * x[0] + 1, 2 * x[1], 2 * 2.0 * x[2], 0])
def star_arguments(x):
    both = (x[0], x[1])
    return squares(*both) + squares(x[0] * 0.0, 2.0) + numbered(x[0], 3.0, x[2]) + x[2] * x[2]


@njit
def square_or_none(v):
    if v > 0:
        return v * v
    return None


@case("functions that may return None", lambda x: [0, x[2], x[1], 0])
def may_be_none(x):
    found = square_or_none(x[3])
    best = None
    for v in x:
        if best is None or v > best:
            best = v
    if best is not None:
        best += 0 * x[2]
    return best * x[1] if found is None else found


@case("arrays that may be None")
def arrays_that_may_be_none(x):
    found = None if x.size == 7 else x * x
    return np.asarray(found).sum()


# --- errors -----------------------------------------------------------------------------------------------------------


@case("values in the messages of errors", lambda x: [2 * x[0], 0, 0, 0])
def messages(x):
    if x[0] < 0:
        raise ValueError("negative", x[0], f"{x.size} of {x[0]}" + str(x[1]))
    return x[0] ** 2


# --- containers -------------------------------------------------------------------------------------------------------


@case("sets of values", lambda x: [2 * x[0], 2 * x[1], 2, 0])
def sets(x):
    s = {x[0], x[1], x[0]}
    s.add(x[1])
    s.add(7.0)
    s.remove(7.0)
    s.discard(8.0)
    total = 0.0
    for v in s:
        total += v * v
    return total + len(s) * x[2] if x[0] in s and x[3] not in s else total


@case("typed lists and dictionaries made inside", lambda x: [x[1] * x[2], x[0] * x[2], x[0] * x[1], 2 * x[3]])
def typed_containers(x):
    items, named = List(), Dict()
    for v in x[:3]:
        items.append(v)
    named["last"] = x[3] * x[3]
    return items[0] * items[1] * items[2] + named["last"]


@njit
def minus(v):
    return -v


@case("sorting by a key, and tuples", lambda x: [1 - 7, 0, 2 + 5, 3], marks=thorough)
def sorted_by_key(x):
    items = [v for v in x]  # noqa: C416  it is this that Numba compiles
    items.sort(key=minus)
    pairs = [(v, i) for i, v in enumerate(x)]
    pairs.sort(reverse=True)
    of_pairs = pairs[0][0] * 5 - pairs[1][0] * 7 + pairs[3][1]
    return items[0] * 2 + items[1] + sorted(x, key=minus)[3] * 3 + of_pairs


@case("tuples in lists and dictionaries that begin without derivatives", lambda x: [0, x[3], 0, 4 + x[1]])
def queue(x):
    waiting = [(0.0, 0)]
    for i in range(4):
        heapq.heappush(waiting, (x[i], i))
    y, i = heapq.heappop(waiting)
    of_one = {0: (1.0, 0)}
    of_one[0] = (x[1], 1)
    return y * (i + 1) + of_one[0][0] * x[3]


@case("map and filter", lambda x: [2 * x[0] + 1, 2 * x[1] + 1, 2 * x[2] + 1, 2 * x[3]])
def map_and_filter(x):
    total = 0.0
    for v in map(lambda t: t * t, x):  # noqa: C417  likewise
        total += v
    for v in filter(lambda t: t > 0, x):
        total += v
    return total


@case("tuples of values and constants", lambda x: [2 * x[0] + 2 * x[1], 2 * x[0] + 3, 0, 0])
def mixed_tuples(x):
    t = (x[0], 2.0, x[1])
    total = 0.0
    for i in range(3):
        total += t[i] * x[0] if i == 0 else t[i]
    for a, b in zip((x[1], 2.0), (x[0], x[1])):
        total += a * b
    for v in (x[0] * x[1], 0.0):
        total += v
    return total


Pair = namedtuple("Pair", "a b")


@case("literal_unroll over values of several types", lambda x: [3.0, 0, 0, 1])
def unrolled(x):
    total = 0.0
    for v in literal_unroll((x[0], 2, x[3:])):
        total += np.sum(np.asarray(v) * 1.0)
    return total + 2 * Pair(x[0], b=x[1]).a


# --- functions --------------------------------------------------------------------------------------------------------


@njit
def square(v):
    return v * v


@njit
def cube(v):
    return v * v * v


@njit
def one(v):
    return 1.0


@case("functions chosen at run time")
def chosen(x):
    total = 0.0 * x[0]
    for i in range(4):
        f = square if i == 0 else cube
        if i == 3:
            f = one
        total += f(x[i]) * x[3]
    return total


@nb.cfunc("float64(float64)")
def callback(v):
    return v * v


@case("C callbacks", lambda x: [2 * x[0] * x[1], x[0] ** 2, 0, 0])
def callbacks(x):
    return callback(x[0]) * x[1]


@case("comprehensions of dictionaries", lambda x: [0, 2 * x[1], 4 * x[2], 1])
def comprehensions(x):
    squares = {i: x[i] * x[i] for i in range(3)}
    squares[3] = 1.0
    total = squares[3] * x[3]
    for i, v in squares.items():
        total += i * v
    return total


@vectorize
def product_or_sum(a, b):
    return a * b / 2.0 if a > b else a + b


@vectorize(["int64(int64, int64)", "float64(float64, float64)"])
def declared(a, b):
    return a * b + a


@case("functions made by vectorize", lambda x: [1 + 2 + 4, 1 + 4, 1.25 + 4, 1 + 4])
def vectorised(x):
    out = np.empty(4)
    product_or_sum(x, 2.5, out)
    return out.sum() + product_or_sum(x[0], 4) * 2 + declared(x, 3).sum()


@guvectorize([(nb.float64[:], nb.float64[:], nb.float64[:])], "(n),(n)->()")
def inner(a, b, out):
    out[0] = 0.0
    for i in range(a.size):
        out[0] += a[i] * b[i]


@guvectorize([(nb.float64[:], nb.float64, nb.float64[:])], "(n),()->(n)")
def scaled(a, b, out):
    for i in range(a.size):
        out[i] = a[i] * b


@case("functions made by guvectorize", lambda x: [6 * x[0] + x[1:].sum() + 2 * x[0], *(6 * x[1:] + x[0])])
def over_arrays(x):
    out, products = np.zeros(3), np.zeros(4)
    inner(x, np.ones((3, 1)) * x, out)
    scaled(x, x[0], products)
    return out.sum() + products.sum()


@case("ufuncs that write into an array")
def into_arrays(x):
    out = np.empty(4) * x[0]
    np.multiply(x, x, out)
    np.sin(out, out)
    np.add(out, 1.0, out)
    return out.sum()


@case("sums in while loops that are always entered")
def always_entered(x):
    i, total = 0, 0.0
    while True:
        total += x[i] * x[i]
        i += 1
        if i > 3:
            break
    twice = 0.0
    while i > 0:
        i -= 1
        twice -= x[i] * total
    twice = twice * 2
    return twice * x[0]


# --- classes ----------------------------------------------------------------------------------------------------------


@jitclass([("a", nb.float64), ("w", nb.float64[:]), ("n", nb.int64)])
class Polynomial:
    def __init__(self, a, w):
        self.a = a
        self.w = w
        self.n = 0

    def at(self, x):
        self.n += 1
        return self.a * x + self.w[0] * x * x

    def mean(self, x):
        return self.a * x

    def sort(self, a, b, c):
        return self.a * (a + b + c)

    def __getitem__(self, k):
        return self.a * self.w[k]

    def __setitem__(self, k, value):
        self.w[k] = self.a * value

    @property
    def double(self):
        return 2 * self.a

    @double.setter
    def double(self, value):
        self.a = value / 2


@jitclass([("inner", Polynomial.class_type.instance_type), ("items", nb.types.ListType(nb.float64))])
class Holder:
    def __init__(self, p, x):
        self.inner = p
        self.items = List.empty_list(nb.float64)
        self.items.append(x)

    def product(self):
        return self.inner.at(self.items[0])


def gradient_of_classes(x):
    return [x[1] + 2 * x[1] ** 2 + 1 + x[3] + 6.0, x[0] + 4 * x[0] * x[1], 3 * x[2] ** 2, x[0]]


@case("jitclass made of values", gradient_of_classes)
def classes(x):
    p = Polynomial(x[0], np.array([2 * x[0]]))
    p.double = p.double
    like_arrays = p.mean(x[3]) + p.sort(1.0, 2.0, 3.0)
    return like_arrays + p.at(x[1]) + p.n * x[0] + Holder(Polynomial(0.0, np.array([x[2]])), x[2]).product()


later = nb.deferred_type()


@jitclass([("value", nb.float64), ("left", nb.optional(later)), ("weight", nb.optional(nb.float64))])
class Node:
    def __init__(self, value):
        self.value = value
        self.left = None
        self.weight = None


later.define(Node.class_type.instance_type)


def gradient_of_linked(x):
    return [2 * x[0] + 4 * x[3], 2 * x[1], 2 * x[2], 2 * x[3] + 4 * x[0]]


@case("jitclass of nodes, and fields that may be None", gradient_of_linked)
def linked(x):
    node = Node(x[0])
    for v in x[1:]:
        above = Node(v)
        above.left = node
        node = above
    node.weight = 4.0 * node.value
    total = 0.0
    while True:
        total += node.value**2
        below = node.left
        if below is None:
            return total + (Node(x[3] * 4.0) if node.weight is None else node).value * x[0]
        node = below


@njit
def products(x, n):
    for k in range(n):
        yield x[0] * x[k]


def gradient_of_unseen_calls(x):
    return [7 + 3 * x[0] + x.sum() + x[1] + x[2] + x[3], 1 + 2 * x[0], 1 + 2 * x[0], 1 + 2 * x[0]]


@case("sums in loops that run methods and generators without a call", gradient_of_unseen_calls)
def unseen_calls(x):
    p = Polynomial(x[0], x.copy())
    total = 0.0
    for _ in range(3):
        total += p.double
    for k in range(4):
        total += p[k]
    for _, y in enumerate(products(x, 3)):
        total += y
    for k in range(4):
        p[k] = x[k]
        total += x[k]
    return total + p.w[3]


@structref.register
class StateType(nb.types.StructRef):
    def preprocess_fields(self, fields):
        return tuple((name, nb.types.unliteral(kind)) for name, kind in fields)


class State(structref.StructRefProxy):
    def __new__(cls, a, w):
        return structref.StructRefProxy.__new__(cls, a, w)


structref.define_proxy(State, StateType, ["a", "w"])


@case("structref made of values", lambda x: [2 * x[0] * x[1] * 4, x[0] ** 2 * 4, 0, 0])
def structures(x):
    s = State(x[0], np.array([x[1], 4.0]))
    s.a = s.a * x[0]
    s.w[0] = s.a * s.w[0]
    return s.w[0] * s.w[1]


# --- types that differ by whether they have derivatives ---------------------------------------------------------------


Swapped = namedtuple("Swapped", "p q")


@case("a named tuple that begins without derivatives")
def named_tuple_that_varies(x):
    pair = Swapped(0.0, q=0.0)
    for i in range(2):
        pair = Swapped(pair.q + x[0], pair.p + x[i])
    return pair.p * pair.q


@njit
def powers(x, n):
    return x if n <= 0 else 0.5 * x * powers(x, n - 1)


@case("a plain function that calls itself")
def recursion_without_derivatives(x):
    return x[0] * powers(2.5, 3) + powers(x[1], 2)


@case("complex numbers of both precisions", lambda x: [np.float32(x[1]), x[0], 0, 0])
def complex_and_float32(x):
    z = complex(x[0], np.float32(0.5)) * np.float32(x[1])
    return z.real


@case("the class of a number")
def made_by_class(x):
    kind = type(x[0])
    made = np.zeros(2, kind)
    made[0] = kind(2) * x[1] * kind(x[0])
    made[1] = made.dtype.type(3) * x[2] + x.dtype.type(x[3]) ** 2
    return made[0] * made[1]


@case("the classes of NumPy's integers", lambda x: [1, -1, 2 * 3, 2])
def whole_numbers(x):
    kept = np.zeros(2, np.int32)
    kept[np.uint8(x[1])] = np.int32(x[2])
    return x[0] * np.int64(x[0] + 0.5) + kept[0] * x[2] * 2 + x[3] * (np.int8(x[3] - 2.5) + 5) - x[1] * np.bool_(x[3])


# --- all of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "gradient"), CASES)
def test_construct(function, gradient):
    jitted = njit(function)
    plain = jitted(X)
    value, found = tg.func.value_and_grad(jitted)(X)
    np.testing.assert_equal(value, plain)
    wanted = by_complex_step(function, X) if gradient is None else gradient(X)
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)
    tangent = np.array([0.3, -1.0, 0.5, 2.0])
    value, slope = tg.func.jvp(jitted, (X,), (tangent,))
    np.testing.assert_equal(value, plain)
    np.testing.assert_allclose(slope, np.dot(wanted, tangent), rtol=1e-13, atol=1e-13)


def test_parameters_given_by_keyword_only_and_any_number_of_them():
    @njit
    def power(x, *, factor=2.0, n=3):
        return factor * x**n

    assert tg.func.grad(power)(1.5, factor=4.0) == 4.0 * 3 * 1.5**2
    assert tg.func.grad(power, argnums=(0, 1))(1.5, n=2) == (2.0 * 2 * 1.5, 1.5**2)
    assert tg.func.grad(numbered, argnums=(0, 2))(1.0, 2.0, 3.0) == (1.0, 6.0)
    assert tg.func.grad(squares, argnums=1)(1.0, 2.0) == 4.0


def test_a_result_without_dimensions_is_a_number():
    @njit
    def total(x):
        out = np.zeros(())
        out[()] = (x * x).sum()
        return out

    np.testing.assert_array_equal(tg.func.grad(total)(X), 2 * X)


def test_a_result_that_is_none_is_an_error_of_the_call():
    f = njit(square_or_none.py_func)
    assert tg.func.grad(f)(2.0) == 4.0
    for transform in (tg.func.grad, tg.func.jacfwd, tg.func.jacrev):
        with pytest.raises(RuntimeError, match="returned None"):
            transform(f)(-1.0)


def test_typed_containers_as_arguments():
    f = njit(lambda x: x[0] * x[1] ** 2)
    found = tg.func.grad(f)(List([2.0, 3.0]))
    assert isinstance(found, List)
    assert list(found) == [9.0, 12.0]
    named = Dict()
    named["a"], named["b"] = 2.0, 3.0
    found = tg.func.grad(njit(lambda d: d["a"] * d["b"] ** 2))(named)
    assert isinstance(found, Dict)
    assert dict(found) == {"a": 9.0, "b": 12.0}
    arrays = List([X, 2 * X])
    first, second = tg.func.grad(njit(lambda x: (x[0] * x[1]).sum()))(arrays)
    np.testing.assert_array_equal(first, 2 * X)
    np.testing.assert_array_equal(second, X)


def test_containers_that_are_written_to_show_what_was_written():
    @njit
    def write(x, items):
        items[0] = 2 * x
        items.append(x)
        return items[0] * items[2]

    @njit
    def enter(x, named):
        named["new"] = x * x
        return named["new"] * named["old"]

    for items in ([1.0, 5.0], List([1.0, 5.0])):
        assert tg.func.grad(write)(3.0, items) == 12.0
        assert list(items) == [6.0, 5.0, 3.0]
    named = Dict()
    named["old"] = 2.0
    assert tg.func.grad(enter)(3.0, named) == 12.0
    assert dict(named) == {"old": 2.0, "new": 9.0}


def test_instances_that_are_arguments():
    @njit
    def evaluated(x, p):
        return p.at(x) * p.double

    @njit
    def changed(x, p):
        p.a = x * x
        p.w[0] = x
        p.n += 1
        return p.a * p.w[0]

    w = np.array([3.0, 1.0])
    p = Polynomial(2.0, w)
    assert tg.func.grad(evaluated)(1.5, p) == (2.0 + 6.0 * 1.5) * 4.0
    assert p.n == 1
    assert tg.func.hessian(changed)(1.5, p) == 6 * 1.5
    assert (p.n, p.a, p.w[0], w[0]) == (2, 2.25, 1.5, 1.5)
    s = State(2.0, np.ones(2))
    product = njit(lambda x, s: s.a * x * s.w[0])
    assert tg.func.grad(product)(1.5, s) == 2.0


def test_what_is_in_two_arguments_that_are_copied_is_refused():
    def write(x, a, b):
        a[0] = 2 * x
        return b[0] * x

    items = [1.0, 2.0]
    with pytest.raises(ValueError, match="give copies"):
        tg.func.grad(njit(write))(3.0, items, items)
    w = np.ones(2)
    changing = njit(lambda x, p, w: p.at(x) * w[0])
    for _ in range(2):
        with pytest.raises(ValueError, match="give copies"):
            tg.func.grad(changing)(3.0, Polynomial(1.0, w), w)
        assert tg.func.grad(changing)(3.0, Polynomial(1.0, w), w.copy()) == 7.0


def test_instances_are_no_results():
    for f in (njit(lambda x: Polynomial(x, np.array([x]))), njit(lambda x: (x, State(x, x)))):
        with pytest.raises(RuntimeError, match=r"an instance of a class"):
            tg.func.jacrev(f)(1.5)
