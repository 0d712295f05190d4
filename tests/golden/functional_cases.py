"""Calls of `torch.nn.functional` whose results and gradients are kept as golden values of real PyTorch.

A case is a name, a function of (torch, F, *tensors) and the tensors: a shape means normal draws that require a
gradient, an array stands for itself. Both sides build the same arrays from the name.
"""

import zlib

import numpy as np

CASES = {}


def case(name, f, *tensors, double=False):
    """Register a case; ``double`` also differentiates the gradients once more."""
    assert name not in CASES, name
    CASES[name] = (f, tensors, double)


def ints(*values, shape=None):
    a = np.asarray(values, np.int64)
    return a if shape is None else a.reshape(shape)


def drawn(shape, low=0.0, high=1.0, seed=7):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def arrays(name):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    out = []
    for t in CASES[name][1]:
        out.append(rng.standard_normal(t).astype(np.float32) if isinstance(t, tuple) else t)
    return out


def run(torch, name):
    """{key: array} of a case's results, first and (where asked) second gradients."""
    f, specs, double = CASES[name]
    tensors = [torch.from_numpy(a.copy()) for a in arrays(name)]
    wrt = [t.requires_grad_() for t, s in zip(tensors, specs) if isinstance(s, tuple)]
    outs = f(torch, torch.nn.functional, *tensors)
    outs = list(outs) if isinstance(outs, (tuple, list)) else [outs]
    res = {f"out{i}": o.detach().numpy() for i, o in enumerate(outs)}
    total = None
    for o in outs:
        if o.requires_grad:
            k = torch.from_numpy(np.cos(np.arange(o.numel(), dtype=np.float32)).reshape(tuple(o.shape)))
            total = (o * k).sum() if total is None else total + (o * k).sum()
    if total is None:
        return res
    grads = torch.autograd.grad(total, wrt, create_graph=double, allow_unused=True) if wrt else ()
    for i, g in enumerate(grads):
        if g is not None:
            res[f"grad{i}"] = g.detach().numpy()
    if double:
        again = None
        for g in grads:
            if g is not None and g.requires_grad:
                k = torch.from_numpy(np.sin(np.arange(g.numel(), dtype=np.float32)).reshape(tuple(g.shape)))
                again = (g * k).sum() if again is None else again + (g * k).sum()
        for i, g in enumerate(torch.autograd.grad(again, wrt, allow_unused=True)):
            if g is not None:
                res[f"second{i}"] = g.detach().numpy()
    return res


# --- linear maps, tables -----------------------------------------------------------------------------------------------
case("linear", lambda torch, F, x, w, b: F.linear(x, w, b), (3, 5, 16), (12, 16), (12,), double=True)
case("linear no bias 2d", lambda torch, F, x, w: F.linear(x, w), (9, 16), (12, 16))
case("linear 1d", lambda torch, F, x, w, b: F.linear(x, w, b), (16,), (12, 16), (12,))
case("linear of a transposed view", lambda torch, F, x, w: F.linear(x.transpose(0, 1), w), (16, 9), (12, 16))
case("bilinear", lambda torch, F, a, b, w, c: F.bilinear(a, b, w, c), (4, 5), (4, 6), (7, 5, 6), (7,))
case("embedding", lambda torch, F, i, w: F.embedding(i, w), ints(1, 3, 3, 0, 9, 1, shape=(2, 3)), (10, 8))
case("embedding padding_idx", lambda torch, F, i, w: F.embedding(i, w, padding_idx=-9),
     ints(1, 3, 3, 0, 9, 1, shape=(2, 3)), (10, 8))
case("embedding_bag mean", lambda torch, F, i, w: F.embedding_bag(i, w), ints(1, 3, 3, 0, 9, 1, shape=(2, 3)), (10, 8))
case("embedding_bag offsets sum", lambda torch, F, i, o, w: F.embedding_bag(i, w, o, mode="sum"),
     ints(1, 3, 3, 0, 9, 1), ints(0, 2, 2), (10, 8))
case("one_hot", lambda torch, F, i: (F.one_hot(i), F.one_hot(i, 12)), ints(1, 3, 3, 0, 9, 1, shape=(2, 3)))

# --- convolution -------------------------------------------------------------------------------------------------------
X4, W4 = (2, 4, 9, 8), (6, 4, 3, 3)
case("conv2d", lambda torch, F, x, w, b: F.conv2d(x, w, b), X4, W4, (6,), double=True)
case("conv2d padding 1", lambda torch, F, x, w, b: F.conv2d(x, w, b, padding=1), X4, W4, (6,))
case("conv2d stride 2 with a rest", lambda torch, F, x, w: F.conv2d(x, w, stride=2, padding=1), X4, W4, double=True)
case("conv2d uneven stride", lambda torch, F, x, w: F.conv2d(x, w, stride=(3, 2), padding=(0, 2), dilation=(1, 2)),
     X4, W4)
case("conv2d dilation 2", lambda torch, F, x, w: F.conv2d(x, w, padding=2, dilation=2), X4, W4)
case("conv2d groups 2", lambda torch, F, x, w, b: F.conv2d(x, w, b, padding=1, groups=2), X4, (6, 2, 3, 3), (6,))
case("conv2d depthwise", lambda torch, F, x, w, b: F.conv2d(x, w, b, padding=1, groups=4), X4, (4, 1, 3, 3), (4,),
     double=True)
case("conv2d depthwise doubled stride", lambda torch, F, x, w: F.conv2d(x, w, stride=2, groups=4), X4, (8, 1, 3, 3))
case("conv2d 1x1", lambda torch, F, x, w, b: F.conv2d(x, w, b), X4, (6, 4, 1, 1), (6,))
case("conv2d 1x1 stride 2", lambda torch, F, x, w: F.conv2d(x, w, stride=2), X4, (6, 4, 1, 1))
case("conv2d same even kernel", lambda torch, F, x, w: F.conv2d(x, w, padding="same"), X4, (6, 4, 4, 2))
case("conv2d same dilated", lambda torch, F, x, w: F.conv2d(x, w, padding="same", dilation=(2, 1)), X4, (6, 4, 2, 3))
case("conv2d valid, wide kernel", lambda torch, F, x, w: F.conv2d(x, w, padding="valid"), X4, (6, 4, 1, 5))
case("conv2d unbatched", lambda torch, F, x, w, b: F.conv2d(x, w, b, padding=1), X4[1:], W4, (6,))
case("conv2d of odd channels", lambda torch, F, x, w: F.conv2d(x, w, padding=1), (1, 3, 7, 11), (5, 3, 3, 3))
case("conv2d patches", lambda torch, F, x, w, b: F.conv2d(x, w, b, stride=4), (2, 3, 16, 16), (10, 3, 4, 4), (10,))
case("conv1d", lambda torch, F, x, w, b: F.conv1d(x, w, b, stride=2, padding=1), (2, 4, 19), (6, 4, 3), (6,),
     double=True)
case("conv1d groups", lambda torch, F, x, w: F.conv1d(x, w, dilation=2, groups=2), (2, 4, 19), (6, 2, 3))
case("conv1d same", lambda torch, F, x, w: F.conv1d(x, w, padding="same"), (2, 4, 19), (6, 4, 4))
case("conv3d", lambda torch, F, x, w, b: F.conv3d(x, w, b, padding=1), (2, 3, 5, 6, 4), (4, 3, 3, 3, 3), (4,),
     double=True)
case("conv3d stride, dilation, groups", lambda torch, F, x, w: F.conv3d(x, w, stride=(2, 1, 2), padding=(2, 0, 1),
                                                                     dilation=(2, 1, 1), groups=2),
     (2, 4, 5, 6, 4), (4, 2, 3, 2, 3))
case("conv_transpose2d", lambda torch, F, x, w, b: F.conv_transpose2d(x, w, b), X4, (4, 6, 3, 3), (6,), double=True)
case("conv_transpose2d stride 2", lambda torch, F, x, w: F.conv_transpose2d(x, w, stride=2, padding=1), X4, (4, 6, 4,
     4))
case("conv_transpose2d output_padding", lambda torch, F, x, w, b: F.conv_transpose2d(
    x, w, b, stride=(2, 3), padding=1, output_padding=(1, 2)), X4, (4, 6, 3, 3), (6,))
case("conv_transpose2d groups, dilation", lambda torch, F, x, w: F.conv_transpose2d(x, w, stride=2, groups=2,
     dilation=2),
     X4, (4, 3, 3, 3))
case("conv_transpose1d", lambda torch, F, x, w, b: F.conv_transpose1d(x, w, b, stride=3, padding=1, output_padding=1),
     (2, 4, 11), (4, 5, 4), (5,))
case("conv_transpose3d", lambda torch, F, x, w, b: F.conv_transpose3d(x, w, b, stride=2, padding=1, output_padding=1),
     (2, 3, 3, 4, 2), (3, 4, 3, 3, 3), (4,), double=True)
case("conv_transpose3d dilated", lambda torch, F, x, w: F.conv_transpose3d(x, w, stride=(1, 2, 1), dilation=(2, 1, 1)),
     (2, 3, 3, 4, 2), (3, 4, 3, 3, 3))
case("conv_tbc", lambda torch, F, x, w, b: F.conv_tbc(x, w, b, 1), (9, 2, 4), (3, 4, 6), (6,))

# --- normalisation -----------------------------------------------------------------------------------------------------
case("layer_norm", lambda torch, F, x, w, b: F.layer_norm(x, (24,), w, b), (2, 5, 24), (24,), (24,), double=True)
case("layer_norm two axes", lambda torch, F, x, w, b: F.layer_norm(x, (5, 24), w, b, 1e-3), (3, 5, 24), (5, 24), (5,
     24))
case("layer_norm plain", lambda torch, F, x: F.layer_norm(x, (24,), eps=1e-6), (2, 5, 24))
case("layer_norm no bias", lambda torch, F, x, w: F.layer_norm(x, (24,), w), (2, 5, 24), (24,))
case("layer_norm far from zero", lambda torch, F, x: F.layer_norm(x + 10, (24,)), (2, 5, 24))
case("group_norm", lambda torch, F, x, w, b: F.group_norm(x, 4, w, b), (2, 8, 5, 4), (8,), (8,), double=True)
case("group_norm one group", lambda torch, F, x, w, b: F.group_norm(x, 1, w, b, 1e-6), (2, 8, 5, 4), (8,), (8,))
case("group_norm 3d plain", lambda torch, F, x: F.group_norm(x, 2), (3, 6, 10))
case("group_norm 2d", lambda torch, F, x, w, b: F.group_norm(x, 2, w, b), (9, 8), (8,), (8,))
case("instance_norm", lambda torch, F, x, w, b: F.instance_norm(x, weight=w, bias=b), (2, 4, 5, 4), (4,), (4,))
case("batch_norm training", lambda torch, F, x, w, b: F.batch_norm(x, None, None, w, b, True), (3, 4, 5, 4), (4,), (4,))


def _running(torch, F, x, m, v, w, b):
    y = F.batch_norm(x, m, v, w, b, True, 0.3)
    return y, m, v


case("batch_norm running", _running, (3, 4, 5), drawn(4), drawn(4), (4,), (4,))
case("batch_norm eval", lambda torch, F, x, m, v, w, b: F.batch_norm(x, m, v, w, b), (3, 4, 5, 4), drawn(4), drawn(4),
     (4,), (4,))
case("local_response_norm", lambda torch, F, x: F.local_response_norm(x, 3, 0.1, 0.6, 2.0), (2, 7, 4, 4))
case("local_response_norm even", lambda torch, F, x: F.local_response_norm(x, 4), (2, 7, 12))
case("normalize", lambda torch, F, x: (F.normalize(x), F.normalize(x, p=1, dim=0), F.normalize(x, dim=-1)), (5, 20))

# --- activations -------------------------------------------------------------------------------------------------------
E = (2, 40)
for _n in ("silu", "gelu", "mish", "elu", "selu", "celu", "leaky_relu", "relu", "relu6", "hardtanh", "hardsigmoid",
           "hardswish", "hardshrink", "softshrink", "softsign", "tanhshrink", "softplus", "logsigmoid", "tanh", "sigmoid"):
    case(_n, lambda torch, F, x, n=_n: getattr(F, n)(x * 3), E, double=_n in ("silu", "gelu", "softplus"))
case("gelu tanh", lambda torch, F, x: F.gelu(x * 3, approximate="tanh"), E, double=True)
case("elu alpha", lambda torch, F, x: F.elu(x, 0.7), E)
case("celu alpha", lambda torch, F, x: F.celu(x, 0.7), E)
case("softplus beta, threshold", lambda torch, F, x: F.softplus(x * 5, 2.0, 6.0), E)
case("far tails", lambda torch, F, x: (F.softplus(x), F.logsigmoid(x), F.silu(x), F.gelu(x), F.elu(x), F.mish(x)),
     np.array([[-80, -30, -12, -1e-4, 0, 1e-4, 12, 30, 80] * 9], np.float32))
case("hardtanh bounds", lambda torch, F, x: F.hardtanh(x, -0.5, 0.7), E)
case("threshold", lambda torch, F, x: F.threshold(x, 0.1, 20.0), E)
case("prelu", lambda torch, F, x, w: F.prelu(x, w), (3, 4, 7), (4,))
case("prelu one", lambda torch, F, x, w: F.prelu(x, w), (3, 4, 7), (1,))
case("rrelu eval", lambda torch, F, x: F.rrelu(x), E)
case("glu", lambda torch, F, x: (F.glu(x), F.glu(x, 0)), (4, 20))
case("softmax", lambda torch, F, x: (F.softmax(x, -1), F.softmax(x, 1), F.softmin(x, dim=0)), (3, 4, 7), double=True)
case("softmax large", lambda torch, F, x: F.softmax(x * 20, -1), (6, 17))
case("softmax float64", lambda torch, F, x: F.softmax(x, -1, dtype=torch.float64).float(), (6, 17))
case("log_softmax", lambda torch, F, x: (F.log_softmax(x * 30, -1), F.log_softmax(x, 1)), (3, 4, 7), double=True)
case("in place", lambda torch, F, x: (F.relu(x * 1, inplace=True), F.silu(x * 1, inplace=True),
     F.leaky_relu_(x * 1)), E)

# --- attention ---------------------------------------------------------------------------------------------------------
Q, K = (2, 3, 5, 8), (2, 3, 7, 8)
case("attention", lambda torch, F, q, k, v: F.scaled_dot_product_attention(q, k, v), Q, K, K)
case("attention scale", lambda torch, F, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.7), Q, K, (2, 3, 7,
     6))
case("attention causal", lambda torch, F, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), Q, K, K)
case("attention bool mask", lambda torch, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), Q, K, K,
     np.random.default_rng(1).random((2, 1, 5, 7)) > 0.3)
case("attention float mask", lambda torch, F, q, k, v, m: F.scaled_dot_product_attention(q, k, v, m), Q, K, K, (5, 7))
case("attention 3d", lambda torch, F, q, k, v: F.scaled_dot_product_attention(q, k, v), Q[1:], K[1:], K[1:])


def _mha(torch, F, q, k, w, b, ow, ob, **kw):
    return F.multi_head_attention_forward(q, k, k, 12, 3, w, b, None, None, False, 0.0, ow, ob, **kw)


_MHA = ((5, 2, 12), (7, 2, 12), (36, 12), (36,), (12, 12), (12,))
case("multi head", _mha, *_MHA)
case("multi head per head, masks", lambda torch, F, *a: _mha(
    torch, F, *a[:6], attn_mask=a[6], key_padding_mask=a[7], average_attn_weights=False), *_MHA,
    np.triu(np.ones((5, 7), bool), 3), np.arange(14).reshape(2, 7) > 11)

# --- padding, patches, shuffles ----------------------------------------------------------------------------------------
P = (2, 3, 5, 6)
case("pad constant", lambda torch, F, x: (F.pad(x, (0, 1, 0, 1)), F.pad(x, (2, 1), value=3.5), F.pad(x, (1, 0, 2, 1,
     1, 1))), P)
case("pad negative", lambda torch, F, x: F.pad(x, (-1, 2, 1, -2)), P)
for _n in ("reflect", "replicate", "circular"):
    case(f"pad {_n}", lambda torch, F, x, n=_n: (F.pad(x, (2, 1, 0, 3), n), F.pad(x[0], (1, 2), n)), P)
case("pad integers", lambda torch, F, x: F.pad(x, (1, 2), value=9), ints(*range(6), shape=(2, 3)))
case("unfold", lambda torch, F, x: F.unfold(x, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)), (2, 3, 7, 6))
case("fold", lambda torch, F, x: F.fold(x, (7, 6), (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1)), (2, 18, 16))
case("pixel_shuffle", lambda torch, F, x: F.pixel_shuffle(x, 2), (2, 12, 3, 4))
case("pixel_unshuffle", lambda torch, F, x: F.pixel_unshuffle(x, 2), (2, 3, 4, 6))
case("channel_shuffle", lambda torch, F, x: F.channel_shuffle(x, 3), (2, 12, 3, 4))

# --- resizing ----------------------------------------------------------------------------------------------------------
R = (2, 3, 5, 7)
case("nearest x2", lambda torch, F, x: F.interpolate(x, scale_factor=2.0), R)
case("nearest (3, 2)", lambda torch, F, x: F.interpolate(x, scale_factor=(3, 2), mode="nearest"), R)
case("nearest size", lambda torch, F, x: (F.interpolate(x, size=(9, 4)), F.interpolate(x, (2, 11),
     mode="nearest-exact")), R)
case("nearest factor", lambda torch, F, x: (F.interpolate(x, scale_factor=1.7), F.interpolate(x, scale_factor=0.6),
                                            F.interpolate(x, scale_factor=1.7, recompute_scale_factor=True)), R)
case("nearest 1d, 3d", lambda torch, F, x: (F.interpolate(x[0], 13), F.interpolate(x[None], (4, 5, 3))), R)
case("bilinear size", lambda torch, F, x: (F.interpolate(x, (9, 4), mode="bilinear"),
                                           F.interpolate(x, (9, 4), mode="bilinear", align_corners=True)), R)
case("bilinear factor", lambda torch, F, x: (F.interpolate(x, scale_factor=(2, 0.5), mode="bilinear"), F.interpolate(
    x, scale_factor=1.3, mode="bilinear"), F.interpolate(x, scale_factor=1.3, mode="bilinear",
                                                         recompute_scale_factor=True)), R)
case("bicubic", lambda torch, F, x: (F.interpolate(x, (9, 4), mode="bicubic"), F.interpolate(
    x, scale_factor=1.5, mode="bicubic"), F.interpolate(x, (3, 12), mode="bicubic", align_corners=True)), R)
case("antialias", lambda torch, F, x: (F.interpolate(x, (3, 4), mode="bilinear", antialias=True), F.interpolate(
    x, (2, 10), mode="bicubic", antialias=True), F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)), R)
case("area", lambda torch, F, x: (F.interpolate(x, (3, 4), mode="area"), F.interpolate(x, (9, 7), mode="area")), R)
case("linear, trilinear", lambda torch, F, x: (F.interpolate(x[0], 4, mode="linear"), F.interpolate(
    x[None], (4, 3, 9), mode="trilinear"), F.interpolate(x[None], (4, 3, 9), mode="trilinear", align_corners=True)), R)
case("affine_grid", lambda torch, F, t: (F.affine_grid(t, (2, 3, 4, 5), align_corners=False), F.affine_grid(
    t, (2, 3, 4, 5), align_corners=True)), (2, 2, 3))
case("affine_grid 3d", lambda torch, F, t: F.affine_grid(t, (2, 3, 4, 5, 3), align_corners=False), (2, 3, 4))
_GRID = drawn((2, 4, 3, 2), -1.6, 1.6)
for _m in ("bilinear", "nearest", "bicubic"):
    for _p in ("zeros", "border", "reflection"):
        for _a in (False, True):
            case(f"grid_sample {_m} {_p} {_a}", lambda torch, F, x, g, m=_m, p=_p, a=_a: F.grid_sample(x, g, m, p, a), R,
                 _GRID)
case("grid_sample to the grid", lambda torch, F, x, g: F.grid_sample(x, g * 0.5, align_corners=False), R, (2, 4, 3, 2))
case("grid_sample 3d", lambda torch, F, x, g: F.grid_sample(x, g, align_corners=False), (1, 2, 3, 4, 5),
     drawn((1, 2, 3, 2, 3), -1.2, 1.2))

# --- pooling -----------------------------------------------------------------------------------------------------------
case("avg_pool2d", lambda torch, F, x: (F.avg_pool2d(x, 2), F.avg_pool2d(x, (3, 2), (2, 1), (1, 0))), R)
case("avg_pool2d ceil, padding", lambda torch, F, x: (
    F.avg_pool2d(x, 3, 2, 1, True), F.avg_pool2d(x, 3, 2, 1, True, False), F.avg_pool2d(x, 2, divisor_override=3)), R)
case("avg_pool 1d, 3d", lambda torch, F, x: (F.avg_pool1d(x[0], 3, 2, 1), F.avg_pool3d(x[None], (1, 2, 3))), R)
case("max_pool2d", lambda torch, F, x: F.max_pool2d(x, 3, 2, 1, return_indices=True), (2, 3, 9, 8))
case("max_pool2d ceil, dilation", lambda torch, F, x: (F.max_pool2d(x, 2, ceil_mode=True), F.max_pool2d(
    x, (2, 3), 1, (1, 0), (1, 2))), R)
case("max_pool 1d, 3d", lambda torch, F, x: (F.max_pool1d(x[0], 3, 2, 1), F.max_pool3d(x[None], (1, 2, 3))), R)
case("max_pool ties", lambda torch, F, x: F.max_pool2d(x.round(), 3, 2, return_indices=True), (2, 3, 9, 8))
case("adaptive_avg_pool", lambda torch, F, x: (F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, None)),
                                              F.adaptive_avg_pool1d(x[0], 4), F.adaptive_avg_pool3d(x[None], 2)), R)
case("adaptive_max_pool", lambda torch, F, x: (*F.adaptive_max_pool2d(x, (3, 4), True), F.adaptive_max_pool1d(x[0], 4),
                                              F.adaptive_max_pool3d(x[None], 2)), R)
case("max_unpool2d", lambda torch, F, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2), (2, 3, 6, 8))
case("lp_pool", lambda torch, F, x: (F.lp_pool2d(x.abs() + 0.1, 3.0, 2), F.lp_pool1d(x[0], 2.0, 3)), R)

# --- losses ------------------------------------------------------------------------------------------------------------
L = (4, 18)
for _n in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
    for _r in ("mean", "sum", "none"):
        case(f"{_n} {_r}", lambda torch, F, a, b, n=_n, r=_r: getattr(F, n)(a, b, reduction=r), L, L)
case("soft_margin_loss", lambda torch, F, a: F.soft_margin_loss(a, torch.ones(4, 18)), L)
case("smooth_l1_loss beta", lambda torch, F, a, b: (F.smooth_l1_loss(a, b, beta=0.3), F.smooth_l1_loss(a, b,
     beta=0.0)), L, L)
case("huber_loss delta", lambda torch, F, a, b: F.huber_loss(a, b, delta=0.4), L, L)
_T = ints(3, 17, 0, 5)
case("nll_loss", lambda torch, F, x, t, w: (F.nll_loss(x, t), F.nll_loss(x, t, w), F.nll_loss(
    x, t, w, reduction="none"), F.nll_loss(x, t, ignore_index=0)), L, _T, drawn(18, 0.2))
case("cross_entropy", lambda torch, F, x, t, w: (F.cross_entropy(x, t), F.cross_entropy(x, t, w), F.cross_entropy(
    x, t, reduction="none"), F.cross_entropy(x, t, w, ignore_index=5, reduction="sum")), L, _T, drawn(18, 0.2))
case("cross_entropy smoothing", lambda torch, F, x, t, w: (F.cross_entropy(x, t, label_smoothing=0.2), F.cross_entropy(
    x, t, w, label_smoothing=0.2, ignore_index=17)), L, _T, drawn(18, 0.2))
case("cross_entropy probabilities", lambda torch, F, x, p, w: (F.cross_entropy(x, p), F.cross_entropy(
    x, p, w, label_smoothing=0.1)), L, drawn(L), drawn(18, 0.2))
case("cross_entropy images", lambda torch, F, x, t: F.cross_entropy(x, t, ignore_index=1), (2, 5, 3, 4),
     np.random.default_rng(3).integers(0, 5, (2, 3, 4)))
case("cross_entropy one", lambda torch, F, x: F.cross_entropy(x, torch.tensor(2)), (6,))
case("bce", lambda torch, F, x, t, w: (F.binary_cross_entropy(x.sigmoid(), t), F.binary_cross_entropy(
    x.sigmoid(), t, w, reduction="none")), L, drawn(L), drawn(18))
case("bce logits", lambda torch, F, x, t, w: (F.binary_cross_entropy_with_logits(x * 9, t),
     F.binary_cross_entropy_with_logits(
    x, t, pos_weight=w), F.binary_cross_entropy_with_logits(x, t, w, reduction="sum")), L, drawn(L), drawn(18))
case("kl_div", lambda torch, F, x, p: (F.kl_div(F.log_softmax(x, -1), p, reduction="batchmean"), F.kl_div(
    x, p, reduction="sum"), F.kl_div(x, p.log(), log_target=True, reduction="none")), L, drawn(L, 0.1))
case("poisson_nll_loss", lambda torch, F, x, t: (F.poisson_nll_loss(x, t * 4, full=True), F.poisson_nll_loss(
    x.exp(), t, False)), L, drawn(L))
case("gaussian_nll_loss", lambda torch, F, x, t, v: F.gaussian_nll_loss(x, t, v * v + 0.1, full=True), L, L, L)
_S = np.sign(drawn((4,), -1, 1)).astype(np.float32)
case("cosine_embedding_loss", lambda torch, F, a, b, t: F.cosine_embedding_loss(a, b, t, 0.1), L, L, _S)
case("hinge_embedding_loss", lambda torch, F, a, t: F.hinge_embedding_loss(a, t[:, None].expand(4, 18)), L, _S)
case("margin_ranking_loss", lambda torch, F, a, b, t: F.margin_ranking_loss(a, b, t[:, None], 0.2), L, L, _S)
case("triplet_margin_loss", lambda torch, F, a, b, c: (F.triplet_margin_loss(a, b, c), F.triplet_margin_loss(
    a, b, c, 2.0, 1, swap=True, reduction="none"), F.triplet_margin_with_distance_loss(a, b, c, margin=3.0)), L, L, L)
case("multi_margin_loss", lambda torch, F, x, t, w: (F.multi_margin_loss(x, t), F.multi_margin_loss(
    x, t, 2, 0.5, w, reduction="none")), L, _T, drawn(18))
case("multilabel losses", lambda torch, F, x, t, y: (F.multilabel_margin_loss(x, t), F.multilabel_soft_margin_loss(x,
     y)),
     (2, 6), ints(1, 3, -1, 0, 0, 0, 5, 4, 0, -1, 2, 2, shape=(2, 6)), drawn((2, 6)).round())

# --- distances ---------------------------------------------------------------------------------------------------------
case("cosine_similarity", lambda torch, F, a, b: (F.cosine_similarity(a, b), F.cosine_similarity(a, b, 0)), L, L)
case("pairwise_distance", lambda torch, F, a, b: (F.pairwise_distance(a, b), F.pairwise_distance(a, b, 1,
     keepdim=True)), L, L)
case("pdist", lambda torch, F, a: F.pdist(a), (5, 20))
