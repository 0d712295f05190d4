"""The kernels on an NVIDIA card: the same functions, arguments and results as the modules for the CPU, on float32, float16
and bfloat16 data. Convolutions and matrix products are cuDNN's and cuBLAS's, through Jittor's operations.

Compiled and, on a CPU, run thread by thread: against NumPy (tests/patches/jtorch/test_cuda_kernels.py) and called by the
tensor operations (tests/patches/jtorch/test_on_card.py); not run on a card.
"""

import functools

from . import adamw, gradnorm
from .attention import arguments
from .pool import places
from .sources import jt, source

_DEVICE = source("device.cuh")
_ACTIVATION = _DEVICE + source("activation.cu")
_SOFTMAX = _DEVICE + source("softmax.cu")
_NORM = _ACTIVATION + source("norm.cu")
_ATTENTION = _DEVICE + source("attention_tiles.cuh") + source("attention.cu")
_ATTENTION_MMA = _DEVICE + source("attention_tiles.cuh") + source("attention_mma.cu")
_ATTENTION_BACKWARD = _DEVICE + source("attention_tiles.cuh") + source("attention_backward.cu")
_SUM, _ROWS, _POOL, _LORA = (_DEVICE + source(f"{name}.cu") for name in ("sum", "rows", "pool", "lora"))
_FUNCTORS = {"gelu": "card::Gelu()", "gelu_tanh": "card::GeluTanh()", "silu": "card::Silu()"}
#: Types of data that the fused kernels here take, and cuDNN. (Jittor does not hand it bfloat16.)
TYPES, CONVOLUTION_TYPES = frozenset(["float32", "float16", "bfloat16"]), frozenset(["float32", "float16", "float64"])
#: Widest head that attention here takes; wider ones go through matrix products.
WIDEST = 160


# --- activation.py ----------------------------------------------------------------------------------------------------
def activate(kind, x):
    """The activation of a variable of any shape."""
    return jt.code(x.shape, x.dtype, [x], cuda_header=_ACTIVATION,
                   cuda_src=f"card::activate({_FUNCTORS[kind]}, in0_p, out0_p, in0->num);")


def activate_backward(kind, x, grad):
    """The gradient of x from that of `activate`'s result."""
    return jt.code(x.shape, x.dtype, [x, grad], cuda_header=_ACTIVATION,
                   cuda_src=f"card::activate_backward({_FUNCTORS[kind]}, in0_p, in1_p, out0_p, in0->num);")


def gated(kind, x):
    """x[:, :width] * activation(x[:, width:]) of x [rows, 2 width]."""
    rows, double = x.shape
    return jt.code((rows, double // 2), x.dtype, [x], cuda_header=_ACTIVATION,
                   cuda_src=f"card::gated({_FUNCTORS[kind]}, in0_p, out0_p, out0_shape0, out0_shape1);")


def gated_backward(kind, x, grad):
    """The gradient of x [rows, 2 width] from that of `gated`'s result."""
    return jt.code(x.shape, x.dtype, [x, grad], cuda_header=_ACTIVATION,
                   cuda_src=f"card::gated_backward({_FUNCTORS[kind]}, in0_p, in1_p, out0_p, in1_shape0, in1_shape1);")


# --- softmax.py -------------------------------------------------------------------------------------------------------
def softmax(x):
    """Softmax over the last axis of x [rows, width]."""
    return jt.code(x.shape, x.dtype, [x], cuda_header=_SOFTMAX,
                   cuda_src="card::softmax(in0_p, out0_p, in0_shape0, in0_shape1);")


def softmax_backward(y, grad):
    """The gradient of `softmax`'s input from its result and that result's gradient."""
    return jt.code(y.shape, y.dtype, [y, grad], cuda_header=_SOFTMAX,
                   cuda_src="card::softmax_backward(in0_p, in1_p, out0_p, in0_shape0, in0_shape1);")


# --- norm.py ----------------------------------------------------------------------------------------------------------
_LAYOUT = '(int64_t)data["rows"], (int64_t)data["width"], (int64_t)data["inner"], (int64_t)data["groups"]'


def _data(rows, inner, groups, eps=0.0):
    return {"rows": float(rows[0]), "width": float(rows[1]), "inner": float(inner), "groups": float(groups), "eps": eps}


def _with(inputs, *more, pointer="const float*"):
    """``inputs`` and those of ``more`` that are there, and the C++ names of ``more``: null of that type where one is not."""
    names, inputs = [], list(inputs)
    for t in more:
        names.append(f"({pointer})nullptr" if t is None else f"in{len(inputs)}_p")
        if t is not None:
            inputs.append(t)
    return inputs, names


def norm(x, weight, bias, rows, inner, groups, eps, silu=False):
    """(y, mean [rows], 1 / deviation [rows]) of x, as in norm.py; ``weight`` and ``bias`` are float32."""
    inputs, (w, b) = _with([x], weight, bias)
    text = f'card::norm<{str(silu).lower()}>(in0_p, {w}, {b}, out0_p, out1_p, out2_p, {_LAYOUT}, data["eps"]);'
    return jt.code([x.shape, (rows[0],), (rows[0],)], [x.dtype, "float32", "float32"], inputs, cuda_header=_NORM,
                   cuda_src=text, data=_data(rows, inner, groups, eps))


def _norm_backward(x, grad, mean, rstd, weight, bias, rows, inner, groups, silu, both):
    inputs, (w, b) = _with([x, grad, mean, rstd], weight, bias)
    inside = "out1_p" if both else "(decltype(out0_p))nullptr"
    text = f"card::norm_backward<{str(silu).lower()}>(in0_p, in1_p, in2_p, in3_p, {w}, {b}, out0_p, {inside}, {_LAYOUT});"
    n = 1 + both
    r = jt.code([x.shape] * n, [x.dtype] * n, inputs, cuda_header=_NORM, cuda_src=text, data=_data(rows, inner, groups))
    return r if both else r[0]


def norm_backward(x, grad, mean, rstd, weight, rows, inner, groups):
    """The gradient of x."""
    return _norm_backward(x, grad, mean, rstd, weight, None, rows, inner, groups, False, False)


def norm_silu_backward(x, grad, mean, rstd, weight, bias, rows, inner, groups, both=False):
    """The gradient of x from that of SiLU of the result; with ``both`` the gradient of the result too."""
    return _norm_backward(x, grad, mean, rstd, weight, bias, rows, inner, groups, True, both)


def norm_weights(x, grad, mean, rstd, rows, inner, groups):
    """The gradients of weight and bias, [channels] each, float32."""
    channels = rows[1] // inner * groups
    return jt.code([(channels,), (channels,)], ["float32"] * 2, [x, grad, mean, rstd], cuda_header=_NORM,
                   cuda_src=f"card::norm_weights(in0_p, in1_p, in2_p, in3_p, out0_p, out1_p, {_LAYOUT});",
                   data=_data(rows, inner, groups))


# --- attention.py -----------------------------------------------------------------------------------------------------
def _place(name):
    return f'card::Place{{(int64_t)data["{name}b"], (int64_t)data["{name}h"], (int64_t)data["{name}r"]}}'


@functools.cache
def _attention_source(text, mask, bits, names):
    m, b = (f"in{at}_p" if at is not None else "nullptr" for at in (mask, bits))
    head = f"""
const card::Sizes sizes = {{(int64_t)data["B"], (int64_t)data["H"], (int64_t)data["L"], (int64_t)data["S"],
                           (int)data["E"], (int)data["W"]}};
const card::Rules rules = {{(const float*){m}, (const uint8_t*){b}, (int64_t)data["mask_batch"],
                           (int64_t)data["mask_rows"], (float)data["keep"], data["causal"] != 0}};
"""
    for name in names:
        text = text.replace(f"@{name}", _place(name))
    return head + text


def _attention(shapes, dtypes, inputs, mask, dropout, header, text, sizes, names, operands, scale, causal):
    data, at = arguments(inputs, mask, dropout, tuple(sizes), names, operands, scale, causal)
    return jt.code(shapes, dtypes, inputs, cuda_header=header, cuda_src=_attention_source(text, *at, names), data=data)


def attention(q, k, v, sizes, scale, causal=False, mask=None, order=(0, 1, 2, 3), dropout=None):
    """As attention.py's, for heads up to `WIDEST` wide; q, k and v are of one type, the result's; ``mask`` float32.

    Half precision goes to the tensor cores of cards of compute capability 8.0 and up.
    """
    b, h, length, _, width, wide = sizes
    shape = [0] * 4
    for axis, n in zip(order, (b, h, length, wide)):
        shape[axis] = n
    steps = (shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3])
    places = (q, k, v, (None, *(steps[axis] for axis in order[:3])))
    if q.var.dtype in ("float16", "bfloat16") and min(jt.flags.cuda_archs, default=0) >= 80:
        header, name = _ATTENTION_MMA, f"attention_mma<{-(-max(width, wide) // 16)}>"
    else:  # one width at a time: all of them take a minute to compile
        columns = -(-wide // 32)
        header, name = _ATTENTION, f"attention_sized<{columns}, {8 if columns <= 3 else 4}>"
    text = f"card::{name}(in0_p, @q, in1_p, @k, in2_p, @v, out0_p, @o, out1_p, sizes, rules, (float)data[\"scale\"]);"
    return _attention([tuple(shape), (b * h * length,)], [q.var.dtype, "float32"], [q.var, k.var, v.var], mask, dropout,
                      header, text, sizes, "qkvo", places, scale, causal)


def attention_backward(q, k, v, result, lse, grad, sizes, scale, causal=False, mask=None, dropout=None):
    """Gradients of q, k and v, as attention.py's."""
    columns = min(c for c in (1, 2, 3, 5) if 32 * c >= max(sizes[4:]))
    name = f"attention_backward_sized<{columns}, {8 if columns <= 2 else 4}>"
    text = (f"card::{name}(in0_p, @q, in1_p, @k, in2_p, @v, in3_p, @o, in4_p, in5_p, @g, out3_p, out0_p, out1_p, out2_p, "
            "sizes, rules, (float)data[\"scale\"]);")
    shapes = [tuple(x.var.shape) for x in (q, k, v)] + [tuple(lse.shape)]
    return _attention(shapes, [q.var.dtype] * 3 + ["float32"], [q.var, k.var, v.var, result.var, lse, grad.var], mask,
                      dropout, _ATTENTION_BACKWARD, text, sizes, "qkvog", (q, k, v, result, grad), scale, causal)[:3]


# --- sum.py and rows by number ----------------------------------------------------------------------------------------
def sum_middle(x):
    """Sum over the middle axis of a variable [outer, count, inner] -> [outer, inner]."""
    outer, count, inner = x.shape
    blocks, parts = outer * (1 if inner == 1 else -(-inner // 32)), 1
    while blocks * parts < 256 and count >= 4096 and count % 2 == 0:  # few long sums would leave most of the card idle
        parts, count = parts * 2, count // 2
    if parts > 1:
        x = _sums(x.reshape((outer * parts, count, inner))).reshape((outer, parts, inner))
    return _sums(x)


def _sums(x):
    return jt.code((x.shape[0], x.shape[2]), x.dtype, [x], cuda_header=_SUM,
                   cuda_src="card::sum_middle(in0_p, out0_p, in0_shape0, in0_shape1, in0_shape2);")


def take_rows(x, index):
    """``x[index]`` of x [n, width] and integers [rows]."""
    return jt.code((index.shape[0], x.shape[1]), x.dtype, [x, index], cuda_header=_ROWS,
                   cuda_src="card::take_rows(in0_p, in1_p, out0_p, in1_shape0, in0_shape0, in0_shape1);")


def give_rows(x, index, values, add):
    """x [n, width] with ``values`` [rows, width] added to, or put in the place of, the rows that ``index`` names."""
    return jt.code(x.shape, x.dtype, [x, index, values], cuda_header=_ROWS, cuda_src=(
        f"card::give_rows<{str(bool(add)).lower()}>(in0_p, in1_p, in2_p, out0_p, in1_shape0, in0_shape0, in0_shape1);"))


# --- pool.py ----------------------------------------------------------------------------------------------------------
def max_pool(x, size, geometry):
    """(maxima, int32 places in the plane), both [planes, *size], of x [planes, height, width], as pool.py's."""
    shape = (x.shape[0], *size)
    windows = ", ".join(["in0_shape1", "in0_shape2", "out0_shape1", "out0_shape2",
                         *(f'(int64_t)data["{name}"]' for name in places(geometry))])
    return jt.code([shape, shape], [x.dtype, "int32"], [x], cuda_header=_POOL, data=places(geometry),
                   cuda_src=f"card::max_pool(in0_p, out0_p, out1_p, in0_shape0, card::Windows{{{windows}}});")


# --- lists of tensors: adamw.py and gradnorm.py -----------------------------------------------------------------------
adam_step = functools.partial(adamw.adam_step, card=True)
total_norm = functools.partial(gradnorm.total_norm, card=True)
scale_all = functools.partial(gradnorm.scale_all, card=True)


# --- matrix products --------------------------------------------------------------------------------------------------
def bmm(a, b, ta=False, tb=False):
    """``op(a) @ op(b)`` of [B or 1, M, K] and [B or 1, K, N] -> [B, M, N], summed in float32."""
    many, more = a.shape[0], b.shape[0]
    if many == more == 1:
        return _matmul(a.reshape(a.shape[1:]), b.reshape(b.shape[1:]), ta, tb).unsqueeze(0)
    if more == 1 and not ta:  # one matrix for all: the others are one long matrix
        rows = a.reshape((many * a.shape[1], a.shape[2]))
        product = _matmul(rows, b.reshape(b.shape[1:]), False, tb)
        return product.reshape((many, a.shape[1], product.shape[1]))
    if many != more:
        batch = max(many, more)
        a, b = (x if x.shape[0] == batch else x.broadcast((batch, *x.shape[1:])) for x in (a, b))
    return jt.cublas.ops.cublas_batched_matmul(a, b, ta, tb)


def _matmul(a, b, ta, tb):
    return jt.cublas.ops.cublas_matmul(a, b, ta, tb)


def linear(x, weight, bias=None):
    """x [..., k] @ weight [n, k]^T + bias [n] -> [..., n]; x is not empty."""
    y = _matmul(x.reshape((-1, x.shape[-1])), weight, False, True).reshape((*x.shape[:-1], weight.shape[0]))
    return y if bias is None else y + bias


def linear_data(grad, weight):
    """The gradient [..., k] of `linear`'s x from that of its result [..., n]; not empty."""
    rows = grad.reshape((-1, grad.shape[-1]))
    return _matmul(rows, weight, False, False).reshape((*grad.shape[:-1], weight.shape[1]))


# --- lora.py: cuBLAS's products, and one pass between them ------------------------------------------------------------
def _add_low(a, bias, low, keep, scale):
    inputs, (bias,) = _with([a, low], bias, pointer="decltype(out0_p)")
    inputs, (keep,) = _with(inputs, keep, pointer="const uint8_t*")
    text = (f'card::add_low(in0_p, {bias}, in1_p, {keep}, data["scale"], out0_p, out0_shape0 * out0_shape1, '
            "out0_shape1);")
    return jt.code(a.shape, a.dtype, inputs, cuda_header=_LORA, cuda_src=text, data={"scale": scale})


def _kept(x, keep, factor):
    if keep is None:
        return x
    return jt.code(x.shape, x.dtype, [x, keep], cuda_header=_LORA, data={"factor": factor},
                   cuda_src='card::masked(in0_p, in1_p, data["factor"], out0_p, in0->num);')


def lora(x, weight, bias, a, b, scale, keep=None, factor=1.0):
    """(y [..., n], h [m, r]) as lora.py's; all of one type, the results', except ``keep``."""
    rows = x.reshape((-1, x.shape[-1]))
    keep = None if keep is None else keep.reshape(rows.shape)
    h = _matmul(_kept(rows, keep, factor), a, False, True)
    y = _add_low(_matmul(rows, weight, False, True), bias, _matmul(h, b, False, True), None, scale)
    return y.reshape((*x.shape[:-1], weight.shape[0])), h


def lora_backward(grad, weight, a, b, h, x, scale, need_x, keep=None, factor=1.0):
    """Gradients [a, b] of `lora`, then x's where ``need_x``."""
    rows, g = x.reshape((-1, x.shape[-1])), grad.reshape((-1, grad.shape[-1]))
    keep = None if keep is None else keep.reshape(rows.shape)
    thin = _matmul(g, b, False, False) * scale
    found = [_matmul(thin, _kept(rows, keep, factor), True, False), _matmul(g, h * scale, True, False)]
    if need_x:
        low = _matmul(thin, a, False, False)
        found.append(_add_low(_matmul(g, weight, False, False), None, low, keep, factor).reshape(x.shape))
    return found


# --- convolution ------------------------------------------------------------------------------------------------------
_FORMATS = ("abcd", "oihw", "abcd")


def _cudnn(kind):
    if not jt.cudnn:
        raise RuntimeError("convolution on CUDA needs cuDNN and Jittor found none: install it or run on the CPU")
    return getattr(jt.cudnn.ops, f"cudnn_conv{kind}")


def conv(x, w, bias, size, geometry):
    """y [N, O, *size] of x [N, C, H, W], w [O, C / groups, kh, kw] and bias [O] or None, as conv.py's."""
    y = _cudnn("")(x, w, *geometry, *_FORMATS)
    return y if bias is None else y + bias.reshape((1, -1, 1, 1))


def conv_data(w, y, size, geometry):
    """The gradient [N, C, *size] of `conv`'s x from that of its result."""
    return _cudnn("_backward_x")(w, y, *size, *geometry, *_FORMATS)


def conv_weights(x, y, kernel, geometry):
    """The gradient [O, C / groups, *kernel] of `conv`'s w from its x and the gradient of its result."""
    return _cudnn("_backward_w")(x, y, *kernel, *geometry, *_FORMATS)


# --- rounding ---------------------------------------------------------------------------------------------------------
def to_bfloat16(x):
    """A float32 variable rounded to the nearest bfloat16."""
    return x.unary("bfloat16")
