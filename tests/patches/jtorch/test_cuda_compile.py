"""What nvcc says, where there is one: every kernel for two cards, and sources of Jittor that CUDA 13 refuses as released."""

import subprocess
from pathlib import Path

import pytest
from jtorch import cuda_source, cuda_toolkit, toolchain

HERE = Path(__file__).parent
KERNELS = Path(__file__).resolve().parents[3] / "patches/jtorch/kernels"
CARDS = ("80", "90")


def _with_headers():
    """The first toolkit that can compile; libraries may be missing."""
    return next((kit for kit in cuda_toolkit.find_toolkits() if "cuda_runtime.h" not in kit.missing), None)


@pytest.fixture(scope="module")
def kit():
    found = _with_headers()
    if found is None:
        pytest.skip("no nvcc with its headers: pip install -r requirements-cuda.txt, or install CUDA")
    return found


def run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
def test_every_kernel_compiles(kit, tmp_path, card):
    """Machine code for the card in float32, bfloat16 and float16, with no register array in slow memory."""
    done = run(kit.nvcc, "-std=c++17", "-x", "cu", "-c", f"-arch=sm_{card}", "-Xptxas", "-v", f"-I{KERNELS}",
               HERE / "cuda_calls.cc", "-o", tmp_path / "kernels.o")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Compiling entry function") >= 120
    assert done.stderr.count("0 bytes stack frame, 0 bytes spill stores") == done.stderr.count("bytes stack frame")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """(the released package, the changed copy)"""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "jtorch").mkdir()
    return toolchain.jittor_folder(), cuda_source.patched_copy(cache) / "jittor"


def _object(kit, jittor, file, output, *flags):
    """Compile one of Jittor's files as Jittor would, .cu by nvcc."""
    common = ["-DHAS_CUDA", "-DIS_CUDA", "-w", f"-I{jittor}/src", f"-I{jittor}/extern", f"-I{jittor}/extern/cuda/inc",
              *(f"-I{folder}" for folder in kit.include if not str(folder).startswith("/usr/include"))]
    compiler = [kit.nvcc, "-std=c++17"] if str(file).endswith(".cu") else ["g++", "-std=c++14", "-fPIC"]
    return run(*compiler, *common, *flags, "-c", jittor / file if not Path(file).is_absolute() else file, "-o", output)


def test_cards_properties_compile_after_the_change(kit, sources, tmp_path):
    released, changed = sources
    before = _object(kit, released, "extern/cuda/src/helper_cuda.cc", tmp_path / "a.o")
    assert (before.returncode == 0) == (kit.version < (13, 0)), before.stderr
    assert before.returncode == 0 or "computeMode" in before.stderr
    after = _object(kit, changed, "extern/cuda/src/helper_cuda.cc", tmp_path / "b.o")
    assert after.returncode == 0, after.stderr


@pytest.mark.slow
@pytest.mark.parametrize("card", CARDS)
def test_the_header_of_every_kernel_compiles_after_the_change(kit, sources, tmp_path, card):
    text = ('#include "misc/cuda_limits.h"\n__global__ void k(float* x, int* y) {\n'
            "    x[0] = numeric_max<float>(); y[0] = numeric_min<int>();\n}\n")
    (tmp_path / "limits.cu").write_text(text)
    after = _object(kit, sources[1], tmp_path / "limits.cu", tmp_path / "limits.o", f"-arch=sm_{card}")
    assert after.returncode == 0, after.stderr
