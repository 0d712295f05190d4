"""What we change in Jittor's sources so that they compile with CUDA 13 and cuDNN 9, and on what.

The changes go into a copy of the package in the cache, which a process that starts with CUDA imports instead of the
installed one; site-packages is never touched, and a process on the CPU never sees the copy. Each change names the text
it replaces: where that text is not found, nothing is built. The same copy serves CUDA 11, 12 and 13 and cuDNN 8 and 9.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .toolchain import StartupError, jittor_folder

#: The one release whose sources the changes fit.
VERSION = "1.3.11.0"


@dataclass(frozen=True)
class Edit:
    """Replace ``old``, which occurs ``times`` times in ``file`` of the package, by ``new``."""

    file: str
    old: str
    new: str
    times: int = 1


@dataclass(frozen=True)
class SourcePatch:
    """Edits that belong together, with the reason for people."""

    name: str
    why: str
    edits: tuple[Edit, ...]


_ATTRIBUTE = """static inline int deviceAttribute(cudaDeviceAttr what, int device) {
  int value = 0;
  checkCudaErrors(cudaDeviceGetAttribute(&value, what, device));
  return value;
}

// General GPU Device CUDA Initialization
inline int gpuDeviceInit(int devID) {"""

_NPP = """#ifdef IS_CUDA
#include <math_constants.h>
#else
#include <limits>
#define     CUDART_INF_F  std::numeric_limits<float>::infinity()
#define     CUDART_INF    std::numeric_limits<double>::infinity()
#endif
"""

_CUDNN_8 = 'libs = ["libcudnn_ops_infer.so", "libcudnn_ops_train.so", "libcudnn_cnn_infer.so", "libcudnn_cnn_train.so"]'
_CUDNN_9 = """
                if os.path.isfile(os.path.join(cuda_include, "cudnn_graph.h")):
                    libs = ["libcudnn_graph.so", "libcudnn_ops.so", "libcudnn_cnn.so"]"""

_WHERE = """    thrust::counting_iterator<To> counting_itr(0);
    auto itr = thrust::make_transform_iterator((const Ti*)cond->ptr<Ti>(), NonZeroOp<Ti>());
"""

_FLOAT_MAX = """#include <{jt.compile_extern.cub_home}cub/cub.cuh>
#include <type/fp16_compute.h>
struct FloatMax {{ __device__ float operator()(float a, float b) const {{ return a > b ? a : b; }} }};
''', cuda_src=f'''"""

_TRANSPOSE = """            return;
        }
        static VarPtr(*fused)(Var*, NanoVector) = get_op_info("fuse_transpose").get_constructor<VarPtr, Var*, NanoVector>();
        auto var = fused(x, axes);
        forward(var);
        return;
    }
    #endif"""

PATCHES = (
    SourcePatch(
        "device properties",
        "CUDA 13 took computeMode and clockRate out of cudaDeviceProp; they are attributes now",
        (
            Edit(
                "extern/cuda/inc/helper_cuda.h",
                "// General GPU Device CUDA Initialization\ninline int gpuDeviceInit(int devID) {",
                _ATTRIBUTE,
            ),
            Edit(
                "extern/cuda/inc/helper_cuda.h",
                "if (deviceProp.computeMode == cudaComputeModeProhibited) {",
                "if (deviceAttribute(cudaDevAttrComputeMode, devID) == cudaComputeModeProhibited) {",
            ),
            Edit(
                "extern/cuda/inc/helper_cuda.h",
                "if (deviceProp.computeMode != cudaComputeModeProhibited) {",
                "if (deviceAttribute(cudaDevAttrComputeMode, current_device) != cudaComputeModeProhibited) {",
            ),
            Edit(
                "extern/cuda/inc/helper_cuda.h",
                "(deviceProp.computeMode != cudaComputeModeProhibited)) {",
                "(deviceAttribute(cudaDevAttrComputeMode, current_device) != cudaComputeModeProhibited)) {",
            ),
            Edit(
                "extern/cuda/inc/helper_cuda.h",
                "sm_per_multiproc * deviceProp.clockRate;",
                "sm_per_multiproc * deviceAttribute(cudaDevAttrClockRate, current_device);",
            ),
        ),
    ),
    SourcePatch(
        "no NPP",
        "npp.h is in no wheel, and of it only six constants are used, which the file defines itself",
        (
            Edit(
                "src/misc/cuda_limits.h",
                "#ifdef IS_CUDA\n#include <npp.h>\n#include <math_constants.h>\n#else\n#include <limits>\n",
                _NPP,
            ),
            Edit(
                "src/misc/cuda_limits.h",
                "#define     CUDART_INF_F  std::numeric_limits<float>::infinity()\n"
                "#define     CUDART_INF    std::numeric_limits<double>::infinity()\n#endif\n\n\ntemplate",
                "\n\ntemplate",
            ),
        ),
    ),
    SourcePatch(
        "C++17 for nvcc 13",
        "CUB and Thrust of CUDA 13 need it; Jittor's own translation of the flag is for Windows",
        (
            Edit(
                "compiler.py",
                "        if nvcc_version >= [11,4]:\n",
                '        if nvcc_version >= [13]:\n            nvcc_flags = nvcc_flags.replace("-std=c++14", "-std=c++17")\n'
                "        elif nvcc_version >= [11,4]:\n",
            ),
        ),
    ),
    SourcePatch(
        "PTX",
        "cards above compute capability 9.0 run what the driver compiles for them; Jittor makes code for 9.0 only",
        (
            Edit(
                "compiler.py",
                'nvcc_flags += f" -arch=compute_{min(archs)} "\n',
                'nvcc_flags += f" -arch=compute_{min(archs)} -code=compute_{min(archs)} "\n',
            ),
        ),
    ),
    SourcePatch(
        "cuDNN 9 libraries",
        "they have other names; without them Jittor does not start",
        (Edit("compile_extern.py", _CUDNN_8, _CUDNN_8 + _CUDNN_9),),
    ),
    SourcePatch(
        "no RNN on cuDNN 9",
        "the functions it calls are gone; nn.LSTM, GRU and RNN go step by step, as on the CPU",
        (
            Edit(
                "compile_extern.py",
                "        for fname in f:\n            culib_src_files.append(os.path.join(r, fname))\n",
                "        for fname in f:\n"
                '            graph = os.path.join(cuda_include, "cudnn_graph.h")\n'
                '            if fname.startswith("cudnn_rnn") and os.path.isfile(graph):\n                continue\n'
                "            culib_src_files.append(os.path.join(r, fname))\n",
            ),
            Edit(
                "nn.py",
                "if jt.flags.use_cuda and jt.cudnn and jt.compiler.is_cuda:",
                'if jt.flags.use_cuda and jt.cudnn and hasattr(jt.cudnn.ops, "cudnn_rnn") and jt.compiler.is_cuda:',
            ),
            Edit(
                "nn.py",
                "if jt.flags.use_cuda and jt.cudnn and self.proj_size == 0 and jt.compiler.is_cuda:",
                'if jt.flags.use_cuda and jt.cudnn and hasattr(jt.cudnn.ops, "cudnn_rnn") and self.proj_size == 0 '
                "and jt.compiler.is_cuda:",
            ),
        ),
    ),
    SourcePatch(
        "iterators of where",
        "CUDA 13 took CUB's counting and transforming iterators out; Thrust has the same",
        (
            Edit(
                "extern/cuda/cub/ops/cub_where_op.cc",
                "#include <thrust/transform.h>\n",
                "#include <thrust/transform.h>\n#include <thrust/iterator/counting_iterator.h>\n"
                "#include <thrust/iterator/transform_iterator.h>\n",
            ),
            Edit(
                "extern/cuda/cub/ops/cub_where_op.cc",
                "    cub::CountingInputIterator<To> counting_itr(0);\n"
                "    cub::TransformInputIterator<bool, NonZeroOp<Ti>, Ti*> itr(cond->ptr<Ti>(), NonZeroOp<Ti>());\n",
                _WHERE,
            ),
        ),
    ),
    SourcePatch(
        "maximum in softmax",
        "CUDA 13 took cub::Max out; the functor stands in the header, where its parser copes",
        (
            Edit(
                "other/code_softmax.py",
                "#include <{jt.compile_extern.cub_home}cub/cub.cuh>\n#include <type/fp16_compute.h>\n''', cuda_src=f'''",
                _FLOAT_MAX,
            ),
            Edit("other/code_softmax.py", "cub::Max()", "FloatMax()"),
        ),
    ),
    SourcePatch(
        "lane of a depthwise convolution",
        "CUDA 13 took cub::LaneId out; it is the thread's number in its block, modulo 32",
        (Edit("depthwise_conv.py", "cub::LaneId() == 0", "(threadIdx.x + blockDim.x * threadIdx.y) % 32 == 0"),),
    ),
    SourcePatch(
        "transpose on the card",
        "without cuTT, a download, a transpose that moves the last axis would run on the host",
        (Edit("src/ops/transpose_op.cc", "            return;\n        }\n    }\n    #endif", _TRANSPOSE),),
    ),
)


def apply(folder: Path) -> None:
    """Make all changes in the package at ``folder``.

    Raises:
        StartupError: a text to replace is not there as often as it should be. Nothing is changed then.
    """
    texts: dict[Path, str] = {}
    for patch in PATCHES:
        for edit in patch.edits:
            path = folder / edit.file
            try:
                text = texts[path] if path in texts else path.read_text(encoding="utf-8")
            except OSError as error:
                raise StartupError(f"patch {patch.name!r}: {path} cannot be read ({error.strerror}): {_ADVICE}") from None
            if text.count(edit.old) != edit.times:
                first = edit.old.strip().splitlines()[0]
                raise StartupError(
                    f"patch {patch.name!r}: {edit.file} of Jittor has {text.count(edit.old)} times, not "
                    f"{edit.times} times, the text {first!r}: {_ADVICE}"
                )
            texts[path] = text.replace(edit.old, edit.new)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")


_ADVICE = f"reinstall it (pip install --force-reinstall --no-deps jittor=={VERSION}) or use the CPU with JTORCH_CUDA=0"


def key() -> str:
    """Eight hex digits for the installed sources and the changes to them."""
    digest = hashlib.sha256(repr(PATCHES).encode())
    folder = jittor_folder()
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - {"__pycache__"})
        for name in sorted(names):
            status = os.stat(os.path.join(root, name))
            digest.update(f"{root}/{name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:8]


def patched_copy(cache: Path) -> Path:
    """The folder in ``cache`` whose ``jittor`` is the changed copy; made when missing, whole or not at all.

    Raises:
        StartupError: another release than 1.3.11.0 is installed, or its text is not the released one.
    """
    version = metadata.version("jittor")
    if version != VERSION:
        raise StartupError(
            f"Jittor {version} is installed and its CUDA sources are known for {VERSION} only: "
            f"pip install jittor=={VERSION}, or use the CPU with JTORCH_CUDA=0"
        )
    place = cache / "jtorch" / f"jittor-{VERSION}-{key()}"
    if (place / "jittor" / "__init__.py").is_file():
        return place
    fresh = place.with_name(f".{place.name}-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        shutil.copytree(jittor_folder(), fresh / "jittor", ignore=shutil.ignore_patterns("__pycache__"))
        apply(fresh / "jittor")
        os.rename(fresh, place)
    except OSError as error:
        if not (place / "jittor" / "__init__.py").is_file():  # otherwise another process was faster
            raise StartupError(f"Jittor's sources cannot be copied to {place} ({error.strerror})") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return place
