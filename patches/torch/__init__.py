"""The torch API on Jittor: what diffusers, transformers, peft and accelerate need of PyTorch, on another engine.

Names that are not here raise `torch._missing.TorchNameError`; nothing pretends.
"""

import gc as _gc
import math as _math

from jtorch import import_hook as _import_hook

from . import _dtype, _engine, _missing, _raw, _tensor
from ._dtype import (
    Size,
    channels_last,
    channels_last_3d,
    contiguous_format,
    device,
    dtype,
    finfo,
    get_default_dtype,
    iinfo,
    layout,
    memory_format,
    preserve_format,
    promote_types,
    set_default_dtype,
    sparse_coo,
    strided,
)
from ._tensor import Tensor
from . import (  # these attach the operations; each needs those before it
    _ops_unary, _ops_pointwise, _ops_shape, _ops_join, _ops_convert, _ops_index, _ops_scatter, _ops_reduce, _ops_sort,
    _ops_linalg, _ops_create, _ops_random,
)

for _d in _dtype.ALL:
    globals()[_d.name] = _d
globals().update(_dtype.ALIASES)
globals().update(_tensor.FUNCTIONS)
range = _tensor.FUNCTIONS["arange"]
del globals()["range_"], globals()["range"]

pi, e, inf, nan = _math.pi, _math.e, _math.inf, _math.nan
__version__ = "2.2.2+jittor"

from . import version
from .random import (
    Generator,
    default_generator,
    get_rng_state,
    initial_seed,
    manual_seed,
    seed,
    set_rng_state,
)
from .autograd import (
    enable_grad,
    inference_mode,
    is_grad_enabled,
    is_inference_mode_enabled,
    no_grad,
    set_grad_enabled,
)
from ._legacy_types import (
    BFloat16Tensor,
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
)
from . import autograd, backends, cpu, cuda, fft, linalg, special, utils, amp, random
from . import nn, optim, jit, distributed
from .cuda import amp as _cuda_amp
from .nn.parameter import Parameter as _Parameter
from .amp.autocast_mode import *  # state helpers such as is_autocast_enabled
from .amp import autocast
from .serialization import load, save
from .storage import *  # TypedStorage, UntypedStorage, FloatStorage, ...
from . import serialization, storage, _utils, hub, multiprocessing, types, overrides, onnx, profiler
from ._extra import (
    are_deterministic_algorithms_enabled,
    can_cast,
    compile,
    get_default_device,
    get_float32_matmul_precision,
    get_num_interop_threads,
    get_num_threads,
    is_deterministic_algorithms_warn_only_enabled,
    is_nonzero,
    is_storage,
    is_warn_always_enabled,
    result_type,
    set_default_device,
    set_default_tensor_type,
    set_float32_matmul_precision,
    set_num_interop_threads,
    set_num_threads,
    set_printoptions,
    typename,
    use_deterministic_algorithms,
    _C,
)
from .nn import functional as _F

_FUNCTIONAL = """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d layer_norm group_norm batch_norm
    dropout embedding relu relu_ celu selu prelu rrelu threshold hardshrink bilinear cosine_similarity pairwise_distance
    pixel_shuffle pixel_unshuffle max_pool1d max_pool2d max_pool3d avg_pool1d adaptive_avg_pool1d native_layer_norm
    instance_norm"""
for _n in _FUNCTIONAL.split():
    if hasattr(_F, _n) and _n not in globals():
        globals()[_n] = getattr(_F, _n)
del _n, _d

_import_hook.install()

# The tape is made of Python objects, so with the usual threshold the collector walks through all of a program's objects
# every few training steps and finds nothing (a tenth of a small step's time). A threshold that somebody chose stays.
if _gc.get_threshold() == (700, 10, 10):
    _gc.set_threshold(20_000, 10, 10)
__getattr__ = _missing.module_getattr("torch")
