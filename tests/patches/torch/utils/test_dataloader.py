"""The data loader: PyTorch's order of samples (recorded by tests/golden/make_training.py), workers, their failures."""

import gc
import importlib.util
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import textwrap
import time
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, get_worker_info

GOLDEN_DIR = pathlib.Path(__file__).parents[3] / "golden"
GOLDEN = json.loads((GOLDEN_DIR / "training.json").read_text())["loaders"]
_spec = importlib.util.spec_from_file_location("training_cases", GOLDEN_DIR / "training_cases.py")
cases = importlib.util.module_from_spec(_spec)
sys.modules["training_cases"] = cases  # workers find its classes by name
_spec.loader.exec_module(cases)

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.mark.parametrize("name", cases.LOADERS)
def test_order_and_random_numbers_equal_pytorch(name):
    assert cases.run_loader(name) == GOLDEN[name]


class Squares(Dataset):
    """i ↦ i², with something happening at sample 9."""

    def __init__(self, at_nine=lambda: None):
        self.at_nine = at_nine

    def __len__(self):
        return 24

    def __getitem__(self, i):
        if i == 9:
            self.at_nine()
        return torch.tensor([float(i * i)])


def _all(loader):
    return [batch.reshape(-1).tolist() for batch in loader]


def _raise(error):
    def at_nine():
        raise error

    return at_nine


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)


@pytest.mark.parametrize("error, seen", [
    (ValueError("no such picture"), ValueError),
    (KeyError("name"), KeyError),
    (TwoArguments(1, 2), RuntimeError),  # cannot be built again from a message
])
def test_an_exception_in_a_worker_arrives_with_its_traceback(error, seen):
    loader = DataLoader(Squares(_raise(error)), batch_size=4, num_workers=2)
    with pytest.raises(seen, match=rf"(?s)Caught {type(error).__name__} in DataLoader worker process 0.*at_nine"):
        _all(loader)


def test_batches_before_a_failure_are_delivered():
    batches = iter(DataLoader(Squares(_raise(ValueError())), batch_size=4, num_workers=2))
    assert next(batches).tolist() == [[0], [1], [4], [9]]
    assert next(batches).tolist() == [[16], [25], [36], [49]]
    with pytest.raises(ValueError):
        next(batches)
    assert next(batches)[0].item() == 144  # the other batches still come


@pytest.mark.parametrize("die, message", [
    (lambda: os.kill(os.getpid(), signal.SIGKILL), r"worker 0 \(pid \d+\) exited unexpectedly by signal SIGKILL"),
    (lambda: os._exit(3), r"worker 0 \(pid \d+\) exited unexpectedly with exit code 3"),
])
def test_a_dead_worker_is_an_error_and_not_a_hang(die, message):
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=message):
        _all(DataLoader(Squares(die), batch_size=4, num_workers=2))
    assert time.monotonic() - start < 20


def test_timeout():
    loader = DataLoader(Squares(lambda: time.sleep(2)), batch_size=4, num_workers=1, timeout=0.3)
    with pytest.raises(RuntimeError, match=r"timed out after 0\.3 seconds"):
        _all(loader)


def _workers_gone(seconds=8):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        gc.collect()
        if not multiprocessing.active_children():
            return True
        time.sleep(0.05)
    return False


def test_a_dropped_iterator_stops_its_workers():
    assert _workers_gone()  # those of other tests
    batches = iter(DataLoader(Squares(), batch_size=4, num_workers=2))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert _workers_gone()


def test_ctrl_c_reaches_the_program_and_stops_the_workers():
    script = textwrap.dedent("""
        import os, signal, sys, threading, time, torch
        from torch.utils.data import DataLoader

        class Slow:
            def __len__(self):
                return 100
            def __getitem__(self, i):
                time.sleep(0.05)
                return torch.tensor(i)

        pids = []
        try:
            for i, batch in enumerate(DataLoader(Slow(), num_workers=2, worker_init_fn=lambda i: None)):
                if i == 2:
                    import multiprocessing
                    pids = [p.pid for p in multiprocessing.active_children()]
                    os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt:
            del i, batch
            print("interrupted", *pids)
    """)
    import subprocess

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("interrupted"), done.stderr
    for pid in map(int, done.stdout.split()[1:]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_persistent_workers_stay_and_forget_a_broken_pass():
    assert _workers_gone()
    loader = DataLoader(Squares(), batch_size=4, num_workers=2, persistent_workers=True)
    for _ in loader:
        break
    pids = {p.pid for p in multiprocessing.active_children()}
    whole = [[float(i * i) for i in range(k, k + 4)] for k in range(0, 24, 4)]
    assert _all(loader) == whole and _all(loader) == whole
    assert {p.pid for p in multiprocessing.active_children()} == pids
    del loader
    assert _workers_gone()


def test_two_loaders_do_not_hold_each_others_workers():
    first, second = (DataLoader(Squares(), num_workers=1, persistent_workers=True) for _ in range(2))
    next(iter(first)), next(iter(second))
    start = time.monotonic()
    first._iterator._shutdown_workers()
    assert time.monotonic() - start < 3
    second._iterator._shutdown_workers()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_start_methods(method):
    dataset = TensorDataset(torch.arange(6), torch.arange(12.0).reshape(6, 2))
    loader = DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context=method)
    assert [(a.tolist(), b.tolist()) for a, b in loader] == [
        ([0, 1, 2, 3], [[0, 1], [2, 3], [4, 5], [6, 7]]), ([4, 5], [[8, 9], [10, 11]])]


class Everything(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        info = get_worker_info()
        big = torch.arange(60000.0).reshape(3, 100, 200) + i
        return {"float": big, "half": big.half(), "bfloat": torch.full((2, 3), float(i)).bfloat16(), "bool": i > 1,
                "int": i, "double": i / 3, "array": np.full((2, 2), i, np.uint8), "text": str(i),
                "worker": info.id if info else -1, "nothing": torch.zeros(0, 3),
                "computed": torch.nn.functional.relu(big @ torch.ones(200, 2) - i)}


@pytest.mark.parametrize("workers", [1, 2])
def test_every_type_survives_the_way_home(workers):
    here = list(DataLoader(Everything(), batch_size=2))
    there = list(DataLoader(Everything(), batch_size=2, num_workers=workers))
    for number, (a, b) in enumerate(zip(here, there, strict=True)):
        assert b.pop("worker").tolist() == [number % workers] * 2 and a.pop("worker").tolist() == [-1, -1]
        assert a.keys() == b.keys()
        for key in a:
            x, y = a[key], b[key]
            if key == "text":
                assert x == y
            else:
                assert x.dtype is y.dtype and x.shape == y.shape and torch.equal(x, y), key


def test_batches_can_be_written_to():
    (batch,) = DataLoader(Squares(), batch_size=24, num_workers=1)
    batch += 1
    assert batch[2].item() == 5


def test_a_result_that_cannot_be_pickled_is_an_error():
    loader = DataLoader(Squares(), collate_fn=lambda batch: (lambda: batch), num_workers=1)
    with pytest.raises(AttributeError, match="Caught AttributeError in DataLoader worker process 0"):
        list(loader)


def test_worker_init_fn_and_seeds():
    seen = list(DataLoader(range(2), num_workers=2, worker_init_fn=lambda i: os.environ.update(ROLE=str(i)),
                           collate_fn=lambda batch: (os.environ["ROLE"], get_worker_info().seed)))
    assert [role for role, _ in seen] == ["0", "1"] and seen[1][1] == seen[0][1] + 1
    assert "ROLE" not in os.environ and get_worker_info() is None


def test_iterable_dataset_that_lies_about_its_length_is_warned_about():
    class Liar(torch.utils.data.IterableDataset):
        def __len__(self):
            return 2

        def __iter__(self):
            return iter(range(3))

    loader = DataLoader(Liar(), batch_size=None)
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="reported to be 2, but 3 samples"):
        assert list(loader) == [0, 1, 2]


def test_pin_memory_says_that_it_does_nothing():
    with pytest.warns(UserWarning, match="no effect"):
        DataLoader([1], pin_memory=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DataLoader([1])


@pytest.mark.parametrize("options, error, message", [
    ({"num_workers": -1}, ValueError, "non-negative"),
    ({"prefetch_factor": 2}, ValueError, "num_workers > 0"),
    ({"num_workers": 1, "prefetch_factor": 0}, ValueError, "prefetch_factor: 0"),
    ({"persistent_workers": True}, ValueError, "num_workers > 0"),
    ({"batch_sampler": [[0]], "shuffle": True}, ValueError, "mutually exclusive"),
    ({"sampler": [0], "shuffle": True}, ValueError, "mutually exclusive"),
    ({"batch_size": None, "drop_last": True}, ValueError, "disables auto-batching"),
    ({"batch_size": 0}, ValueError, "batch_size=0"),
    ({"num_workers": 1, "multiprocessing_context": "thread"}, ValueError, "'thread'"),
    ({"multiprocessing_context": "fork"}, ValueError, "num_workers"),
    ({"in_order": False, "num_workers": 1}, NotImplementedError, "in_order"),
])
def test_options_that_exclude_each_other(options, error, message):
    with pytest.raises(error, match=message):
        DataLoader([1, 2, 3], **options)


def test_options_are_fixed_once_the_loader_exists():
    loader = DataLoader([1, 2, 3])
    with pytest.raises(ValueError, match="batch_size attribute should not be set"):
        loader.batch_size = 2
    loader.collate_fn = len
    assert list(loader) == [1, 1, 1] and len(loader) == 3
