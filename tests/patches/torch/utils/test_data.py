"""Datasets, samplers and collating."""

import collections
import importlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import data
from torch.utils.data import default_collate, default_convert

Pair = collections.namedtuple("Pair", "a b")


def _collated(batch):
    out = default_collate(batch)
    return out.tolist() if isinstance(out, torch.Tensor) else out


def test_collate_numbers_and_text():
    assert default_collate([1, 2]).dtype is torch.int64
    assert default_collate([1.5, 2.5]).dtype is torch.float64
    assert default_collate([True, False]).dtype is torch.bool
    assert default_collate([np.float32(1), np.float32(2)]).dtype is torch.float32
    assert default_collate(["a", "b"]) == ["a", "b"] and default_collate([b"a"]) == [b"a"]


def test_collate_arrays_and_tensors():
    assert _collated([np.array([1, 2], np.uint8), np.array([3, 4], np.uint8)]) == [[1, 2], [3, 4]]
    assert default_collate([np.zeros((2, 2), np.uint8)]).dtype is torch.uint8
    assert _collated([torch.tensor([1.0]), torch.tensor([2.0])]) == [[1.0], [2.0]]


def test_collate_containers():
    pair = default_collate([Pair(1, "x"), Pair(2, "y")])
    assert isinstance(pair, Pair) and pair.a.tolist() == [1, 2] and pair.b == ("x", "y")
    columns = default_collate([(1, "x"), (2, "y")])
    assert isinstance(columns, list) and columns[0].tolist() == [1, 2] and columns[1] == ("x", "y")
    mapping = default_collate([collections.OrderedDict(k=1), collections.OrderedDict(k=2)])
    assert type(mapping) is collections.OrderedDict and mapping["k"].tolist() == [1, 2]


@pytest.mark.parametrize("batch, error, message", [
    ([object()], TypeError, "found <class 'object'>"),
    ([[1], [1, 2]], RuntimeError, "equal size"),
    ([np.array(["a"])], TypeError, "found <U1"),
    ([torch.ones(2), torch.ones(3)], RuntimeError, "equal size"),
])
def test_collate_refuses(batch, error, message):
    with pytest.raises(error, match=message):
        default_collate(batch)


def test_convert():
    out = default_convert({"a": np.ones(2), "b": (1, "x"), "c": [np.int16(3)]})
    assert out["a"].dtype is torch.float64 and out["b"] == [1, "x"] and out["c"][0].dtype is torch.int16


def test_datasets():
    a = data.TensorDataset(torch.arange(3), torch.arange(3) * 2)
    both = a + data.TensorDataset(torch.arange(5, 7), torch.zeros(2))
    assert len(both) == 5 and both[3][0].item() == 5 and both[-1][0].item() == 6
    assert data.Subset(range(10), [4, 2])[1] == 2
    assert data.Subset(range(10), [4, 2, 8]).__getitems__([2, 0]) == [8, 4]
    stack = data.StackDataset(x=range(3), y="abc")
    assert stack[1] == {"x": 1, "y": "b"} and stack.__getitems__([0, 2]) == [{"x": 0, "y": "a"}, {"x": 2, "y": "c"}]
    with pytest.raises(AssertionError, match="Size mismatch"):
        data.TensorDataset(torch.ones(2), torch.ones(3))
    with pytest.raises(ValueError, match="exceed dataset length"):
        both[-6]


def test_getitems_is_used_for_a_batch():
    class Batched(data.Dataset):
        def __len__(self):
            return 5

        def __getitems__(self, indices):
            return [100 + i for i in indices]

    assert [batch.tolist() for batch in data.DataLoader(Batched(), batch_size=2)] == [[100, 101], [102, 103], [104]]


@given(st.integers(1, 40), st.integers(1, 10), st.booleans())
def test_batch_sampler_covers_everything_in_order(n, size, drop_last):
    sampler = data.BatchSampler(data.SequentialSampler(range(n)), size, drop_last)
    batches = list(sampler)
    kept = n - n % size if drop_last else n
    assert [i for batch in batches for i in batch] == list(range(kept)) and len(batches) == len(sampler)


@given(st.integers(1, 40), st.integers(1, 7), st.booleans())
def test_distributed_sampler_deals_out_all_samples(n, replicas, drop_last):
    parts = [list(data.DistributedSampler(range(n), replicas, rank, drop_last=drop_last)) for rank in range(replicas)]
    assert len({len(part) for part in parts}) == 1
    dealt = [i for part in parts for i in part]
    assert len(set(dealt)) == (len(dealt) if drop_last else n)


def test_distributed_sampler_changes_with_the_epoch_only():
    sampler = data.DistributedSampler(range(50), 2, 0)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    with pytest.raises(ValueError, match="Invalid rank 2"):
        data.DistributedSampler(range(5), 2, 2)


@given(st.integers(0, 2**32), st.integers(1, 50))
def test_random_sampler_is_a_permutation_decided_by_the_seed(seed, n):
    orders = [list(data.RandomSampler(range(n), generator=torch.Generator().manual_seed(seed))) for _ in range(2)]
    assert orders[0] == orders[1] and sorted(orders[0]) == list(range(n))


def test_random_split_checks_its_sizes():
    with pytest.raises(ValueError, match="6 and 5"):
        data.random_split(range(5), [2, 4])
    with pytest.raises(ValueError, match=r"index 0 is not between 0 and 1: -0\.5"):
        data.random_split(range(5), [-0.5, 1.5])
    with pytest.warns(UserWarning, match="index 2 is 0"):
        assert [len(part) for part in data.random_split(range(2), [0.4, 0.4, 0.2])] == [1, 1, 0]


def test_samplers_check_their_arguments():
    with pytest.raises(ValueError, match="num_samples=0"):
        data.RandomSampler([])
    with pytest.raises(TypeError, match="replacement"):
        data.RandomSampler([1], replacement=1)
    with pytest.raises(ValueError, match="1d sequence"):
        data.WeightedRandomSampler([[0.5]], 1)


def test_shuffling_pipe_keeps_all_samples():
    from torch.utils.data.datapipes.iter.combinatorics import ShufflerIterDataPipe
    from torch.utils.data.graph_settings import apply_shuffle_settings

    pipe = ShufflerIterDataPipe(range(50), buffer_size=7)
    first, again = list(pipe.set_seed(3)), list(pipe.set_seed(3))
    assert first == again != list(range(50)) and sorted(first) == list(range(50))
    assert list(apply_shuffle_settings(pipe, shuffle=False)) == list(range(50))


def test_unknown_names_are_named():
    with pytest.raises(NotImplementedError, match=r"torch\.utils\.data\.MapDataPipe"):
        _ = data.MapDataPipe
    assert not hasattr(torch.utils, "tensorboard")
    with pytest.raises(ImportError):
        importlib.import_module("torch.utils.cpp_extension")
