"""The choice between CPU and CUDA on machines that do not exist: a driver made of twenty lines of C, toolkits made of empty
files. What is looked at is the sentence `jdiff doctor` would print, and the folder Jittor would get."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from jtorch import cuda, cuda_device, cuda_source, cuda_toolkit, toolchain
from jtorch.toolchain import StartupError

_DRIVER = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
struct Card { const char* name; int major, minor, mode; size_t memory; } cards[] = {CARDS {0, 0, 0, 0, 0}};
int cuInit(int flags) {
    FILE* log = getenv("DRIVER_LOG") ? fopen(getenv("DRIVER_LOG"), "a") : NULL;
    if (log) { fprintf(log, "%d\\n", (int)getpid()); fclose(log); }
    return CODE;
}
int cuDriverGetVersion(int* v) { *v = VERSION; return 0; }
int cuDeviceGetCount(int* n) { *n = sizeof(cards) / sizeof(*cards) - 1; return 0; }
int cuDeviceGet(int* d, int i) { *d = i; return 0; }
int cuDeviceGetName(char* s, int n, int d) { strncpy(s, cards[d].name, n); return 0; }
int cuDeviceTotalMem_v2(size_t* m, int d) { *m = cards[d].memory; return 0; }
int cuDeviceGetAttribute(int* v, int a, int d) {
    *v = a == 75 ? cards[d].major : a == 76 ? cards[d].minor : a == 20 ? cards[d].mode : 132;
    return 0;
}
int cuGetErrorString(int code, const char** s) { *s = "no CUDA-capable device is detected"; return 0; }
"""

H100 = '{"NVIDIA H100 80GB HBM3", 9, 0, 0, 85520809984},'
TITAN_V = '{"NVIDIA TITAN V", 7, 0, 0, 12652838912},'
RTX_5090 = '{"NVIDIA GeForce RTX 5090", 12, 0, 0, 34190917632},'
GTX_1080 = '{"NVIDIA GeForce GTX 1080", 6, 1, 0, 8513978368},'


@pytest.fixture(scope="module")
def drivers(tmp_path_factory):
    """Make a driver: (cards, CUDA it runs, code of cuInit) -> folder with its libcuda.so.1."""
    made = {}

    def make(cards=H100, version=13000, code=0):
        key = cards, version, code
        if key not in made:
            made[key] = folder = tmp_path_factory.mktemp("driver")
            text = _DRIVER.replace("CARDS", cards).replace("VERSION", str(version)).replace("CODE", str(code))
            (folder / "driver.c").write_text(text)
            subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"],
                           check=True)
        return made[key]

    return make


def toolkit(folder: Path, version: str = "12.4", cudnn: str | None = "8.9.7", without: tuple[str, ...] = ()) -> Path:
    """A toolkit of empty files whose nvcc tells its version and place; returns its nvcc."""
    major = int(version.split(".")[0])
    for part in ("bin", "include/crt", "include/cub", "lib64"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(f"#!/bin/sh\ncase $1 in --dryrun) echo '#$ _HERE_={folder}/bin' >&2 ;; *) echo 'Cuda compilation tools, "
                    f"release {version}, V{version}.99' ;; esac\n")
    nvcc.chmod(0o755)
    headers = ["cuda_runtime.h", "crt/host_config.h", "cublas.h", "curand.h", "cufft.h", "cusparse.h", "cub/cub.cuh"]
    libraries = [f"lib{name}.so.{numbers[min(major, 13)][-1]}" for name, numbers in cuda_toolkit._LIBRARIES.items()
                 if min(major, 13) in numbers and name != "cudnn"]
    for name in [*(f"include/{h}" for h in headers), *(f"lib64/{lib}" for lib in libraries)]:
        (folder / name).touch()
    if cudnn:
        numbers = cudnn.split(".")
        names = ("MAJOR", "MINOR", "PATCHLEVEL")
        (folder / "include/cudnn.h").touch()
        (folder / "include/cudnn_version.h").write_text(
            "".join(f"#define CUDNN_{name} {number}\n" for name, number in zip(names, numbers)))
        (folder / f"lib64/libcudnn.so.{numbers[0]}").touch()
    for name in without:
        (folder / name).unlink()
    return nvcc


def told(driver: Path | None = None, nvcc: Path | None = None, **environment: str) -> dict:
    """What a fresh process decides: ``usable``, ``reason``, ``archs``, ``version`` and the doctor's ``lines``."""
    code = ("import json; from jtorch import cuda; d = cuda.decide(); print(json.dumps({'usable': d.usable, 'reason': "
            "d.reason, 'archs': d.architectures, 'version': d.version, 'lines': cuda.describe()}))")
    clean = {name: value for name, value in os.environ.items()
             if name not in ("JTORCH_CUDA", "nvcc_path", "cuda_archs", "CUDA_VISIBLE_DEVICES")}
    extra = {} if driver is None else {"LD_LIBRARY_PATH": str(driver)}
    extra |= {} if nvcc is None else {"nvcc_path": str(nvcc)}
    done = subprocess.run([sys.executable, "-c", code], env=clean | extra | environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_card_and_toolkit_are_used_when_asked_for(drivers, tmp_path):
    nvcc = toolkit(tmp_path)
    found = told(drivers(), nvcc, JTORCH_CUDA="1")
    assert found["usable"] and found["version"] == "12.4" and found["archs"] == "90"
    assert found["reason"] == f"NVIDIA H100 80GB HBM3 (9.0, 80 GiB), CUDA 12.4 in {tmp_path}, cuDNN 8.9.7"
    labels = dict(map(tuple, found["lines"]))
    assert labels["driver"] == "runs CUDA up to 13.0"
    assert labels["GPU"] == "0: NVIDIA H100 80GB HBM3 (9.0, 80 GiB)"
    assert labels["toolkit"] == f"CUDA 12.4 in {tmp_path}, cuDNN 8.9.7"
    without_asking = told(drivers(), nvcc)
    assert not without_asking["usable"] and "JTORCH_CUDA=1 to try" in without_asking["reason"]


@pytest.mark.parametrize(("cards", "driver", "version", "cudnn", "why"), [
    (H100, 12020, "13.0", "9.19.0", "the driver runs CUDA up to 12.2"),
    (H100, 13000, "11.1", "8.9.7", "CUDA 11.1 is older than 11.2"),
    (H100, 13000, "11.4", "8.9.7", "CUDA 11.4 does not compile for compute capability 9.0: 11.8 is the first that does"),
    (TITAN_V, 13000, "13.0", "9.19.0", "CUDA 13.0 no longer compiles for compute capability 7.0: CUDA 12 does"),
    (GTX_1080, 13000, "12.4", "8.9.7", "cards below compute capability 7.0 are not supported (this one has 6.1)"),
    (RTX_5090, 12040, "12.8", "9.19.0", "needs a driver as new as the toolkit, and this one runs CUDA up to 12.4"),
    (H100, 13000, "12.4", None, "missing: cudnn.h, libcudnn.so.9"),
    (H100, 14000, "14.0", "9.19.0", "CUDA 14.0 is newer than 13"),
])
def test_what_does_not_fit_is_said(drivers, tmp_path, cards, driver, version, cudnn, why):
    nvcc = toolkit(tmp_path, version, cudnn)
    found = told(drivers(cards, driver), nvcc, JTORCH_CUDA="1")
    assert not found["usable"]
    assert why in found["reason"] and "pip install -r requirements-cuda.txt" in found["reason"]


@pytest.mark.parametrize(("cards", "archs"), [(H100 + H100, "90"), (RTX_5090, "90"), (TITAN_V + H100, "70 90")])
def test_kernels_are_compiled_for_the_cards_that_are_there(drivers, tmp_path, cards, archs):
    found = told(drivers(cards, 12080), toolkit(tmp_path, "12.8"), JTORCH_CUDA="1")
    assert found["usable"] and found["archs"] == archs


@pytest.mark.parametrize(("cards", "code", "environment", "why"), [
    (H100, 100, {}, "the NVIDIA driver reports: no CUDA-capable device is detected (code 100, cuInit)"),
    ("", 0, {}, "the NVIDIA driver shows no card"),
    ("", 0, {"CUDA_VISIBLE_DEVICES": ""}, "the NVIDIA driver shows no card with CUDA_VISIBLE_DEVICES=''"),
    (H100.replace("0, 85", "2, 85"), 0, {}, 'NVIDIA H100 80GB HBM3 is in compute mode "prohibited"'),
])
def test_a_driver_without_a_usable_card(drivers, tmp_path, cards, code, environment, why):
    found = told(drivers(cards, 13000, code), toolkit(tmp_path), JTORCH_CUDA="1", **environment)
    assert not found["usable"] and found["reason"].startswith(why)


def test_a_broken_driver_ends_nothing(tmp_path):
    (tmp_path / "libcuda.so.1").write_bytes(b"no library")
    assert "no NVIDIA driver" in told(tmp_path)["reason"]
    source = tmp_path / "crash.c"
    source.write_text("#include <stdlib.h>\nint cuDriverGetVersion(int* v) { abort(); }\n")
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", source], check=True)
    assert "asking the NVIDIA driver failed" in told(tmp_path)["reason"]


def test_the_driver_is_initialised_in_another_process_and_once(drivers, tmp_path):
    """After a fork it could not be used."""
    code = "import os; from jtorch import cuda_device; n = [len(cuda_device.query().devices) for _ in range(2)]; " \
           "print(os.getpid(), n)"
    log = tmp_path / "log"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"LD_LIBRARY_PATH": str(drivers()), "DRIVER_LOG": str(log)})
    process, counts = done.stdout.strip().split(" ", 1)
    assert counts == "[1, 1]"
    initialised = log.read_text().split()
    assert len(initialised) == 1 and initialised[0] != process


def test_the_preferred_toolkit_is_the_first_that_is_complete(drivers, tmp_path, monkeypatch):
    bad, good = toolkit(tmp_path / "bad", without=("include/cublas.h",)), toolkit(tmp_path / "good", "12.2")
    found = told(drivers(), PATH=f"{good.parent}:{os.environ['PATH']}", CUDA_HOME=str(tmp_path / "bad"), JTORCH_CUDA="1")
    assert found["usable"] and f"CUDA 12.2 in {tmp_path / 'good'}" in found["reason"]
    shown = [text for label, text in found["lines"] if label == "toolkit"]
    assert f"CUDA 12.4 in {bad.parents[1]}, cuDNN 8.9.7 (missing: cublas.h)" == shown[0]


def wheels(site: Path) -> None:
    """NVIDIA's wheels for CUDA 13 as pip lays them out: one folder for all but cuDNN, versioned names only."""
    toolkit(site / "nvidia/cu13", "13.0", cudnn=None)
    root = site / "nvidia/cu13"
    (root / "lib64").rename(root / "lib")
    (root / "include/cub").rename(root / "include/cccl")
    (root / "include/cub").mkdir()
    (root / "include/cub").rename(root / "include/cccl/cub")
    (root / "include/cccl/cub.cuh").rename(root / "include/cccl/cub/cub.cuh")
    (root / "lib/libcudadevrt.a").touch()
    for part in ("include", "lib"):
        (site / "nvidia/cudnn" / part).mkdir(parents=True)
    (site / "nvidia/cudnn/include/cudnn.h").write_text(
        "#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 19\n#define CUDNN_PATCHLEVEL 0\n")
    for name in ("cudnn", "cudnn_graph", "cudnn_ops", "cudnn_cnn"):
        (site / f"nvidia/cudnn/lib/lib{name}.so.9").touch()
    info = site / "nvidia_cudnn_cu13-9.19.0.56.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nvidia-cudnn-cu13\nVersion: 9.19.0.56\n")


def test_wheels_become_one_toolkit(tmp_path, monkeypatch):
    site, cache = tmp_path / "site", tmp_path / "cache"
    wheels(site)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    monkeypatch.delenv("nvcc_path", raising=False)
    found = cuda_toolkit.find_toolkits()[0]
    assert (found.version, found.cudnn, found.missing) == ((13, 0), "9.19.0", ())
    assert str(found) == "CUDA 13.0 from NVIDIA's wheels"
    (cache / "jtorch").mkdir(parents=True)
    nvcc = cuda_toolkit.assemble(found, cache)
    assert not nvcc.is_symlink() and "release 13.0" in subprocess.check_output([nvcc, "--version"], text=True)
    root = nvcc.parents[1]
    for name in ("libcudart.so", "libcudart.so.13", "libcudnn_graph.so", "libcublasLt.so", "libcudadevrt.a"):
        assert (root / "lib64" / name).is_file(), name
    assert (root / "include/cudnn.h").is_file() and (root / "include/cccl/cub/cub.cuh").is_file()
    assert sorted(p.name for p in (cache / "jtorch").iterdir()) == [root.name]
    # made again when a wheel has gone and come back elsewhere
    before = root.stat().st_ino
    assert cuda_toolkit.assemble(found, cache) == nvcc and root.stat().st_ino == before
    (root / "lib64/libcudart.so").unlink()
    (root / "lib64/libcudart.so").symlink_to(tmp_path / "gone")
    cuda_toolkit.assemble(found, cache)
    assert (root / "lib64/libcudart.so").is_file()


def test_wheels_of_another_environment_can_be_named(tmp_path, monkeypatch):
    wheels(tmp_path / "site")
    monkeypatch.setenv("JTORCH_CUDA_WHEELS", str(tmp_path / "site"))
    monkeypatch.delenv("nvcc_path", raising=False)
    found = cuda_toolkit.find_toolkits()[0]
    assert (found.nvcc, found.missing) == (tmp_path / "site/nvidia/cu13/bin/nvcc", ())


def test_wheels_of_another_cuda_are_left_alone(tmp_path, monkeypatch):
    wheels(tmp_path / "site")
    nvcc = toolkit(tmp_path / "old", "12.4", cudnn=None)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.setenv("nvcc_path", str(nvcc))
    found, = cuda_toolkit.find_toolkits()
    assert found.missing == ("cudnn.h", "libcudnn.so.9")
    assert not [folder for folder in found.lib if "nvidia" in str(folder)]


def test_a_host_compiler_that_nvcc_refuses_is_named(tmp_path):
    nvcc = tmp_path / "nvcc"
    nvcc.write_text("#!/bin/sh\necho 'host_config.h(143): error: #error -- unsupported GNU version!' >&2; exit 1\n")
    nvcc.chmod(0o755)
    with pytest.raises(StartupError, match=r"unsupported GNU version.*cc_path=g\+\+-11"):
        cuda_toolkit.probe(nvcc, toolchain.find_compiler(), "80 90", tmp_path)
    assert list(tmp_path.iterdir()) == [nvcc]


# --- the changed sources ----------------------------------------------------------------------------------------------
def test_the_copy_is_changed_and_the_package_is_not(tmp_path):
    (tmp_path / "jtorch").mkdir()
    original = toolchain.jittor_folder() / "extern/cuda/inc/helper_cuda.h"
    before = original.read_bytes()
    copy = cuda_source.patched_copy(tmp_path)
    for patch in cuda_source.PATCHES:
        for edit in patch.edits:
            text = (copy / "jittor" / edit.file).read_text()
            assert edit.new in text, patch.name
            assert edit.old not in text or edit.old in edit.new, patch.name
            assert edit.old in (toolchain.jittor_folder() / edit.file).read_text(), patch.name
    assert original.read_bytes() == before
    compile((copy / "jittor/compiler.py").read_text(), "compiler.py", "exec")
    compile((copy / "jittor/compile_extern.py").read_text(), "compile_extern.py", "exec")
    made = (copy / "jittor").stat().st_mtime_ns
    assert cuda_source.patched_copy(tmp_path) == copy and (copy / "jittor").stat().st_mtime_ns == made
    assert [p for p in (tmp_path / "jtorch").iterdir()] == [copy]


def test_sources_that_differ_are_refused_whole(tmp_path, monkeypatch):
    (tmp_path / "jtorch").mkdir()
    changed = cuda_source.SourcePatch("late", "why", (cuda_source.Edit("src/ops/transpose_op.cc", "no such text", ""),))
    monkeypatch.setattr(cuda_source, "PATCHES", (*cuda_source.PATCHES, changed))
    with pytest.raises(StartupError, match=r"patch 'late'.*transpose_op\.cc.*0 times.*'no such text'.*JTORCH_CUDA=0"):
        cuda_source.patched_copy(tmp_path)
    assert list((tmp_path / "jtorch").iterdir()) == []
    monkeypatch.setattr(cuda_source.metadata, "version", lambda name: "1.3.12.0")
    with pytest.raises(StartupError, match=r"Jittor 1\.3\.12\.0.*1\.3\.11\.0 only"):
        cuda_source.patched_copy(tmp_path)


def test_cuda_can_be_switched_off(monkeypatch):
    monkeypatch.setenv("JTORCH_CUDA", "0")
    assert cuda.decide() == cuda.Cuda(False, "switched off by JTORCH_CUDA=0")
    monkeypatch.delenv("JTORCH_CUDA")
    monkeypatch.setenv("nvcc_path", "")
    assert not cuda.decide().usable


@pytest.mark.skipif(cuda_device.query().version != (0, 0), reason="this machine has NVIDIA's driver")
def test_an_nvcc_without_a_device_is_not_used(tmp_path):
    """Jittor would take it and fail to load the CUDA runtime."""
    found = told(nvcc=toolkit(tmp_path), JTORCH_CUDA="1")
    assert not found["usable"] and found["reason"] == "no NVIDIA driver (libcuda.so.1 not found)"
