"""torch.distributed between real processes on the CPU, against NumPy; and what happens when one of them ends."""

import importlib.util
import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
import torch.distributed as dist

SIZE = 3
HEAD = """
import datetime, hashlib, sys
import numpy as np
import torch
import torch.distributed as dist
rank, size, port = (int(word) for word in sys.argv[1:4])
dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size,
                        timeout=datetime.timedelta(seconds=60))
values = lambda r, *shape: np.random.default_rng(r).normal(size=shape)
"""


def run(body, size=SIZE):
    """Run the body in `size` processes; (exit code, output, errors) of each."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    source = HEAD + textwrap.dedent(body)
    processes = [
        subprocess.Popen([sys.executable, "-c", source, *map(str, (rank, size, port))], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
        for rank in range(size)
    ]  # fmt: skip
    found = []
    for process in processes:
        try:
            out, err = process.communicate(timeout=120)
        finally:
            process.kill()
        found.append((process.returncode, out, err))
    return found


def test_every_rank_gets_the_combined_values():
    found = run("""
        assert dist.get_rank() == rank and dist.get_world_size() == size == 3 and dist.get_backend() == "gloo"
        for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-15)):
            for shape in ((), (5,), (2, 3, 4), (0,)):
                for op, combine in ((dist.ReduceOp.SUM, np.sum), (dist.ReduceOp.MAX, np.max), (dist.ReduceOp.MIN, np.min)):
                    x = torch.from_numpy(np.array(values(rank, *shape))).to(dtype)
                    assert dist.all_reduce(x, op) is None
                    wanted = combine(np.stack([values(r, *shape) for r in range(size)]), axis=0)
                    assert x.dtype == dtype and x.shape == shape
                    assert np.allclose(x.numpy(), wanted, rtol=tolerance, atol=tolerance)
        x = torch.arange(4) * (rank + 1)
        dist.all_reduce(x)
        assert x.tolist() == [0, 6, 12, 18] and x.dtype == torch.int64
        x = torch.full((2, 2), float(rank + 1), requires_grad=True)
        dist.all_reduce(x.detach()[0])  # a view writes to what it is a view of
        assert x.tolist() == [[6.0, 6.0], [rank + 1.0] * 2]
        big = torch.from_numpy(values(rank, 300_000).astype(np.float32))
        dist.all_reduce(big)
        print(hashlib.sha256(big.numpy().tobytes()).hexdigest())
        for source in range(size):
            x = torch.full((3,), float(rank))
            dist.broadcast(x, source)
            assert x.tolist() == [source] * 3
        dist.barrier()
        dist.destroy_process_group()
        assert not dist.is_initialized()
    """)
    assert [code for code, _, _ in found] == [0] * SIZE, found
    assert len({out for _, out, _ in found}) == 1  # the same bits everywhere


def test_a_lost_process_is_an_error_for_the_others_and_no_hang():
    found = run("""
        import os
        x = torch.ones(4)
        dist.all_reduce(x)
        if rank == 1:
            os._exit(7)
        for _ in range(3):
            dist.all_reduce(x)
    """)
    assert found[1][0] == 7 and found[0][0] == found[2][0] == 1
    for rank in (0, 2):
        assert "RuntimeError" in found[rank][2], found[rank][2]


_NCCL = """
import types
from torch import _card_arrays
from torch.distributed import _group
"""


@pytest.mark.skipif("jittor" not in torch.__version__, reason="PyTorch has its own NCCL")
def test_every_rank_joins_ncclcommunicator_with_the_identifier_of_rank_0():
    found = run(_NCCL + textwrap.dedent("""
        own = tuple(range(-64, 64)) if rank == 0 else None  # 128 signed bytes, as cupy gives them
        _card_arrays.nccl = lambda: types.SimpleNamespace(get_unique_id=lambda: own, NcclCommunicator=lambda *given: given)
        assert _group._group.on_card() == (size, tuple(range(-64, 64)), rank)
    """))
    assert [code for code, _, _ in found] == [0] * SIZE, found


@pytest.mark.skipif("jittor" not in torch.__version__, reason="PyTorch has its own NCCL")
def test_cupys_nccl_is_what_we_take_it_for():
    """The library itself, where requirements-cuda.txt is installed (or JTORCH_CUDA_WHEELS says where): up to the card."""
    wheels = [place for place in os.environ.get("JTORCH_CUDA_WHEELS", "").split(os.pathsep) if place]
    if importlib.util.find_spec("cupy") is None and not any(os.path.isdir(os.path.join(place, "cupy")) for place in wheels):
        pytest.skip("no cupy: pip install -r requirements-cuda.txt")
    found = run(f"import sys; sys.path += {wheels}\n" + _NCCL + textwrap.dedent("""
        nccl = _card_arrays.nccl()
        assert nccl is not None, "cupy finds no NCCL"
        for name in [*_card_arrays._NCCL_NAMES.values(), *(op.name for op in dist.ReduceOp)]:
            assert isinstance(getattr(nccl, f"NCCL_{name}"), int), name
        assert callable(nccl.NcclCommunicator.allReduce) and callable(nccl.NcclCommunicator.destroy)
        try:
            _group._group.on_card()
        except nccl.NcclError as error:  # no card here
            print(error)
    """), 2)
    assert [code for code, _, _ in found] == [0, 0], found


@pytest.mark.skipif("jittor" not in torch.__version__, reason="the words are ours")
def test_ranks_that_are_not_at_the_same_call_are_told():
    found = run("""
        dist.all_reduce(torch.ones(4 if rank else 5))
    """, 2)
    assert found[0][0] == 1 and "rank 1 sent 16 bytes where 20 were due" in found[0][2]


@pytest.mark.skipif("jittor" not in torch.__version__, reason="the words are ours")
@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"backend": "mpi"}, ValueError, "none of gloo, nccl"),
        ({"init_method": "file:///x"}, ValueError, "neither env"),
        ({"rank": 2, "world_size": 2}, ValueError, "rank 2 is not one of a group of 2"),
        ({}, RuntimeError, "environment variable WORLD_SIZE is missing"),
        ({"store": None}, NotImplementedError, "store is not implemented"),
    ],
)
def test_bad_arguments(monkeypatch, options, error, message):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(error, match=message):
        dist.init_process_group(**options)
    assert not dist.is_initialized()


@pytest.mark.skipif("jittor" not in torch.__version__, reason="the words are ours")
def test_without_a_group_nothing_can_be_combined(monkeypatch):
    for call in (lambda: dist.all_reduce(torch.ones(1)), dist.barrier, dist.get_rank, dist.destroy_process_group):
        with pytest.raises(RuntimeError, match="call init_process_group first"):
            call()
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    dist.init_process_group("gloo", rank=0, world_size=1)
    try:
        x = torch.tensor([2.0])
        dist.all_reduce(x)
        assert x.item() == 2.0 and dist.is_initialized()
        with pytest.raises(NotImplementedError, match="async_op"):
            dist.all_reduce(x, async_op=True)
        with pytest.raises(RuntimeError, match="initialised already"):
            dist.init_process_group("gloo", rank=0, world_size=1)
    finally:
        dist.destroy_process_group()
    assert np.array_equal(x.numpy(), [2.0])
