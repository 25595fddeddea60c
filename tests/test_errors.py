"""Bad input: what is said, and that nothing is harmed by it.

Each message starts as PyTorch's does. After each error the tape has no new row, and a world of tensors that was there
before (a leaf with a gradient, a value that was seen, one that is recorded but not yet computed, one of each kind of
view) has its values and its gradients, and can still be computed with.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import tapegrad as tg


@contextmanager
def refused(error: type[Exception], phrase: str) -> Iterator[pytest.ExceptionInfo]:
    """The block raises `error`, its message holds `phrase`, and the world is as it was."""
    leaf = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (leaf**2).sum().backward()
    seen, pending, view = leaf * 3, leaf * leaf, leaf.T
    assert seen.tolist() == [[3.0, 6.0], [9.0, 12.0]]
    counts = tg.tensor([1, 2, 3])
    rows = len(tg.current_tape())

    with pytest.raises(error, match=re.escape(phrase)) as info:
        yield info

    assert len(tg.current_tape()) <= rows
    assert tg.is_grad_enabled()
    assert leaf.tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert leaf.grad.tolist() == [[2.0, 4.0], [6.0, 8.0]]
    assert pending.tolist() == [[1.0, 4.0], [9.0, 16.0]]
    assert view.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert (counts + 1).tolist() == [2, 3, 4]
    (seen + pending + view * view).sum().backward()
    assert leaf.grad.tolist() == [[2 + 3 + 2 + 2.0, 4 + 3 + 4 + 4.0], [6 + 3 + 6 + 6.0, 8 + 3 + 8 + 8.0]]


# Who can require gradients


@pytest.mark.parametrize("value", [2, [1, 2], True, [True, False]])
def test_only_floating_point_tensors_require_gradients(value):
    with refused(RuntimeError, "Only Tensors of floating point and complex dtype can require gradients"):
        tg.tensor(value, requires_grad=True)


def test_an_integer_tensor_cannot_be_made_to_require_gradients():
    x = tg.tensor([1, 2])
    with refused(RuntimeError, "nly Tensors of floating point"):
        x.requires_grad_()
    with refused(RuntimeError, "nly Tensors of floating point"):
        x.requires_grad = True
    assert not x.requires_grad
    assert x.tolist() == [1, 2]


def test_the_flag_of_a_result_cannot_be_changed():
    y = tg.ones(2, requires_grad=True) * 2
    with refused(RuntimeError, "you can only change requires_grad flags of leaf variables."):
        y.requires_grad_(False)
    assert y.requires_grad


# Shapes


def test_sizes_must_match():
    a, b = tg.ones(3, requires_grad=True), tg.ones(4)
    phrase = "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 0"
    with refused(RuntimeError, phrase):
        a + b
    with refused(RuntimeError, phrase):
        tg.maximum(a, b)
    plain = a.detach()
    with refused(RuntimeError, phrase):
        plain.mul_(b)
    with refused(RuntimeError, phrase):
        tg.atan2(a, b)
    assert a.tolist() == [1.0] * 3
    assert (a * 2).sum().item() == 6.0


def test_matrices_must_fit():
    a, b = tg.ones(2, 3, requires_grad=True), tg.ones(4, 5)
    for product in (tg.matmul, tg.mm, lambda a, b: a @ b):
        with refused(RuntimeError, "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"):
            product(a, b)
    assert (a @ b[:3]).shape == (2, 5)


def test_a_matrix_and_a_vector_must_fit():
    with refused(RuntimeError, "size mismatch, got input (2), mat (2x3), vec (4)"):
        tg.ones(2, 3) @ tg.ones(4)


def test_a_reshaped_tensor_keeps_its_elements():
    x = tg.ones(2, 3, requires_grad=True)
    with refused(RuntimeError, "shape '[4, 2]' is invalid for input of size 6"):
        x.reshape(4, 2)
    transposed = x.T
    with refused(RuntimeError, "view size is not compatible with input tensor's size and stride"):
        transposed.view(6)
    with refused(RuntimeError, "only one dimension can be inferred"):
        x.reshape(-1, -1)
    assert x.reshape(3, 2).shape == (3, 2)


def test_only_a_dimension_of_one_expands():
    with refused(RuntimeError, "The expanded size of the tensor (3) must match the existing size (2)"):
        tg.ones(2, 3).expand(3, 3)


def test_concatenated_tensors_must_fit():
    with refused(RuntimeError, "Sizes of tensors must match except in dimension 0"):
        tg.cat([tg.ones(2, 3), tg.ones(2, 4)])
    with refused(RuntimeError, "stack expects each tensor to be equal size"):
        tg.stack([tg.ones(2), tg.ones(3)])
    with refused(RuntimeError, "stack expects a non-empty TensorList"):
        tg.stack([])


# Dtypes


def test_factors_of_a_product_have_one_dtype():
    a, b = tg.ones(2, 2), tg.ones(2, 2, dtype=tg.float32)
    with refused(RuntimeError, "expected m1 and m2 to have the same dtype, but got: double != float"):
        a @ b
    assert (a * b).dtype is tg.float64


def test_in_place_results_fit_the_dtype():
    x = tg.tensor([1, 2])
    with refused(RuntimeError, "can't be cast to the desired output type"):
        x += 0.5
    with refused(RuntimeError, "can't be cast to the desired output type"):
        x /= 2
    assert x.tolist() == [1, 2]
    assert x.dtype is tg.int64


@pytest.mark.parametrize("name", ["sum", "nansum", "prod", "cumsum", "cumprod"])
def test_sums_in_integers_of_what_requires_grad(name: str):
    """Whose gradient would be lost; where none is recorded they are PyTorch's."""
    x = tg.tensor([1.5, 2.7], requires_grad=True)
    along = (0,) if name.startswith("cum") else ()
    with refused(RuntimeError, "Autograd not support dtype: Long"):
        getattr(x, name)(*along, dtype=tg.int64)
    with tg.no_grad():
        found = getattr(x, name)(*along, dtype=tg.int64)
    assert found.dtype is tg.int64
    with refused(RuntimeError, "Autograd not support dtype: Long"):
        getattr(x, name)(*along, dtype=tg.int64)
    assert getattr(x.detach(), name)(*along, dtype=tg.int64).tolist() == found.tolist()


def test_integers_have_no_mean():
    x = tg.tensor([1, 2])
    with refused(RuntimeError, "mean(): could not infer output dtype."):
        x.mean()
    with refused(RuntimeError, "std and var only support floating point and complex dtypes"):
        x.std()
    assert x.sum().item() == 3


def test_truth_values_are_not_subtracted():
    x = tg.tensor([True, False])
    with refused(RuntimeError, "Subtraction, the `-` operator, with two bool tensors is not supported."):
        x - x
    with refused(RuntimeError, "Negation, the `-` operator, on a bool tensor is not supported."):
        x.neg()
    assert x.tolist() == [True, False]


def test_where_wants_a_bool_condition():
    with refused(RuntimeError, "where expected condition to be a boolean tensor, but got a tensor with dtype"):
        tg.where(tg.ones(2), 1.0, 2.0)


def test_integers_are_not_divided_by_zero():
    """Only the values can tell, so the divisor is looked at when the division is recorded."""
    x, zero = tg.tensor([1, 2]), tg.tensor([1, 0])
    for quotient in (lambda: x // zero, lambda: x % zero, lambda: x // 0, lambda: x % 0, lambda: 5 // zero):
        with refused(RuntimeError, "ZeroDivisionError"):
            quotient()
    assert (x // tg.tensor([1, 1])).tolist() == [1, 2]
    assert (x / zero).tolist() == [1.0, float("inf")]


def test_integers_have_no_negative_powers():
    with refused(RuntimeError, "Integers to negative integer powers are not allowed."):
        tg.pow(tg.tensor([1, 2]), -1)


# Axes and indices


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "amax", "argmin", "softmax", "logsumexp", "squeeze", "any"])
def test_dimensions_out_of_range(name):
    x = tg.ones(2, 3, requires_grad=True)
    for dim in (2, -3):
        with refused(IndexError, f"Dimension out of range (expected to be in range of [-2, 1], but got {dim})"):
            getattr(x, name)(dim)


def test_a_dimension_is_named_once():
    with refused(RuntimeError, "dim 0 appears multiple times in the list of dims"):
        tg.ones(2, 3).sum((0, -2))
    with refused(RuntimeError, "duplicate dims are not allowed"):
        tg.ones(2, 3).permute(0, 0)


def test_nothing_has_no_largest_element():
    with refused(RuntimeError, "amax(): Expected reduction dim to be specified for input.numel() == 0."):
        tg.ones(0).amax()
    with refused(IndexError, "argmax(): Expected reduction dim 0 to have non-zero size."):
        tg.ones(0, 3).argmax(0)


@pytest.mark.parametrize(
    ("index", "phrase"),
    [
        (2, "index 2 is out of bounds for dimension 0 with size 2"),
        (-3, "index -3 is out of bounds for dimension 0 with size 2"),
        ((0, 3), "index 3 is out of bounds for dimension 1 with size 3"),
        ((0, 0, 0), "too many indices for tensor of dimension 2"),
        ([0, 2], "index 2 is out of bounds for dimension 0 with size 2"),
        (([0, 1], [0, 1, 2]), "shape mismatch: indexing tensors could not be broadcast together with shapes [2], [3]"),
        (np.array([True, False, True]), "The shape of the mask [3] at index 0 does not match"),
        (1.0, "only integers, slices (`:`), ellipsis (`...`), None and"),
        (np.array([0.5]), "tensors used as indices must be"),
    ],
)
def test_indices_out_of_bounds(index, phrase):
    x = tg.arange(6.0).reshape(2, 3).clone().requires_grad_()
    with refused(IndexError, phrase):
        x.__getitem__(index)
    y = x.detach().clone()
    with refused(IndexError, phrase):
        y[index] = 5.0
    assert y.tolist() == x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_an_index_that_is_a_tensor_is_checked_too():
    """Only its values can tell, so they are looked at when the indexing is recorded."""
    x = tg.arange(3.0)
    with refused(IndexError, "index 5 is out of bounds for dimension 0 with size 3"):
        x[tg.tensor([0, 5])]
    assert x[tg.tensor([0, 2])].tolist() == [0.0, 2.0]


def test_steps_are_positive():
    with refused(ValueError, "step must be greater than zero"):
        tg.ones(3)[::-1]


def test_a_scalar_has_no_elements_to_index():
    with refused(IndexError, "invalid index of a 0-dim tensor."):
        tg.tensor(1.0)[0]


def test_assigned_values_must_fit():
    x = tg.zeros(2, 3)
    with refused(RuntimeError, "The expanded size of the tensor (3) must match the existing size (2)"):
        x[0] = tg.ones(2)
    zeros = x == 0
    with refused(RuntimeError, "shape mismatch: value tensor of shape [4] cannot be broadcast"):
        x[zeros] = tg.ones(4)
    assert x.tolist() == [[0.0] * 3] * 2


# In place


def test_a_leaf_that_requires_grad_is_not_changed_in_place():
    x = tg.ones(2, requires_grad=True)
    alias = x
    with refused(RuntimeError, "a leaf Variable that requires grad is being used in an in-place operation."):
        x += 1
    with refused(RuntimeError, "a leaf Variable that requires grad is being used in an in-place operation."):
        x.zero_()
    first = x[0]
    for change in (lambda: x.__setitem__(0, 5.0), lambda: first.add_(1)):
        with refused(
            RuntimeError, "a view of a leaf Variable that requires grad is being used in an in-place operation."
        ):
            change()
    assert x is alias
    assert x.tolist() == [1.0, 1.0]
    assert x.is_leaf


def test_elements_that_share_memory_are_not_changed_in_place():
    x = tg.ones(3).expand(2, 3)
    with refused(RuntimeError, "more than one element of the written-to tensor refers to a single memory location."):
        x += 1
    assert x.tolist() == [[1.0] * 3] * 2


# Backward and grad


def leaf_and_result() -> tuple[tg.Tensor, tg.Tensor]:
    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    return x, x * x


def test_a_swept_graph_is_not_swept_again():
    x, y = leaf_and_result()
    total = y.sum()
    total.backward()
    with refused(
        RuntimeError,
        "Trying to backward through the graph a second time "
        "(or directly access saved tensors after they have already been freed).",
    ) as info:
        total.backward()
    assert "Specify retain_graph=True if you need to backward through the graph a second time" in str(info.value)
    assert x.grad.tolist() == [2.0, 4.0, 6.0]
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0, 12.0]


def test_an_error_in_one_output_leaves_the_other_graph_unswept():
    x, y = leaf_and_result()
    total, other = y.sum(), (x * 3).sum()
    total.backward()
    with refused(RuntimeError, "Trying to backward through the graph a second time"):
        tg.autograd.backward([other, total])
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


def test_only_scalars_imply_their_gradient():
    x, y = leaf_and_result()
    with refused(RuntimeError, "grad can be implicitly created only for scalar outputs"):
        y.backward()
    with refused(RuntimeError, "grad can be implicitly created only for scalar outputs"):
        tg.autograd.grad(y, x)
    assert x.grad is None
    y.backward(tg.ones(3))
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


def test_what_requires_no_grad_has_no_backward():
    x, y = leaf_and_result()
    for output in (tg.ones(3).sum(), y.detach().sum(), (x > 0).sum()):
        with refused(RuntimeError, "element 0 of tensors does not require grad and does not have a grad_fn"):
            output.backward()
    assert x.grad is None


@pytest.mark.parametrize(("shape", "of_output"), [((4,), (3,)), ((3, 1), (3,)), ((), (3,)), ((3,), ())])
def test_a_given_gradient_has_the_shape_of_its_output(shape, of_output):
    x, y = leaf_and_result()
    output = y if of_output else y.sum()
    gradient = tg.ones(shape)
    with refused(RuntimeError, "Mismatch in shape: grad_output[0] has a shape of") as info:
        output.backward(gradient)
    for size in (shape, of_output):
        assert str(list(size)) in str(info.value) or str(size) in str(info.value)
    assert x.grad is None


def test_an_input_outside_the_graph_is_named():
    x, y = leaf_and_result()
    unused = tg.ones(2, requires_grad=True)
    total = y.sum()
    for inputs, position in ((unused, 0), ([x, unused], 1)):
        with refused(
            RuntimeError,
            f"The differentiated Tensor at index {position} appears to not have been used in the graph. "
            "Set allow_unused=True if this is the desired behavior.",
        ):
            tg.autograd.grad(total, inputs, retain_graph=True)
    with refused(RuntimeError, "One of the differentiated Tensors does not require grad"):
        tg.autograd.grad(total, tg.ones(3))
    assert x.grad is None
    assert [g if g is None else g.tolist() for g in tg.autograd.grad(total, [x, unused], allow_unused=True)] == [
        [2.0, 4.0, 6.0],
        None,
    ]


def test_an_assigned_gradient_fits():
    x, y = leaf_and_result()
    y.sum().backward()
    with refused(RuntimeError, "of size '[4]' to a tensor of size '[3]'"):
        x.grad = tg.ones(4)
    with refused(RuntimeError, "attempting to assign a gradient with dtype"):
        x.grad = tg.tensor([1, 2, 3])
    with refused(TypeError, "assigned grad expected to be a Tensor or None but got grad of type"):
        x.grad = 3.0
    assert x.grad.tolist() == [2.0, 4.0, 6.0]


def test_only_what_requires_grad_retains_it():
    with refused(RuntimeError, "can't retain_grad on Tensor that has requires_grad=False"):
        tg.ones(2).retain_grad()


def test_an_error_inside_no_grad_leaves_recording_on():
    with pytest.raises(RuntimeError, match="must match"), tg.no_grad():
        tg.ones(3) + tg.ones(4)
    assert tg.is_grad_enabled()


# Leaving for Python and NumPy


def test_a_tensor_that_requires_grad_is_detached_before_it_becomes_an_array():
    x, y = leaf_and_result()
    for tensor in (x, y):
        with refused(
            RuntimeError, "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
        ):
            tensor.numpy()
    assert y.detach().numpy().tolist() == [1.0, 4.0, 9.0]


def test_only_one_element_is_a_number():
    x = tg.ones(2)
    with refused(RuntimeError, "a Tensor with 2 elements cannot be converted to Scalar"):
        x.item()
    with refused(RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"):
        bool(x)
    with refused(RuntimeError, "Boolean value of Tensor with no values is ambiguous"):
        bool(tg.ones(0))
    for number in (float, int):
        with refused(ValueError, "only one element tensors can be converted to Python scalars"):
            number(x)
    with refused(TypeError, "unsupported format string passed to Tensor.__format__"):
        format(x, ".2f")


def test_a_scalar_has_no_length():
    with refused(TypeError, "len() of a 0-d tensor"):
        len(tg.tensor(1.0))
    with refused(TypeError, "iteration over a 0-d tensor"):
        list(tg.tensor(1.0))


def test_operands_are_tensors_or_numbers():
    x = tg.ones(2)
    with refused(TypeError, "unsupported operand type(s) for +: 'Tensor' and 'str'"):
        x + "a"
    with refused(TypeError, "unsupported operand type(s) for *: 'Tensor' and 'NoneType'"):
        x * None
    with refused(TypeError, "must be Tensor, not str"):
        tg.exp("a")


# Coming from Python and NumPy


@pytest.mark.parametrize(
    "array",
    [
        np.array([1, None], dtype=object),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.array([1], dtype="timedelta64[s]"),
        np.array(["a"]),
        np.array([b"a"]),
        np.ones(2, dtype=np.longdouble),
        np.ones(2, dtype=np.complex128),
        np.zeros(2, dtype=[("a", "f8"), ("b", "i4")]),
    ],
    ids=lambda array: array.dtype.name,
)
@pytest.mark.parametrize("convert", [tg.tensor, tg.as_tensor, tg.from_numpy], ids=lambda convert: convert.__name__)
def test_arrays_of_other_things_are_refused(array, convert):
    with refused(TypeError, "can't convert np.ndarray of type numpy."):
        convert(array)


@pytest.mark.parametrize("convert", [tg.tensor, tg.as_tensor, tg.from_numpy], ids=lambda convert: convert.__name__)
def test_masked_arrays_are_refused(convert):
    """A mask that is lost in silence is a wrong answer."""
    masked = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])
    with refused(TypeError, "masked"):
        convert(masked)


def test_a_masked_array_is_no_operand():
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    x = tg.ones(2)
    with refused(TypeError, "masked"):
        x * masked


@pytest.mark.parametrize("value", [None, {1: 2}, object(), [None]])
def test_other_objects_are_refused(value):
    with refused(RuntimeError, "Could not infer dtype of"):
        tg.tensor(value)


def test_ragged_lists_are_refused():
    with refused(ValueError, "expected sequence of length 2 at dim 1 (got 1)"):
        tg.tensor([[1, 2], [3]])


def test_integers_that_are_too_long_are_refused():
    with refused(ValueError, "Overflow"):
        tg.tensor(2**70)


NUMBERS = np.array([[1.0, -2.0, 3.5], [4.0, 0.25, -6.0]])


@pytest.mark.parametrize("convert", [tg.tensor, tg.as_tensor, tg.from_numpy], ids=lambda convert: convert.__name__)
@pytest.mark.parametrize(
    "array",
    [
        NUMBERS.astype(np.float16),
        NUMBERS.astype(">f8"),
        NUMBERS.astype(">f4"),
        NUMBERS.astype(">i4"),
        NUMBERS[:, ::2],
        NUMBERS[::-1],
        NUMBERS[:, ::-2],
        NUMBERS.T,
        np.asfortranarray(NUMBERS),
        np.broadcast_to(NUMBERS[0], (4, 3)),
        NUMBERS[:, 1:],
        np.frombuffer(NUMBERS.tobytes()).reshape(2, 3),
        np.frombuffer(b"\0" + NUMBERS.tobytes(), dtype="f8", offset=1),
        NUMBERS.astype(np.int8),
        NUMBERS.astype(np.int16),
        np.abs(NUMBERS).astype(np.uint8),
        NUMBERS[:0],
    ],
    ids=[
        "float16",
        "big-endian float64",
        "big-endian float32",
        "big-endian int32",
        "strided",
        "negative stride",
        "negative strides of two",
        "transposed",
        "Fortran order",
        "broadcast",
        "offset",
        "read-only",
        "unaligned",
        "int8",
        "int16",
        "uint8",
        "empty",
    ],
)
def test_arrays_of_every_layout_are_taken(array, convert):
    """By conversion where needed; the array itself is not touched, and the tensor can be written to."""
    before = array.copy()
    x = convert(array)
    assert x.dtype in (tg.float64, tg.float32, tg.int64, tg.int32, tg.int16, tg.int8, tg.uint8)
    assert (x.dtype.is_floating_point) == (array.dtype.kind == "f")
    assert x.tolist() == array.tolist()
    assert (x + 1).sum().item() == (array + 1).sum()
    if x.dtype.is_floating_point:
        leaf = x.clone().requires_grad_()
        (leaf * leaf).sum().backward()
        assert leaf.grad.tolist() == (2 * array.astype(np.float64)).tolist()
    np.testing.assert_array_equal(array, before)


def test_a_read_only_array_is_not_written_through():
    array = np.arange(3.0)
    array.flags.writeable = False
    x = tg.from_numpy(array)
    x += 1
    assert x.tolist() == [1.0, 2.0, 3.0]
    assert array.tolist() == [0.0, 1.0, 2.0]


def test_a_strided_array_is_not_overrun():
    """Writing to a tensor made of every second element leaves the elements between alone."""
    array = np.arange(6.0)
    x = tg.tensor(array[::2])
    x += 10
    assert x.tolist() == [10.0, 12.0, 14.0]
    assert array.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_errors_note_what_was_called_and_where():
    for call, asked in (
        (lambda: tg.ones(2, 3).sum(2), r"sum\(float64\[2, 3\], 2\)"),
        (lambda: tg.stack([tg.ones(2), tg.ones(3)]), r"stack\(\[float64\[2\], float64\[3\]\]\)"),
        (lambda: tg.nn.functional.dropout(tg.ones(2), 2.0), r"dropout\(float64\[2\], 2.0\)"),
    ):
        with pytest.raises((IndexError, RuntimeError, ValueError)) as caught:
            call()
        (note,) = caught.value.__notes__
        assert re.match(asked + rf", at {re.escape(__file__)}:\d+$", note)


def test_errors_of_the_users_own_are_left_as_they_are():
    def hook(g):
        raise ValueError("the user's")

    x = tg.ones(2, requires_grad=True)
    x.register_hook(hook)
    with pytest.raises(ValueError, match=r"^the user's$") as caught:
        x.sum().backward()
    assert not hasattr(caught.value, "__notes__")
