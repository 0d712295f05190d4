"""Starting Jittor: what is checked before, what the process keeps, how several processes share one cache, and what is
said when something is missing."""

import ctypes
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from jtorch import core_build, startup, toolchain


def python(code: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess:
    """Run ``code`` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def output(code: str, **environment: str) -> list[str]:
    done = python(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# --- what the process keeps -------------------------------------------------------------------------------------------
def test_importing_jtorch_does_not_start_jittor():
    assert output("""
        import sys
        from jtorch import import_hook, startup, toolchain
        print("jittor" in sys.modules, "torch" in sys.modules, startup.describe()["started"])
    """) == ["False False False"]


def test_the_process_keeps_its_signals_environment_and_checks():
    assert output("""
        import faulthandler, os, signal, ssl, subprocess, sys
        faulthandler.enable()
        before = dict(os.environ), sys.getrecursionlimit(), ssl._create_default_https_context
        import torch
        print(before == (dict(os.environ), sys.getrecursionlimit(), ssl._create_default_https_context))
        child = subprocess.Popen(["sleep", "60"])
        child.kill()
        print(child.wait())  # Jittor's own handler would end this process here
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            print("KeyboardInterrupt")
    """) == ["True", "-9", "KeyboardInterrupt"]


def test_a_segfault_is_reported_by_pythons_faulthandler():
    done = python("import faulthandler; faulthandler.enable(); import torch; faulthandler._sigsegv()")
    assert done.returncode == -11
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_starting_is_silent_and_leaves_no_helper_processes():
    done = python("""
        import os
        import torch
        print(torch.ones(3, 4).matmul(torch.ones(4, 2)).tolist())
        print(open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split())
    """)
    assert done.stdout.splitlines() == ["[[4.0, 4.0], [4.0, 4.0], [4.0, 4.0]]", "[]"]
    assert [line for line in done.stderr.splitlines() if "Compiling" not in line and line.strip()] == []


def test_jittor_before_torch_is_refused():
    done = python("""
        import sys, types
        sys.modules["jittor"] = types.ModuleType("jittor")
        import torch
    """)
    assert "ImportError" in done.stderr or "StartupError" in done.stderr
    assert "import torch first" in done.stderr


def test_a_forked_child_computes_with_kernels_old_and_new():
    lines = output("""
        import math, os, random, signal
        import torch
        def work(number):
            x = torch.linspace(0, 1, 400000).reshape(500, 800)
            return [float((x * number).mean()), float((x @ x.T)[99, 99]), float((x + number).amax())]
        first = work(2.0)
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # a child waiting for the parent's threads would hang
            results, right = [], []
            for _ in range(4):  # chains that no cache has seen, fetched together: several kernels compile at once
                y, expected = torch.full((400, 300), 0.5), 0.5
                for name in random.choices(["sin", "cos", "tanh", "exp"], k=9):
                    y, expected = getattr(y, name)() * 0.5, getattr(math, name)(expected) * 0.5
                results.append(y.amax(0))
                right.append(expected)
            got = torch.stack(results)[:, 0].tolist()
            right = [math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6) for a, b in zip(got, right)]
            again = [math.isclose(a, b, rel_tol=1e-5) for a, b in zip(work(2.0), first)]
            os._exit(0 if all(right + again) else 3)
        print(os.waitpid(child, 0)[1], work(2.0) == first)
    """)
    assert lines == ["0 True"]


def test_processes_that_compile_the_same_new_kernels_at_once_agree():
    code = f"""
        import torch
        x = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
        y = (x * {os.getpid() % 97 + 3}).sum(1) + x.amax(1) - x.mean(1) * {os.getpid() % 89 + 2}
        z = torch.stack([y, y * y]).sum(0)
        print(z.tolist())
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    results = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0] * 4, results[0][1]
    assert len({out for out, _ in results}) == 1


# --- where the cache is -----------------------------------------------------------------------------------------------
def test_jittor_home_moves_the_cache_and_writes_no_redirect(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert toolchain.cache_home() == tmp_path
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "big disk"))
    assert toolchain.cache_home() == tmp_path / "big disk"
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path / "big"))
    found = startup.describe()
    assert found["cache"] == str(tmp_path / "big/.cache/jittor")
    assert not found["core_compiled"]
    assert not (tmp_path / ".cache").exists()


def test_a_redirect_left_by_jittor_is_followed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JITTOR_HOME", raising=False)
    redirect(tmp_path, tmp_path / "a")
    assert toolchain.cache_home() == tmp_path / "a"
    redirect(tmp_path / "a", tmp_path / "b")
    with pytest.raises(startup.StartupError, match=r"config\.json sends .* delete that file"):
        toolchain.cache_home()
    (tmp_path / ".cache/jittor/config.json").write_text("{")
    with pytest.raises(startup.StartupError, match="cannot be read"):
        toolchain.cache_home()


def redirect(home: Path, target: Path) -> None:
    folder = home / ".cache/jittor"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(f'{{"JITTOR_HOME": "{target}"}}')


# --- what is missing --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({"PATH": "/nowhere"}, "install g++"),
        ({"cc_path": "/nowhere/g++"}, "cc_path=/nowhere/g++ is not a program"),
        ({"JITTOR_HOME": "/proc/nowhere"}, "cannot be written"),
    ],
)
def test_a_missing_part_is_one_sentence(environment, part):
    done = python("""
        try:
            import torch
        except ImportError as error:
            print(error)
    """, **environment)
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stderr
    assert part in lines[0]


def test_missing_python_headers_name_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"include": str(tmp_path)})
    with pytest.raises(startup.StartupError, match=r"Python\.h is missing.*apt-get install python3\.\d+-dev"):
        toolchain.python_headers()


def test_no_space_is_told_before_compiling(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=5 * 2**20))
    with pytest.raises(startup.StartupError, match=r"needs 600 MB in .* and 5 MB are free"):
        toolchain.check_cache(tmp_path, building=True)
    assert toolchain.check_cache(tmp_path, building=False) == tmp_path / ".cache/jittor"


def test_a_path_with_blanks_is_refused(tmp_path):
    with pytest.raises(startup.StartupError, match="path with blanks"):
        toolchain.check_cache(tmp_path / "my files", building=False)


def test_a_failed_core_build_names_its_log(tmp_path):
    """The compiler works for the probe and fails on Jittor's own sources."""
    real = toolchain.find_compiler()
    fake = tmp_path / "g++"
    fake.write_text(f"""#!/bin/sh
case "$*" in *cache_compile.cc*) echo "cache_compile.cc:1:1: error: out of ideas" >&2; exit 1 ;; esac
exec {real} "$@"
""")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    done = python("""
        try:
            import torch
        except ImportError as error:
            print(error)
    """, JITTOR_HOME=str(tmp_path), cc_path=str(fake))
    assert "out of ideas" in done.stdout
    log = Path(done.stdout.strip().rsplit(" ", 1)[1])
    assert log.is_relative_to(tmp_path)
    assert "cache_compile.cc" in log.read_text()
    assert "Traceback" not in done.stdout


def test_a_compiler_that_cannot_build_extensions_is_named(tmp_path):
    with pytest.raises(startup.StartupError, match="/bin/false cannot compile"):
        toolchain.probe_compiler("/bin/false", tmp_path)
    toolchain.probe_compiler(toolchain.find_compiler(), tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- oneDNN -------------------------------------------------------------------------------------------------------------
def test_onednn_is_the_environments_own():
    found = toolchain.find_onednn()
    text = (found.include / "oneapi/dnnl/dnnl_version.h").read_text()
    assert "#define DNNL_VERSION_MAJOR 2" in text
    assert "#define DNNL_VERSION_MINOR 2" in text
    ctypes.CDLL(str(found.lib / "libmkldnn.so"))


def test_linking_onednn_replaces_what_is_broken_and_keeps_what_is_not(tmp_path):
    place = tmp_path / "mkl" / toolchain.ONEDNN_FOLDER
    (place / "include").mkdir(parents=True)  # an interrupted download
    (place / "lib").symlink_to(tmp_path / "deleted environment")
    first = toolchain.link_onednn(tmp_path)
    assert first.include.resolve() == toolchain.find_onednn().include.resolve()
    assert (first.lib / "libmkldnn.so").is_file()
    before = os.lstat(first.lib).st_mtime_ns
    toolchain.link_onednn(tmp_path)
    assert os.lstat(first.lib).st_mtime_ns == before
    assert sorted(path.name for path in place.iterdir()) == ["include", "lib"]


# --- the build's bookkeeping ------------------------------------------------------------------------------------------
def test_a_stamp_counts_only_while_its_files_are_there(tmp_path):
    library = tmp_path / "core.so"
    library.touch()
    assert not core_build.is_built(tmp_path, "f")
    core_build.write_stamp(tmp_path, "f", [str(library)])
    assert core_build.is_built(tmp_path, "f")
    assert not core_build.is_built(tmp_path, "g")
    library.unlink()
    assert not core_build.is_built(tmp_path, "f")
    core_build.stamp_path(tmp_path, "f").write_text("{")
    assert not core_build.is_built(tmp_path, "f")


def test_a_copied_cache_does_not_count_as_compiled(tmp_path):
    """Jittor would rebuild a library in it and end the process with exit code 0."""
    first = tmp_path / "first"
    library = tmp_path / "core.so"
    library.touch()
    core_build.write_stamp(first, "f", [str(library)])
    shutil.copytree(first, tmp_path / "second")
    assert core_build.is_built(first, "f") and not core_build.is_built(tmp_path / "second", "f")


def test_a_child_whose_jittor_rebuilt_itself_is_followed_by_another(tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    child = f"import pathlib, sys; p = pathlib.Path({str(runs)!r}); n = len(p.read_text()) if p.exists() else 0; " \
            "p.write_text('x' * (n + 1)); sys.exit(75 if n == 0 else 0)"
    monkeypatch.setattr(core_build, "_CHILD", child)
    with open(tmp_path / "lock", "w") as lock:
        core_build._run_child(tmp_path / "log", lock.fileno(), core_build.Progress(tmp_path / "log"))
    assert runs.read_text() == "xx"


def test_kernels_can_lie_in_a_folder_of_their_own(tmp_path):
    code = "import torch; print(float((torch.ones(80, 80) * 3).sum()))"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "JTORCH_KERNELS": str(tmp_path / "k")},
                          capture_output=True, text=True, check=True)
    assert done.stdout == "19200.0\n" and list((tmp_path / "k" / "jit").glob("*.so"))


def test_progress_follows_the_log(tmp_path, capsys, monkeypatch):
    log = tmp_path / "log"
    log.write_text("Compiling jittor_core(7/150) used: 3s\rCompiling jittor_core(42/150) used: 9s eta: 30s\r")
    plain = core_build.Progress(log)
    plain.show()
    plain.show()
    plain.finish()
    text = capsys.readouterr().err
    assert text.count("Compiling Jittor's core, once, two to three minutes\n") == 1
    assert "\r" not in text
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    core_build.Progress(log).show()
    assert capsys.readouterr().err.startswith("\rCompiling Jittor's core, once, two to three minutes: 42/150 (")


def test_describe_tells_all_when_nothing_is_missing():
    found = startup.describe()
    assert found["problems"] == []
    assert found["jittor"] == "1.3.11.0"
    assert found["cache_bytes"] > 10**6
    assert all(found[key] for key in ("compiler", "python_headers", "onednn", "cuda", "cache"))
