"""Tensor operations on a card: which kernels they launch, that these get the right arguments, and where tensors are. On the
card of this machine where the process computes on one, otherwise on the stand-in of card_stand_in.py."""

import contextlib
import ctypes
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))
import card_stand_in

REAL = torch.cuda.is_available()
TOLERANCE = {torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture
def card():
    """A list to which the stand-in adds the names of kernels that are launched; None on a real card."""
    if REAL:
        yield None
        card_stand_in.active.use_cpu()
    else:
        with card_stand_in.card() as launched:
            yield launched


def normal(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def results(f, inputs, dtype, device):
    """Result and gradients as arrays, computed in ``dtype`` on ``device``."""
    inputs = [x.to(device, dtype).requires_grad_() for x in inputs]
    y = f(*inputs)
    y.backward(normal(99, *y.shape).to(device, dtype))
    found = [y.detach(), *(x.grad for x in inputs)]
    assert {t.device for t in found} == {torch.device(device)} and {t.dtype for t in found} == {dtype}
    return [t.float().cpu().numpy() for t in found]


def attention(q, k, v):
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def adapted(x, a, b):
    weight, bias = (normal(7 + i, *shape).to(x.device, x.dtype) for i, shape in enumerate([(40, 30), (40,)]))
    return torch.nn._functional_lora.lora_linear(x, weight, bias, a, b, 0.7)


CASES = {
    "activation": (functional.gelu, [(40, 40)], torch.float32, ["activate", "activate_backward"]),
    "gate": (lambda x: torch.nn._functional_activation.gated("silu", x), [(40, 80)], torch.bfloat16,
             ["gated", "gated_backward"]),
    "softmax": (lambda x: x.softmax(-1), [(30, 50)], torch.float16, ["softmax", "softmax_backward"]),
    "layer norm": (lambda x, w, b: functional.layer_norm(x, (50,), w, b), [(40, 50), (50,), (50,)], torch.float32,
                   ["norm", "norm_backward", "norm_weights"]),
    "SiLU of a group norm": (lambda x, w, b: functional.silu(functional.group_norm(x, 4, w, b)), [(2, 8, 5, 20), (8,), (8,)],
                             torch.float16, ["norm", "norm", "norm", "activate_backward", "norm_backward", "norm_weights"]),
    "attention": (attention, [(1, 2, 33, 16)] * 3, torch.float32, ["attention_sized", "attention_backward_sized"]),
    "attention on tensor cores": (attention, [(1, 2, 33, 16)] * 3, torch.float16,
                                  ["attention_mma", "attention_backward_sized"]),
    "attention of wide heads": (attention, [(1, 1, 9, 168)] * 3, torch.float32, ["softmax", "softmax_backward"]),
    "layer with its adapter": (adapted, [(5, 20, 30), (6, 30), (40, 6)], torch.bfloat16, ["add_low", "add_low"]),
    "linear": (functional.linear, [(2, 40, 30), (20, 30), (20,)], torch.float16, []),  # cuBLAS's, as the next; cuDNN's
    "products": (lambda a, b: a @ b, [(3, 1, 20, 30), (1, 30, 40)], torch.bfloat16, []),
    "convolution": (lambda x, w, b: functional.conv2d(x, w, b, 2, 1), [(2, 4, 9, 11), (8, 4, 3, 3), (8,)], torch.float16,
                    []),
    "long sum": (lambda x: x.sum((0, 1), keepdim=True), [(96, 64, 40)], torch.float32, ["sum_middle", "sum_middle"]),
    "table": (lambda w: functional.embedding(torch.tensor([3, 1, 3, 8], device=w.device), w), [(9, 60)], torch.float32,
              ["take_rows", "give_rows"]),
    "largest of windows": (lambda x: functional.max_pool2d(x, 3, 2, 1), [(2, 3, 9, 8)], torch.float32,
                           ["max_pool", "give_rows"]),
}


@pytest.mark.parametrize("name", CASES)
def test_operations_take_the_cards_kernels(card, name):
    """The numbers are those of the CPU in float32, which other tests compare with NumPy and PyTorch."""
    f, shapes, dtype, kernels = CASES[name]
    inputs = [normal(i, *shape).to(dtype).float() for i, shape in enumerate(shapes)]
    found = results(f, inputs, dtype, "cuda:0")
    assert REAL or card == kernels
    card_stand_in.active.use_cpu()
    for got, expected in zip(found, results(f, inputs, torch.float32, "cpu"), strict=True):
        assert np.isfinite(got).all()
        assert np.abs(got - expected).max() <= TOLERANCE[dtype] * max(1.0, np.abs(expected).max())
    assert REAL or card == kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_adapters_in_training(card, dtype):
    """peft's layer with dropout under autocast: float32 parameters and gradients, products in ``dtype``, one node."""
    from peft.tuners.lora.layer import Linear

    def train(device, dtype):
        torch.manual_seed(3)
        base = torch.nn.Linear(30, 40)
        layer = Linear(base.requires_grad_(False), "default", r=6, lora_alpha=3, lora_dropout=0.25, init_lora_weights=False)
        layer = layer.to(device)
        x = normal(1, 5, 20, 30).to(device).requires_grad_()
        with torch.autocast(device, dtype=dtype) if dtype != torch.float32 else contextlib.nullcontext():
            torch.manual_seed(4)
            y = layer(x)
        assert device == "cpu" or (y.grad_fn.name == "lora_linear" and y.dtype == dtype)
        y.backward(normal(2, *y.shape).to(device, y.dtype))
        found = [y.detach(), x.grad, layer.lora_A.default.weight.grad, layer.lora_B.default.weight.grad]
        assert all(t.dtype == torch.float32 for t in found[1:])
        return [t.float().cpu().numpy() for t in found]

    found = train("cuda", dtype)
    assert REAL or card == ["masked", "add_low", "masked", "add_low"]
    card_stand_in.active.use_cpu()
    for got, expected in zip(found, train("cpu", torch.float32), strict=True):
        assert np.abs(got - expected).max() <= TOLERANCE[dtype] * max(1.0, np.abs(expected).max())


def test_lists_of_tensors_are_updated_on_the_card(card):
    """Clipping and AdamW over parameters of all kinds: large, short (on the host at first) and of one number."""
    def train(device):
        shapes = [(40, 30), (7,), ()]
        parameters = [torch.nn.Parameter(normal(i, *shape).to(device)) for i, shape in enumerate(shapes)]
        optimizer, norms = torch.optim.AdamW(parameters, lr=0.1), []
        held = parameters[0].detach().clone()
        for step in range(3):
            for i, p in enumerate(parameters):
                p.grad = normal(10 * step + i, *p.shape).to(device)
            norms.append(torch.nn.utils.clip_grad_norm_(parameters, 0.5).item())
            optimizer.step()
        return [*(p.detach().cpu().numpy() for p in parameters), held.cpu().numpy(), np.array(norms)]

    found = train("cuda")
    assert REAL or card == ["square_sum", "scale", "adam"] * 3
    card_stand_in.active.use_cpu()
    for got, expected in zip(found, train("cpu"), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6)


def test_tensors_say_where_they_are(card):
    x = normal(0, 20, 30).cuda()
    assert x.device == torch.device("cuda", 0) and x.to("cuda") is x and x.cpu().device == torch.device("cpu")
    assert torch.cuda.is_initialized() and not normal(0, 3).is_cuda
    with torch.device("cuda"):
        assert torch.zeros(2).device.index == 0
    for y in (x.argmax(-1), x.sort(-1).indices, x.topk(2).values, (x > 0).any(-1), (x > 0).nonzero(), x[x[:, 0] > 0],
              torch.where(x > 0, x, 0), x.gather(1, x.argsort(-1)), torch.diag_embed(x), x.cumsum(0), x.softmax(0), x.std(0),
              torch.stack([x, x]), x.new_zeros(3), torch.zeros_like(x), x.float().half().unbind(0)[3], x.T @ x):
        assert y.device == x.device
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        np.asarray(x)
    assert (x.numpy(force=True) == x.cpu().numpy()).all() and normal(0, 3).type_as(x).is_cuda
    for wrong in ("cuda:1", 1, torch.device("cuda", 7)):
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            x.to(wrong)
        with pytest.raises(RuntimeError, match="invalid device ordinal"):
            torch.zeros(3, device=wrong)


@pytest.mark.parametrize("mix", [
    lambda here, there: here + there,
    lambda here, there: there * here,
    lambda here, there: here @ there.T,
    lambda here, there: torch.cat([here, there]),
    functional.linear,
    lambda here, there: functional.conv1d(here[None], there[:, :, None]),
    lambda here, there: functional.embedding(torch.tensor([1]), here),
])
def test_operands_on_two_devices_are_refused(card, mix):
    """With PyTorch's words. Numbers (0-dim tensors) and indices may stay on the CPU."""
    there = normal(1, 30, 30)
    here = normal(0, 30, 30).cuda()
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device, but found at least two devices, "
                                           "cuda:0 and cpu!"):
        mix(here, there)
    assert (here * torch.tensor(2.0)).is_cuda and here[torch.tensor([1, 2])].is_cuda


@pytest.fixture
def cupy(monkeypatch):
    """NumPy as cupy, which reads what lies at an address and reports a singular matrix only where told to. Gives the
    addresses that were read."""
    read, told = [], []

    def asarray(x):
        if not hasattr(x, "__cuda_array_interface__"):
            return np.asarray(x)
        about = x.__cuda_array_interface__
        read.append(about["data"][0])
        dtype = np.dtype(about["typestr"])
        memory = (ctypes.c_byte * (math.prod(about["shape"]) * dtype.itemsize)).from_address(about["data"][0])
        return np.frombuffer(memory, dtype).reshape(about["shape"])

    @contextlib.contextmanager
    def errstate(linalg):
        told.append(linalg)
        yield
        told.pop()

    def inv(a):
        try:
            return np.linalg.inv(a)
        except np.linalg.LinAlgError:
            if told == ["raise"]:
                raise
            return np.full_like(a, np.inf)

    linalg = SimpleNamespace(**{name: getattr(np.linalg, name) for name in (
        "cholesky", "det", "eigh", "lstsq", "matrix_rank", "qr", "slogdet", "solve", "svd")}, inv=inv)
    fake = SimpleNamespace(asarray=asarray, asnumpy=np.asarray, copyto=np.copyto, linalg=linalg)
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(errstate=errstate))
    return read


@pytest.mark.skipif(REAL, reason="NumPy cannot read a card's memory")
def test_linear_algebra_reads_the_cards_memory(card, cupy, monkeypatch):
    """No data goes through the host, and results are those of the CPU."""
    la = torch.linalg
    tasks = [la.svd, la.svdvals, la.qr, lambda a: la.eigh(a + a.mT), la.det, la.slogdet, lambda a: la.cholesky(a @ a.mT),
             la.inv, lambda a: la.solve(a, a[..., :5]), lambda a: la.solve(a[0], a[1, :, 0]), lambda a: a.half().svd()]
    a = normal(0, 2, 12, 12) + 4 * torch.eye(12)

    def results():
        here = a.cuda() if torch.cuda.is_initialized() else a
        found = [task(here) for task in tasks]
        return [t for r in found for t in (r if isinstance(r, tuple) else (r,))]

    expected = [t.double().numpy() for t in results()]
    a.cuda()
    with monkeypatch.context() as context:
        context.setattr(torch.Tensor, "_host", None)
        found = results()
    assert len(cupy) >= len(tasks)
    for got, want in zip(found, expected, strict=True):
        assert got.device == torch.device("cuda", 0)
        np.testing.assert_allclose(np.abs(got.double().cpu().numpy()), np.abs(want), rtol=2e-3, atol=1e-4)
    x = a.cuda()
    del cupy[:]
    assert la.matrix_rank(x).tolist() == [12, 12] and la.det(x.double()).dtype is torch.float64
    assert cupy[0] == card_stand_in.buffers.address_on_card(x._data())


@pytest.mark.skipif(REAL, reason="NumPy cannot read a card's memory")
def test_a_singular_matrix_on_the_card_is_an_error(card, cupy):
    with pytest.raises(RuntimeError, match="singular"):
        torch.linalg.inv(torch.ones(12, 12).cuda())
    x = (normal(0, 12, 12) + 4 * torch.eye(12)).cuda().requires_grad_()
    torch.linalg.inv(x).sum().backward()
    inverse = np.linalg.inv(x.detach().cpu().double().numpy())
    expected = -inverse.sum(0)[:, None] * inverse.sum(1)[None, :]
    np.testing.assert_allclose(x.grad.cpu().numpy(), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(REAL, reason="the library is replaced")
def test_sums_over_processes_go_to_nccl_with_the_cards_addresses(card, monkeypatch):
    """NCCL's arguments: a stand-in that adds up two processes with the same numbers."""
    import torch.distributed as dist
    from torch import _card_arrays

    calls = []

    class Communicator:
        def __init__(self, size, identifier, rank):
            calls.append((size, identifier, rank))

        def allReduce(self, source, target, count, kind, op, stream):
            calls.append((count, kind, op, stream))
            values = np.ctypeslib.as_array((ctypes.c_float * count).from_address(source))
            np.ctypeslib.as_array((ctypes.c_float * count).from_address(target))[:] = 2 * values

        def destroy(self):
            calls.append("destroyed")

    identifier = tuple(range(-64, 64))
    library = SimpleNamespace(get_unique_id=lambda: identifier, NcclCommunicator=Communicator, NCCL_FLOAT32="f4",
                              NCCL_SUM="+", NCCL_MAX=">")  # fmt: skip
    monkeypatch.setattr(_card_arrays, "nccl", lambda: library)
    dist.init_process_group("nccl", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    try:
        x = normal(0, 30, 40).cuda()
        kept, wanted = x.clone(), 2 * normal(0, 30, 40).numpy()
        dist.all_reduce(x)
        assert np.array_equal(x.cpu().numpy(), wanted) and np.array_equal(kept.cpu().numpy(), wanted / 2)
        dist.all_reduce(x[3:5], dist.ReduceOp.MAX)  # a view writes to what it is a view of
        wanted[3:5] *= 2
        assert np.array_equal(x.cpu().numpy(), wanted)
        with pytest.raises(RuntimeError, match="No backend type associated with device type cpu"):
            dist.all_reduce(torch.ones(3))
    finally:
        dist.destroy_process_group()
    assert calls == [(1, identifier, 0), (1200, "f4", "+", 0), (80, "f4", ">", 0), "destroyed"]
