"""Shapes, indexing and views against NumPy, on the host and in Jittor."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import PLACES, floats, tensor_at

quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def numbers(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@st.composite
def array_and_index(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=4))
    index = draw(hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True).filter(_forward))
    return numbers(shape), index


def _forward(index):
    items = index if isinstance(index, tuple) else (index,)
    return all(i.step is None or i.step > 0 for i in items if isinstance(i, slice))


@pytest.mark.parametrize("place", PLACES)
@quick
@given(case=array_and_index())
def test_basic_index_equals_numpy(place, case):
    a, index = case
    got = tensor_at(a, place)[index]
    np.testing.assert_array_equal(got.numpy(), a[index])
    assert got.shape == a[index].shape


@pytest.mark.parametrize("place", PLACES)
@quick
@given(case=array_and_index())
def test_assignment_to_a_basic_index_equals_numpy(place, case):
    a, index = case
    t = tensor_at(a, place)
    t[index] = -1.0
    a[index] = -1.0
    np.testing.assert_array_equal(t.numpy(), a)


@pytest.mark.parametrize("place", PLACES)
@quick
@given(case=array_and_index())
def test_writes_through_a_view_reach_the_base(place, case):
    a, index = case
    t = tensor_at(a, place)
    t[index].add_(100.0)
    a[index] += 100.0
    np.testing.assert_array_equal(t.numpy(), a)


ADVANCED = [
    (slice(None), [0, 2, 2]), ([1, 0], slice(None), [2, 0]), ([1, 0], [2, 2]), (Ellipsis, [0, 0, 1]),
    (0, [1, 2]), ([0, 1], slice(None), 1), (slice(0, 1), [0, 1], [1, 2]), (None, [0, 1]), ([[0, 1], [1, 0]],),
    ([-1, 0], slice(None, None, 2)),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("index", ADVANCED, ids=str)
def test_advanced_index_equals_numpy(place, index):
    a = numbers((2, 3, 4))
    t = tensor_at(a, place)
    index = tuple(torch.tensor(i) if isinstance(i, list) else i for i in index)
    as_numpy = tuple(i.numpy() if isinstance(i, torch.Tensor) else i for i in index)
    np.testing.assert_array_equal(t[index].numpy(), a[as_numpy])
    t[index] = -1.0
    a[as_numpy] = -1.0
    np.testing.assert_array_equal(t.numpy(), a)


@pytest.mark.parametrize("place", PLACES)
@quick
@given(mask=hnp.arrays(bool, (3, 4)))
def test_boolean_index_equals_numpy(place, mask):
    a = numbers((3, 4))
    t = tensor_at(a, place)
    m = torch.from_numpy(mask)
    np.testing.assert_array_equal(t[m].numpy(), a[mask])
    np.testing.assert_array_equal(t[m[:, 0]].numpy(), a[mask[:, 0]])
    np.testing.assert_array_equal(torch.masked_select(t, m).numpy(), a[mask])
    t[m] = 7.0
    a[mask] = 7.0
    np.testing.assert_array_equal(t.numpy(), a)


def test_repeated_indices_accumulate():
    t = torch.zeros(3, 2)
    t.index_put_((torch.tensor([0, 0, 2]),), torch.ones(3, 2), accumulate=True)
    assert t.tolist() == [[2, 2], [0, 0], [1, 1]]
    t = torch.zeros(2, 3).scatter_add(1, torch.tensor([[0, 0, 2], [1, 1, 1]]), torch.ones(2, 3))
    assert t.tolist() == [[2, 0, 1], [0, 3, 0]]


def test_an_index_out_of_range_raises():
    for bad in (3, -4, torch.tensor([3])):
        with pytest.raises(IndexError, match="out of bounds"):
            torch.zeros(3, 2)[bad]
    with pytest.raises(IndexError, match="too many indices"):
        torch.zeros(3)[0, 0]


@pytest.mark.parametrize("place", PLACES)
@quick
@given(a=floats((2, 3, 4)), order=st.permutations([0, 1, 2]))
def test_permute_reshape_and_contiguity(place, a, order):
    t = tensor_at(a, place).permute(*order)
    np.testing.assert_array_equal(t.numpy(), a.transpose(order))
    assert t.stride() == tuple(s // 4 for s in a.transpose(order).strides)
    assert t.is_contiguous() == a.transpose(order).flags.c_contiguous
    np.testing.assert_array_equal(t.reshape(4, 6).numpy(), a.transpose(order).reshape(4, 6))
    assert t.contiguous().is_contiguous()


@quick
@given(data=st.data())
def test_a_reshape_has_numpys_strides_or_is_a_copy(data):
    a = np.zeros(data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=4)), np.int8)
    order = data.draw(st.permutations(range(a.ndim)))
    turned, left, shape = a.transpose(order), a.size, []
    while left > 1 or data.draw(st.booleans()):
        shape.append(data.draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
        left //= shape[-1]
    found = torch.from_numpy(a).permute(*order).reshape(shape)
    wanted = turned.view()
    try:
        wanted.shape = shape
    except AttributeError:  # NumPy would have to copy
        assert found.is_contiguous()
    else:
        # The stride of an axis of one entry says nothing.
        assert [s for s, n in zip(found.stride(), shape) if n > 1] == [s for s, n in zip(wanted.strides, shape) if n > 1]


def test_reshape_of_a_transposed_tensor_is_a_copy_and_view_of_a_plain_one_is_not():
    x = torch.zeros(2, 3)
    x.t().reshape(6).add_(1)
    assert x.sum() == 0
    x.view(6)[1] = 5
    x.t()[2, 1] = 4
    assert x.tolist() == [[0, 5, 0], [0, 0, 4]]
    y = x.t().contiguous()
    y.zero_()
    assert x.sum() == 9


def test_every_alias_sees_a_write():
    x = torch.zeros(2, 3)
    row, col, flat, plain = x[0], x[:, 0], x.view(-1), x.detach()
    flat[0] = 3
    assert row[0] == 3
    assert col[0] == 3
    assert plain[0, 0] == 3
    row.fill_(2)
    assert flat.tolist() == [2, 2, 2, 0, 0, 0]
    plain.mul_(2)
    assert x[0, 2] == 4
    x.data.copy_(torch.ones(2, 3))
    assert flat.sum() == 6
    x.zero_()
    assert row.sum() == 0


def test_views_that_cannot_be_written_raise():
    with pytest.raises(RuntimeError, match="cannot be written"):
        torch.zeros(3, 1).expand(3, 4).add_(1)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        torch.zeros(3, requires_grad=True).add_(1)
    with pytest.raises(RuntimeError, match="view of a leaf"):
        torch.zeros(3, requires_grad=True)[0].add_(1)


PAIRS = {
    "cat": (lambda t: torch.cat([t, t], 1), lambda a: np.concatenate([a, a], 1)),
    "stack": (lambda t: torch.stack([t, t], -1), lambda a: np.stack([a, a], -1)),
    "cat axis": (lambda t: torch.cat([t, t], axis=1), lambda a: np.concatenate([a, a], axis=1)),
    "stack axis": (lambda t: torch.stack([t, t], axis=1), lambda a: np.stack([a, a], axis=1)),
    "flip": (lambda t: t.flip(0, 2), lambda a: np.flip(a, (0, 2))),
    "roll": (lambda t: t.roll((1, -1), (0, 2)), lambda a: np.roll(a, (1, -1), (0, 2))),
    "repeat": (lambda t: t.repeat(2, 1, 3), lambda a: np.tile(a, (2, 1, 3))),
    "repeat_interleave": (lambda t: t.repeat_interleave(2, dim=1), lambda a: np.repeat(a, 2, 1)),
    "squeeze": (lambda t: t[:, :1].squeeze(1), lambda a: a[:, 0]),
    "unsqueeze": (lambda t: t.unsqueeze(-2), lambda a: a[:, :, None]),
    "movedim": (lambda t: t.movedim(0, -1), lambda a: np.moveaxis(a, 0, -1)),
    "chunk": (lambda t: t.chunk(2, 2)[1], lambda a: a[:, :, 2:]),
    "split": (lambda t: t.split([1, 3], 2)[1], lambda a: a[:, :, 1:]),
    "tril": (lambda t: t.tril(), np.tril),
    "triu": (lambda t: t.triu(1), lambda a: np.triu(a, 1)),
    "diagonal": (lambda t: t.diagonal(0, 1, 2), lambda a: a.diagonal(0, 1, 2)),
    "unfold": (lambda t: t.unfold(2, 2, 1), lambda a: np.lib.stride_tricks.sliding_window_view(a, 2, 2)),
    "rot90": (lambda t: t.rot90(1, (1, 2)), lambda a: np.rot90(a, 1, (1, 2))),
    "gather": (lambda t: t.gather(2, torch.tensor([[[0], [3], [1]]] * 2)),
               lambda a: np.take_along_axis(a, np.array([[[0], [3], [1]]] * 2), 2)),
    "index_select": (lambda t: t.index_select(1, torch.tensor([2, 0])), lambda a: a[:, [2, 0]]),
    "expand": (lambda t: t[:, :, :1].expand(2, 3, 5), lambda a: np.broadcast_to(a[:, :, :1], (2, 3, 5))),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_rearrangements_equal_numpy_and_pass_gradients(name, place):
    a = numbers((2, 3, 4)) - 11.0
    ours, theirs = PAIRS[name]
    t = tensor_at(a, place).requires_grad_()
    got = ours(t)
    want = theirs(a)
    np.testing.assert_array_equal(got.detach().numpy(), want)
    weight = np.linspace(0.5, 2, want.size, dtype=np.float32).reshape(want.shape)
    (got * torch.from_numpy(weight)).sum().backward()
    # The operation is linear: the gradient is its transpose, found by moving unit arrays through NumPy's version.
    grad = np.array([(theirs(e.reshape(a.shape)) * weight).sum() for e in np.eye(a.size, dtype=np.float32)])
    np.testing.assert_allclose(t.grad.numpy().ravel(), grad, rtol=1e-5)


def test_zero_dim_and_empty_tensors():
    z = torch.tensor(2.5)
    assert z.shape == ()
    assert z.item() == 2.5
    assert torch.zeros(2, 3).sum().shape == ()
    assert (z * torch.ones(2)).shape == (2,)
    e = torch.zeros(0, 3)
    assert e.sum().item() == 0
    assert torch.cat([e, torch.ones(1, 3)]).shape == (1, 3)
    assert (e + 1).shape == (0, 3)
    assert e.reshape(3, 0).shape == (3, 0)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        torch.zeros(4).view(3)


@pytest.mark.parametrize("place", PLACES)
def test_an_index_that_only_inserts_axes_is_a_view_with_a_gradient(place):
    a = numbers((2, 3, 4))
    x = tensor_at(a, place)
    for index in (None, (None, None), (slice(None), None), (slice(None), None, slice(None), None),
                  (slice(None),) * 3 + (None,)):
        np.testing.assert_array_equal(x[index].numpy(), a[index])
        assert x[index].stride()[-1] == 1
    with pytest.raises(IndexError, match="too many"):
        x[(slice(None),) * 4 + (None,)]
    x[:, None].mul_(2)
    np.testing.assert_array_equal(x.numpy(), a * 2)
    x = tensor_at(a, place).requires_grad_()
    (x[:, :, None] * 3).sum().backward()
    assert (x.grad == 3).all()
