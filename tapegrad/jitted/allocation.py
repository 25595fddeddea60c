"""Arrays made, and seen as vectors.

NumPy's `empty`, `zeros` and `reshape` would do in compiled code, but each takes Numba as long to compile as all that a
driver does with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.extending import intrinsic
from numba.np import arrayobj

from tapegrad.jitted.inner import inside

MANAGE_MEMORY = 2  # of the functions that Numba publishes for memory that others have allocated


@intrinsic
def array_like(typingctx, kind, x):
    """An array of another type, of the shape of `x`."""
    made = types.Array(kind.instance_type, x.ndim, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = arrayobj.make_array(sig.args[1])(context, builder, args[1])
        shape = cgutils.unpack_tuple(builder, given.shape, x.ndim)
        value = arrayobj._empty_nd_impl(context, builder, made, shape)._getvalue()
        return impl_ret_new_ref(context, builder, made, value)

    return made(kind, x), codegen


@intrinsic
def zeros_of(typingctx, kind, shape):
    """An array of zeros, passive where they are active scalars."""
    made = types.Array(kind.instance_type, 1 if isinstance(shape, types.Integer) else len(shape), "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        lengths = arrayobj._parse_shape(context, builder, sig.args[1], args[1])
        array = arrayobj._empty_nd_impl(context, builder, made, lengths)
        cgutils.memset(builder, array.data, builder.mul(array.itemsize, array.nitems), 0)
        return impl_ret_new_ref(context, builder, made, array._getvalue())

    return made(kind, shape), codegen


@intrinsic
def vector_of(typingctx, n):
    """A vector of `n` floats."""
    made = types.Array(types.float64, 1, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = arrayobj._empty_nd_impl(context, builder, made, args)._getvalue()
        return impl_ret_new_ref(context, builder, made, value)

    return made(types.int64), codegen


@intrinsic
def copy_from(typingctx, x, address):
    """Give the elements of a contiguous array the values that are at an address."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = arrayobj.make_array(sig.args[0])(context, builder, args[0])
        given = builder.inttoptr(args[1], array.data.type)
        cgutils.raw_memcpy(builder, array.data, given, array.nitems, array.itemsize)
        return context.get_dummy_value()

    return types.void(x, types.int64), codegen


@intrinsic
def taking_over(typingctx, x, memory, free, place):
    """A contiguous array like `x` at a place in memory that is its own from now on, and let go of by `free`."""
    made = types.Array(x.dtype, x.ndim, "C")

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = arrayobj.make_array(sig.args[0])(context, builder, args[0])
        array = arrayobj.make_array(made)(context, builder)
        pointers = cgutils.voidptr_t, cgutils.voidptr_t
        manage = ir.FunctionType(cgutils.voidptr_t, pointers).as_pointer()
        table = builder.bitcast(context.nrt.get_nrt_api(builder), manage.as_pointer())
        owned, at_end = (builder.inttoptr(address, cgutils.voidptr_t) for address in args[1:3])
        meminfo = builder.call(builder.load(cgutils.gep(builder, table, MANAGE_MEMORY)), [owned, at_end])
        shape, size = cgutils.unpack_tuple(builder, given.shape, x.ndim), context.get_constant(types.intp, 8)
        strides = [size] * x.ndim
        for k in reversed(range(x.ndim - 1)):
            strides[k] = builder.mul(strides[k + 1], shape[k + 1])
        data = builder.inttoptr(args[3], array.data.type)
        arrayobj.populate_array(array, data, shape, strides, size, meminfo)
        return impl_ret_new_ref(context, builder, made, array._getvalue())

    return made(x, *[types.int64] * 3), codegen


@intrinsic
def flat_view(typingctx, x):
    """All elements of a contiguous array, as a vector that shares them."""
    assert x.layout == "C"
    made = types.Array(x.dtype, 1, "C", readonly=not x.mutable, aligned=x.aligned)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        given = arrayobj.make_array(sig.args[0])(context, builder, args[0])
        view = arrayobj.make_array(made)(context, builder)
        arrayobj.populate_array(
            view, data=given.data, shape=[given.nitems], strides=[given.itemsize], itemsize=given.itemsize,
            meminfo=given.meminfo, parent=given.parent,
        )  # fmt: skip
        return impl_ret_borrowed(context, builder, made, view._getvalue())

    return made(x), codegen


@inside
def _flat_copy(x):
    return flat_view(np.ascontiguousarray(x))


def flat_of(x: Any) -> Any:
    """The function that gives the elements of an array of this type, as a vector."""
    return flat_view if x.layout == "C" else _flat_copy
