"""A stand-in for an NVIDIA card: inside `card()` torch sees one, and what would run on it runs on the CPU.

Our CUDA kernels are compiled by g++ with host_cuda.h and run thread by thread, on the data of Jittor's variables, with the
arguments and the source text that `jtorch.kernels.on_cuda` hands to Jittor. cuBLAS and cuDNN are replaced by the CPU's
products and convolutions, behind checks of what Jittor's operations for them ask of their arguments. What this cannot show:
whether the kernels run on a card, how fast, and how Jittor moves data there.
"""

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from jtorch import cuda_device
from jtorch.kernels import active, bmm, buffers, conv, on_cuda, sources

_HEADER = sources.include((Path(__file__).parent / "host_cuda.h").read_text(encoding="utf-8"), "host_cuda")
_NAMES = {"bfloat16": "__nv_bfloat16", "float16": "__half"}


def _both(one, other):
    assert one.dtype == other.dtype, (one.dtype, other.dtype)
    return one.float32(), other.float32()


def _matmul(a, b, ta, tb):
    assert len(a.shape) == len(b.shape) == 2
    x, y = _both(a.unsqueeze(0), b.unsqueeze(0))
    return bmm.bmm(x, y, ta, tb).squeeze(0).cast(a.dtype)


def _batched_matmul(a, b, ta, tb):
    assert len(a.shape) == len(b.shape) == 3 and a.shape[0] == b.shape[0]
    return bmm.bmm(*_both(a, b), ta, tb).cast(a.dtype)


def _convolution(kernel, first, second, *rest):
    assert first.dtype in ("float32", "float16", "float64") and rest[-3:] == ("abcd", "oihw", "abcd")
    *size, _, _, _, _, _, _, _ = rest[:-3]
    geometry = rest[len(size):-3]
    a, b = _both(first, second)
    if kernel is not conv.conv:
        return kernel(a, b, tuple(size), geometry).cast(first.dtype)
    (sh, sw, ph, pw, dh, dw, _) = geometry
    out = [(n + 2 * p - d * (k - 1) - 1) // s + 1
           for n, k, s, p, d in zip(a.shape[2:], b.shape[2:], (sh, sw), (ph, pw), (dh, dw))]
    return kernel(a, b, None, tuple(out), geometry).cast(first.dtype)


class _Jittor:
    """The jittor module with one card, of compute capability ``arch`` / 10. ``launched``: names of kernels, in order."""

    def __init__(self, jt, arch):
        self._jt, self.launched = jt, []
        self.flags = SimpleNamespace(use_cuda=0, cuda_archs=[arch])
        self.cublas = SimpleNamespace(ops=SimpleNamespace(cublas_matmul=_matmul, cublas_batched_matmul=_batched_matmul))
        self.cudnn = SimpleNamespace(ops=SimpleNamespace(
            cudnn_conv=lambda *a: _convolution(conv.conv, *a),
            cudnn_conv_backward_x=lambda *a: _convolution(conv.conv_data, *a),
            cudnn_conv_backward_w=lambda *a: _convolution(conv.conv_weights, *a)))

    def __getattr__(self, name):
        return getattr(self._jt, name)

    def code(self, shapes, dtypes, inputs, cpu_header="", cpu_src="", cuda_header="", cuda_src="", data=None):
        if not cuda_src:  # the card's memory is the host's here
            return self._jt.code(shapes, dtypes, inputs, cpu_src=cpu_src, data=data or {},
                                 cpu_header=cpu_header.replace("#define ON_CARD 1", "#define ON_CARD 0"))
        self.launched += re.findall(r"card::(\w+)[<(]", cuda_src)[:1]
        types = [dtypes] if isinstance(shapes[0], int) else dtypes
        named = {f"in{i}": str(x.dtype) for i, x in enumerate(inputs)} | {f"out{i}": str(t) for i, t in enumerate(types)}
        pointers = "".join(f"auto* {name}_q = ({_NAMES.get(t, name + '_type')}*){name}_p;\n" for name, t in named.items())
        text = pointers + re.sub(r"\b((?:in|out)\d+)_p\b", r"\1_q", cuda_src)
        return self._jt.code(shapes, dtypes, inputs, cpu_header=_HEADER + cuda_header, cpu_src=text, data=data or {})


@contextlib.contextmanager
def card(arch=90):
    """A card inside; gives the list of names of the kernels that were launched on it."""
    jt = sources.jt
    fake = _Jittor(jt, arch)
    driver = cuda_device.Driver((13, 0), (cuda_device.Device("stand-in", divmod(arch, 10), 1 << 30),), "")
    with contextlib.ExitStack() as stack:
        for module in (active, buffers, on_cuda):
            stack.enter_context(mock.patch.object(module, "jt", fake))
        stack.enter_context(mock.patch.object(jt, "has_cuda", True))
        stack.enter_context(mock.patch.object(cuda_device, "query", lambda: driver))
        try:
            yield fake.launched
        finally:
            active.use_cpu()
