"""The CUDA kernels without a card: the sources themselves, compiled for the CPU and run thread by thread (host_cuda.h),
against NumPy in float64. test_cuda_compile.py has nvcc compile them."""

import ctypes
import shutil
import subprocess
from math import erf, erfc
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
KERNELS = Path(__file__).resolve().parents[3] / "patches/jtorch/kernels"
FLOAT, BFLOAT = 0, 1
#: Of the largest value; bfloat16 keeps eight bits.
TOLERANCE = {FLOAT: 2e-6, BFLOAT: 1e-2}


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    library = tmp_path_factory.mktemp("host_cuda") / "kernels.so"
    command = ["g++", "-std=c++14", "-O1", "-shared", "-fPIC", f"-I{KERNELS}", f"-I{HERE}", HERE / "cuda_calls.cc"]
    done = subprocess.run([*command, "-o", library], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def call(function, *arguments):
    """Call a C function with arrays, ints, floats (Python's as double, NumPy's float32 as float) and None."""
    function.restype = None
    passed = []
    for a in arguments:
        if a is None:
            passed.append(ctypes.c_void_p(None))
        elif isinstance(a, np.ndarray):
            assert a.flags.c_contiguous
            passed.append(ctypes.c_void_p(a.ctypes.data))
        elif isinstance(a, np.float32):
            passed.append(ctypes.c_float(a))
        elif isinstance(a, float):
            passed.append(ctypes.c_double(a))
        else:
            passed.append(ctypes.c_int64(a))
    function(*passed)


def stored(x, kind):
    """An array as the kernels get it, and the values they see."""
    x = np.ascontiguousarray(x, np.float32)
    if kind == FLOAT:
        return x, x.astype(np.float64)
    u = x.view(np.uint32).astype(np.uint64)
    bits = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)
    return bits, shown(bits).astype(np.float64)


def shown(x):
    return (x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x


def empty(shape, kind):
    return np.full(shape, np.nan, np.float32) if kind == FLOAT else np.full(shape, 0x7FC0, np.uint16)


def close(got, expected, kind=FLOAT):
    got = shown(got)
    assert got.shape == expected.shape and np.isfinite(got).all()
    assert np.abs(got - expected).max() <= TOLERANCE[kind] * max(1.0, np.abs(expected).max())


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def slope(f, x):
    h = 1e-5
    return (f(x + h) - f(x - h)) / (2 * h)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("kind", [FLOAT, BFLOAT])
@pytest.mark.parametrize(("number", "f"), [(0, gelu), (1, gelu_tanh), (2, silu)])
def test_activations(cards, kind, number, f):
    x, seen = stored(np.concatenate([normal(0, 300) * 3, [0, -9, 9, -20, 20]]), kind)
    g, grad = stored(normal(1, x.size), kind)
    y, d = empty(x.shape, kind), empty(x.shape, kind)
    call(cards.activate, kind, number, x, y, x.size)
    close(y, f(seen), kind)
    call(cards.activate_backward, kind, number, x, g, d, x.size)
    close(d, grad * slope(f, seen), kind)


def test_far_values_of_an_activation_keep_their_digits(cards):
    x = np.float32([-5, -10, -13])
    y = np.empty_like(x)
    call(cards.activate, FLOAT, 0, x, y, 3)
    np.testing.assert_allclose(y, [v * 0.5 * erfc(-v / 2**0.5) for v in x.tolist()], rtol=2e-5)


def test_gates(cards):
    x, seen = stored(normal(2, 7, 2 * 19), FLOAT)
    g = normal(3, 7, 19)
    y, d = empty((7, 19), FLOAT), empty(x.shape, FLOAT)
    call(cards.gated, FLOAT, x, y, 7, 19)
    close(y, seen[:, :19] * gelu(seen[:, 19:]))
    call(cards.gated_backward, FLOAT, x, g, d, 7, 19)
    close(d, np.concatenate([g * gelu(seen[:, 19:]), g * seen[:, :19] * slope(gelu, seen[:, 19:])], 1))


@pytest.mark.parametrize("kind", [FLOAT, BFLOAT])
@pytest.mark.parametrize("width", [1, 31, 77, 1300])
def test_softmax(cards, kind, width):
    x, seen = stored(normal(4, 3, width) * 5, kind)
    y, d = empty(x.shape, kind), empty(x.shape, kind)
    call(cards.softmax, kind, x, y, 3, width)
    e = np.exp(seen - seen.max(1, keepdims=True))
    expected = e / e.sum(1, keepdims=True)
    close(y, expected, kind)
    g, grad = stored(normal(5, 3, width), kind)
    call(cards.softmax_backward, kind, y, g, d, 3, width)
    p = shown(y).astype(np.float64)
    close(d, p * (grad - (p * grad).sum(1, keepdims=True)), kind)


@pytest.mark.parametrize("kind", [FLOAT, BFLOAT])
@pytest.mark.parametrize("with_silu", [0, 1])
@pytest.mark.parametrize(("rows", "width", "inner", "groups", "weighted"), [
    (5, 40, 1, 1, True), (6, 12 * 9, 9, 3, True), (4, 1500, 1, 1, False), (2, 64, 64, 2, True)])
def test_norms(cards, kind, with_silu, rows, width, inner, groups, weighted):
    channels = width // inner
    x, seen = stored(normal(6, rows, width) * 2 + 50, kind)
    g, grad = stored(normal(7, rows, width), kind)
    w, b = (normal(8, channels * groups) + 1, normal(9, channels * groups)) if weighted else (None, None)
    y, mean, scale = empty(x.shape, kind), empty(rows, FLOAT), empty(rows, FLOAT)
    call(cards.norm_forward, kind, with_silu, x, w, b, y, mean, scale, rows, width, inner, groups, 1e-5)
    middle, deviation = seen.mean(1), np.sqrt(seen.var(1) + 1e-5)
    np.testing.assert_allclose(mean, middle, rtol=1e-6)
    np.testing.assert_allclose(scale, 1 / deviation, rtol=2e-6)
    at = (np.arange(rows) % groups * channels)[:, None] + np.arange(width) // inner
    weight, bias = (w[at].astype(np.float64), b[at]) if weighted else (np.ones((rows, width)), 0.0)
    unit = (seen - middle[:, None]) / deviation[:, None]
    inside = unit * weight + bias
    close(y, silu(inside) if with_silu else inside, kind)
    through = grad * slope(silu, inside) if with_silu else grad
    h = through * weight
    expected = (h - h.mean(1, keepdims=True) - unit * (h * unit).mean(1, keepdims=True)) / deviation[:, None]
    d, kept = empty(x.shape, kind), empty(x.shape, kind) if with_silu else None
    call(cards.norm_backward, kind, with_silu, x, g, mean, scale, w, b, d, kept, rows, width, inner, groups)
    close(d, expected, kind)
    if with_silu:
        close(kept, through, kind)
    dw, db = empty(channels * groups, FLOAT), empty(channels * groups, FLOAT)
    call(cards.norm_weights, kind, x, g, mean, scale, dw, db, rows, width, inner, groups)
    expected_w, expected_b = np.zeros(channels * groups), np.zeros(channels * groups)
    np.add.at(expected_w, at, grad * unit)
    np.add.at(expected_b, at, np.broadcast_to(grad, at.shape))
    # the mean of values near 50 is known to 3e-6 only
    np.testing.assert_allclose(dw, expected_w, atol=1e-4)
    np.testing.assert_allclose(db, expected_b, atol=1e-5)


def attention_oracle(q, k, v, scale, causal, mask, weights_kept):
    """[B, H, ...] in float64: result and a function from its gradient to those of q, k, v."""
    s = np.einsum("bhle,bhse->bhls", q, k) * scale
    if mask is not None:
        s = s + mask
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    top = s.max(-1, keepdims=True)
    e = np.exp(s - np.where(np.isinf(top), 0, top))
    total = e.sum(-1, keepdims=True)
    p = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    o = (p * weights_kept) @ v

    def backward(g):
        dp = (g @ v.swapaxes(-1, -2)) * weights_kept
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
        return ds @ k, ds.swapaxes(-1, -2) @ q, (p * weights_kept).swapaxes(-1, -2) @ g

    return o, backward


ATTENTIONS = {
    "plain": {"sizes": (1, 2, 40, 37, 8, 8)},
    "wide": {"sizes": (1, 1, 9, 40, 160, 160)},
    "odd widths": {"sizes": (1, 1, 33, 33, 40, 70), "causal": True},
    "causal": {"sizes": (2, 1, 50, 45, 16, 16), "causal": True},
    "masked": {"sizes": (2, 2, 20, 35, 12, 20), "mask": (2, 20)},
    "one mask row": {"sizes": (2, 1, 20, 35, 12, 12), "mask": (1, 1)},
    "dropout": {"sizes": (1, 2, 30, 33, 8, 8), "keep": 0.7},
    "between heads": {"sizes": (2, 2, 20, 20, 16, 16), "between": True},
    "bfloat16": {"sizes": (1, 1, 40, 40, 64, 64), "kind": BFLOAT},
    "tensor cores": {"sizes": (1, 2, 70, 130, 64, 64), "mma": True},
    "tensor cores, causal": {"sizes": (1, 1, 75, 80, 16, 16), "mma": True, "causal": True},
    "tensor cores, masked": {"sizes": (2, 2, 20, 77, 40, 33), "mma": True, "mask": (2, 20)},
    "tensor cores, dropout": {"sizes": (1, 2, 30, 33, 80, 80), "mma": True, "keep": 0.7},
    "tensor cores, between heads": {"sizes": (2, 2, 20, 20, 160, 160), "mma": True, "between": True},
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(cards, name):
    case = ATTENTIONS[name]
    kind = BFLOAT if "mma" in case else case.get("kind", FLOAT)
    causal, sizes = case.get("causal", False), case["sizes"]
    b, h, rows, cols, width, wide = sizes
    order = (0, 2, 1, 3) if case.get("between") else (0, 1, 2, 3)  # [batch, row, head, number], or head before row

    def laid(seed, n, w):
        x, seen = stored(normal(seed, *np.take((b, h, n, w), order)), kind)
        shape = x.shape
        steps = (shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3])
        return x, seen.transpose(order), [steps[axis] for axis in order[:3]]

    (q, qs, qp), (k, ks, kp), (v, vs, vp), (g, gs, gp) = (laid(10, rows, width), laid(11, cols, width), laid(12, cols, wide),
                                                          laid(13, rows, wide))
    o = empty(g.shape, kind)
    lse, delta = empty(b * h * rows, FLOAT), empty(b * h * rows, FLOAT)
    scale = np.float32(width**-0.5)
    mask = seen_mask = bits = None
    if "mask" in case:
        mask = normal(14, case["mask"][0], case["mask"][1], cols)
        mask[:, 0, :] = -np.inf  # of one query all keys are left out; of all where there is one row
        mask[:, :, 3] = 0 if case["mask"][1] == 1 else mask[:, :, 3]
        seen_mask = np.broadcast_to(np.repeat(mask, b * h // len(mask), 0), (b * h, rows, cols)).reshape(b, h, rows, cols)
    kept = np.ones((b, h, rows, cols))
    if "keep" in case:
        drawn = np.random.default_rng(15).random((b, h, rows, cols)) < case["keep"]
        bits, kept = np.packbits(drawn), drawn / case["keep"]
    expected, backward = attention_oracle(qs, ks, vs, float(scale), causal, seen_mask, kept)
    places, sizes = np.array([*qp, *kp, *vp, *gp, *gp], np.int64), np.array(sizes, np.int64)
    rules = (mask, *case.get("mask", (1, 1)), bits, np.float32(1 / case.get("keep", 1)), int(causal))
    forward = cards.attention_mma if "mma" in case else cards.attention
    call(forward, kind, q, k, v, o, lse, places, sizes, *rules, scale)
    close(o, expected.transpose(order), kind)
    dq, dk, dv = empty(q.shape, kind), empty(k.shape, kind), empty(v.shape, kind)
    call(cards.attention_backward, kind, q, k, v, o, lse, g, delta, dq, dk, dv, places, sizes, *rules, scale)
    for got, want in zip((dq, dk, dv), backward(gs)):
        close(got, want.transpose(order), kind)


def _table(*columns):
    return np.ascontiguousarray(np.stack(columns, 1).astype(np.int64))


@pytest.mark.parametrize("beta1", [0.9, 0.2])
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam(cards, beta1, amsgrad, decay):
    counts = [1, 700, 40000]
    p, g, m = ([normal(20 + 3 * i + j, n) for i, n in enumerate(counts)] for j in range(3))
    v, x = ([np.abs(normal(30 + 2 * i + j, n)) for i, n in enumerate(counts)] for j in range(2))
    before = [[a.astype(np.float64) for a in arrays] for arrays in (p, g, m, v, x)]
    places = [[a.ctypes.data for a in arrays] for arrays in (g, p, p, m, m, v, v)]
    last = [[a.ctypes.data if amsgrad else 0 for a in x]] * 2
    table = _table(counts, *places, *last)
    o = [1 - beta1, 0.99, 1e-8, 0.01, 0.5, 0.999, decay, 1.0]
    options = np.array([o] * 3)
    call(cards.adam_step, table, options, 3)
    for i in range(3):
        bp, bg, bm, bv, bx = (b[i] for b in before)
        grad = bg + decay * bp
        mean, square = bm + o[0] * (grad - bm), 0.99 * bv + 0.01 * grad**2
        biggest = np.maximum(bx, square) if amsgrad else square
        close(m[i], mean)
        close(v[i], square)
        if amsgrad:
            close(x[i], biggest)
        close(p[i], 0.999 * bp - 0.01 * mean / (np.sqrt(biggest) / 0.5 + 1e-8))


def test_lists_are_normed_and_scaled(cards):
    arrays = [normal(40, 5) * 1e25, normal(41, 50000), np.empty(0, np.float32)]
    table = _table([a.size for a in arrays], [a.ctypes.data for a in arrays])
    total, parts = np.full(1, np.nan), np.full(32 * 3, np.nan)
    call(cards.norm_of_list, table, 3, total, parts)
    np.testing.assert_allclose(total[0], sum((a.astype(np.float64) ** 2).sum() for a in arrays), rtol=1e-12)
    new = np.full(50000, np.nan, np.float32)
    table = _table([50000], [arrays[1].ctypes.data], [new.ctypes.data])
    call(cards.scale_list, table, 1, np.float32(0.25))
    assert (new == arrays[1] / 4).all()


@pytest.mark.parametrize(("outer", "count", "inner"), [(2, 5000, 1), (3, 700, 5), (1, 40, 100), (2, 0, 3)])
def test_sums(cards, outer, count, inner):
    x = normal(50, outer, count, inner) + 100
    y = empty((outer, inner), FLOAT)
    call(cards.sum_middle, FLOAT, x, y, outer, count, inner)
    np.testing.assert_allclose(y, x.astype(np.float64).sum(1), rtol=1e-7)


@pytest.mark.parametrize("kind", [FLOAT, BFLOAT])
def test_rows_by_number(cards, kind):
    x, seen = stored(normal(60, 9, 300), kind)
    values, added = stored(normal(61, 5, 300), kind)
    index = np.array([3, -1, 0, 3, 8], np.int64)
    y = empty((5, 300), kind)
    call(cards.take_rows, kind, x, index, y, 5, 9, 300)
    assert (y == x[index]).all()
    z = empty(x.shape, kind)
    call(cards.give_rows, kind, 0, x, index, values, z, 5, 9, 300)
    expected = x.copy()
    expected[index] = values
    assert (z == expected).all()
    call(cards.give_rows, kind, 1, x, index, values, z, 5, 9, 300)
    np.add.at(seen, index, added)
    close(z, seen, kind)


@pytest.mark.parametrize(("fault", "found"), [
    ("__syncthreads();  // an earlier call's reading is over\n    if (lane == 0)", None),
    ("if (lane == 0) part[warp] = x;\n    __syncthreads();", "if (lane == 0) part[warp] = x;"),
])
def test_a_missing_barrier_shows(tmp_path, fault, found):
    """The emulation is worth its name only if it sees what a card would stumble over."""
    text = (KERNELS / "device.cuh").read_text()
    assert text.count(fault) == 1
    for source in KERNELS.glob("*.cu*"):
        shutil.copy(source, tmp_path)
    if found is None:  # one thread waits where the others do not
        text = text.replace(fault, "if (threadIdx.x) __syncthreads();\n    if (lane == 0)")
    else:
        text = text.replace(fault, found)
    (tmp_path / "device.cuh").write_text(text)
    source = tmp_path / "one.cc"
    source.write_text('#include "host_cuda.h"\n#include "device.cuh"\n#include "softmax.cu"\nint main() {\n'
                      "    float x[3 * 300], y[3 * 300];\n    for (int i = 0; i < 900; i++) x[i] = i % 7;\n"
                      "    card::softmax(x, y, 3, 300);\n    double worst = 0;\n    for (int r = 0; r < 3; r++) {\n"
                      "        double sum = 0;\n        for (int i = 0; i < 300; i++) sum += y[r * 300 + i];\n"
                      "        worst = std::max(worst, std::abs(sum - 1));\n    }\n    return !(worst < 1e-5);\n}\n")
    program = tmp_path / "one"
    subprocess.run(["g++", "-std=c++17", f"-I{tmp_path}", f"-I{HERE}", source, "-o", program], check=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    if found is None:
        assert "wait at a barrier" in done.stderr


@pytest.mark.parametrize("kind", [FLOAT, BFLOAT])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_adapter(cards, kind, biased, masked):
    (a, x), (low, y), (bias, z) = (stored(normal(i, *shape), kind) for i, shape in enumerate([(41, 30), (41, 30), (30,)]))
    keep = np.random.default_rng(5).integers(0, 2, (41, 30)).astype(np.uint8)
    out = empty(a.shape, kind)
    call(cards.add_low, kind, a, bias if biased else None, low, keep if masked else None, 1.7, out, a.size, 30)
    close(out, x + (z if biased else 0) + 1.7 * y * (keep if masked else 1), kind)
    if masked:
        out = empty(a.shape, kind)
        call(cards.masked, kind, a, keep, 1.25, out, a.size)
        close(out, 1.25 * x * keep, kind)
