"""scripts/infer_parallel.py: the whole pack, going on after every kind of interruption, names that stay inside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from jdiff_style import parallel
from jdiff_style.lora_files import LORA_FILE
from jdiff_style.pictures import is_whole_picture

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "infer_parallel.py"
PATIENCE = 300  # seconds; the first start on Jittor compiles


@pytest.fixture
def command(tiny_base, pack_folder, tmp_path):
    """``command(*options)`` -> the words of a fast command over two styles of two words each."""

    def words(*options):
        return [
            "--base",
            str(tiny_base),
            "--pack",
            str(pack_folder),
            "--out",
            str(tmp_path / "out"),
            "--steps",
            "1",
            *options,
        ]

    return words


@pytest.fixture
def run(command, capsys):
    """``run(*options)`` -> (exit code, standard output, standard error), in this process."""

    def go(*options):
        code = parallel.main(command(*options))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return go


def add_words(pack_folder, count):
    """Give style 00 more prompt words, so that there is time to interrupt."""
    (pack_folder / "00" / "prompt.json").write_text(json.dumps({str(i): f"Word {i}" for i in range(count)}))


def start(words):
    """The script in a process group of its own, as a shell starts it."""
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition, process):
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "\n".join(process.communicate())
        assert time.monotonic() < limit, "nothing happened"
        time.sleep(0.02)


def workers_of(process):
    """Process ids of the script's workers."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process.pid and b"spawn_main" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return sorted(found)


def pictures(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*.png"))


def assert_nothing_half_written(out):
    assert all(is_whole_picture(path) for path in out.glob("*/*.png"))
    assert [path.name for path in out.rglob(".*")] == []


def test_layout_skipping_repair_and_grid(run, tmp_path):
    out = tmp_path / "out"
    code, text, _ = run("--grid", "--batch", "2")
    assert code == 0 and text == f"4 of 4 pictures in {out} (0 were there)\n"
    assert pictures(out) == ["00/Hotel.png", "00/Ring.png", "01/Hotel.png", "01/Ring.png"]
    assert Image.open(out / "00" / "Ring.png").size == (64, 64)
    assert Image.open(out / parallel.GRID_FILE).width > 2 * 128
    record = json.loads((out / "generation.json").read_text())
    assert record["settings"]["steps"] == 1 and record["prompts"]["00/Ring"] == ["style_00, style tag 0, Ring", ""]
    before = {name: (out / name).read_bytes() for name in pictures(out)}
    times = {name: (out / name).stat().st_mtime_ns for name in before}

    # A truncated one and a missing one are drawn again, exactly as they were; the others are not touched.
    (out / "00" / "Ring.png").write_bytes(before["00/Ring.png"][:200])
    (out / "01" / "Hotel.png").unlink()
    code, text, _ = run("--batch", "2")
    assert code == 0 and "(2 were there)" in text
    for name in before:
        changed = (out / name).stat().st_mtime_ns != times[name]
        assert changed == (name in ("00/Ring.png", "01/Hotel.png"))
    assert_same_picture(before["00/Ring.png"], (out / "00" / "Ring.png").read_bytes())

    # Other settings do not mix with what is there, unless it is overwritten.
    code, _, error = run("--seed", "1")
    assert code == 1 and error.startswith("error: --out: the pictures in") and "seed 0, not 1" in error
    code, _, error = run("--template", "{object} in {trigger}")
    assert code == 1 and "was made with the prompt" in error
    assert {name: (out / name).read_bytes() for name in before}.keys() == before.keys()
    code, text, _ = run("--seed", "1", "--overwrite", "--styles", "00")
    assert code == 0 and "2 of 2 pictures" in text
    assert (out / "00" / "Ring.png").read_bytes() != before["00/Ring.png"]
    assert (out / "01" / "Ring.png").read_bytes() == before["01/Ring.png"]
    assert_nothing_half_written(out)


def assert_same_picture(first, second):
    import io

    import numpy as np

    a, b = (np.asarray(Image.open(io.BytesIO(data))).astype(int) for data in (first, second))
    assert np.abs(a - b).max() <= 1


@pytest.mark.parametrize(
    ("style", "word"),
    [
        ("00", "../../x"),
        ("00", "a/b"),
        ("01", "."),
        ("00", "nul\0"),
        ("00", "x" * 300),
        ("01", "/tmp/x"),
        ("00", ".jdiff-1.part"),
    ],
)
def test_words_that_would_leave_the_folder_stop_the_run_before_it_begins(run, pack_folder, tmp_path, style, word):
    (pack_folder / style / "prompt.json").write_text(json.dumps({"7": "Fine", "8": word}))
    code, _, error = run()
    assert code == 1
    assert error.startswith(f"error: style {style}, prompt 8: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not (tmp_path / "x.png").exists()


def test_an_empty_word_is_refused(run, pack_folder, tmp_path):
    (pack_folder / "00" / "prompt.json").write_text('{"0": ""}')
    code, _, error = run()
    assert code == 1 and "prompt" in error and "'0'" in error
    assert not (tmp_path / "out").exists()


def test_dry_run_says_what_would_be_drawn_and_writes_nothing(run, tmp_path):
    code, text, _ = run("--dry-run", "--limit", "1")
    assert code == 0
    assert "would draw 2 of 2 pictures; 0 are there" in text
    assert f"{tmp_path / 'out' / '01' / 'Ring.png'}: 'style_01, style tag 1, Ring'" in text
    assert "steps: 1" in text
    assert not (tmp_path / "out").exists()


def test_dry_run_needs_no_torch(command, tmp_path):
    """Checking is done by a process that never imports torch: it starts at once, also before kernels are compiled."""
    for name in ("torch", "diffusers", "jittor"):
        (tmp_path / "block" / name).mkdir(parents=True)
        (tmp_path / "block" / name / "__init__.py").write_text("raise ImportError('not wanted')")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *command("--dry-run")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "block")},
    )
    assert done.returncode == 0, done.stderr
    assert "would draw 4 of 4" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers: 0 is below 1"),
        (["--batch", "-1"], "--batch: -1 is below 1"),
        (["--limit", "0"], "--limit: 0 is below 1"),
        (["--styles", "00,99"], "--styles: '99' is not in the pack; it has 00, 01"),
        (["--steps", "0"], "--steps: 0 is outside"),
        (["--negative", "blurry", "--guidance", "1"], "--guidance: 1.0 is 1 or less"),
        (["--dtype", "float16", "--device", "cpu"], "--dtype: float16 needs a CUDA device"),
        (["--lora", "nowhere"], "--lora: nowhere is not there"),
        (["--run", "nowhere"], "--run: nowhere has no recipe.yaml"),
        (["--base", "nowhere"], "--base: nowhere: there is no such folder"),
        (["--pack", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_bad_input_gets_one_sentence(run, tmp_path, options, message):
    code, _, error = run(*options)
    assert code == 1
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_base_and_pack_are_needed(capsys, tmp_path):
    assert parallel.main(["--out", str(tmp_path)]) == 1
    assert "--base is missing" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_written(run, tmp_path):
    (tmp_path / "out").write_text("a file")
    code, _, error = run()
    assert code == 1 and error.splitlines()[-1].startswith("error: --out: cannot write")


def test_a_folder_in_the_place_of_a_picture(run, tmp_path):
    (tmp_path / "out" / "00" / "Ring.png").mkdir(parents=True)
    code, _, error = run()
    assert code == 1 and error.splitlines()[-1].startswith(f"error: --out: cannot write {tmp_path / 'out'}")


def test_a_run_folder_gives_base_pack_size_guidance_and_template(tiny_base, pack_folder, tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    recipe = {
        "base": str(tiny_base),
        "pack": str(pack_folder),
        "resolution": 32,
        "caption_template": "{object} by {trigger}",
        "grid_guidance": 3.0,
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    words = ["--run", str(folder), "--out", str(tmp_path / "out"), "--dry-run"]
    assert parallel.main(words) == 1
    assert "has no pytorch_lora_weights.safetensors; finish it with `jdiff train --resume" in capsys.readouterr().err
    (folder / LORA_FILE).write_bytes(b"")
    assert parallel.main(words) == 0
    text = capsys.readouterr().out
    assert "height: 32" in text and "width: 32" in text and "'Ring by style_00'" in text and "guidance: 3.0" in text
    assert parallel.main([*words, "--height", "64", "--template", "{object}", "--guidance", "4"]) == 0
    text = capsys.readouterr().out
    assert "height: 64" in text and "width: None" in text and "'Ring'" in text and "guidance: 4.0" in text
    assert parallel.main(["--base", str(tiny_base), "--pack", str(pack_folder), *words[2:]]) == 0
    assert "guidance: 7.5" in capsys.readouterr().out


def test_a_worker_that_is_slow_to_end_is_no_failure(run, tmp_path, monkeypatch):
    """On a busy machine a process can need long to end after its work is done. Here it never does: it pauses once Python is
    unloaded and its pipe closed.
    """
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(
        "import ctypes, sys\n"
        "libc = ctypes.CDLL(None)\n"
        "if any('spawn_main' in word for word in sys.orig_argv):\n"
        "    libc.on_exit(ctypes.cast(libc.pause, ctypes.c_void_p), None)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "slow"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("jdiff_style.workers._GRACE", 0.2)
    code, text, error = run("--limit", "1")
    assert code == 0 and "2 of 2 pictures" in text and "error" not in error


def test_a_damaged_lora_is_one_sentence(run, tmp_path):
    (tmp_path / LORA_FILE).write_bytes(b"no safetensors")
    code, _, error = run("--lora", str(tmp_path / LORA_FILE), "--limit", "1")
    assert code == 1 and "Traceback" not in error
    assert any(line.startswith("error: LoRA") and "damaged" in line for line in error.splitlines())


def test_a_killed_worker_is_reported_and_the_rest_goes_on(command, pack_folder, tmp_path):
    add_words(pack_folder, 24)
    out = tmp_path / "out"
    words = command("--steps", "20", "--batch", "2", "--workers", "2", "--styles", "00")
    process = start(words)
    wait_for(lambda: pictures(out), process)
    killed = workers_of(process)[0]
    os.kill(killed, signal.SIGKILL)
    text, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, error
    assert f"process {killed}) was killed by signal 9" in error
    missing = {f"00/Word {i}" for i in range(24)} - {name.removesuffix(".png") for name in pictures(out)}
    (line,) = [line for line in error.splitlines() if line.startswith("not drawn: ")]
    assert missing and set(line.removeprefix("not drawn: ").split(", ")) == missing
    assert f"{24 - len(missing)} of 24 pictures" in text
    assert_nothing_half_written(out)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(pictures(out)) == 24


@pytest.mark.parametrize("how", ["interrupt", "kill"])
def test_a_stopped_run_leaves_nothing_half_written(command, pack_folder, tmp_path, how):
    add_words(pack_folder, 40)
    out = tmp_path / "out"
    process = start(command("--steps", "20", "--batch", "2", "--styles", "00"))
    wait_for(lambda: pictures(out), process)
    workers = workers_of(process)
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    _, error = process.communicate(timeout=PATIENCE)
    if how == "kill":
        # Workers notice that the parent is gone and end by themselves.
        limit = time.monotonic() + PATIENCE
        while any(is_alive(worker) for worker in workers) and time.monotonic() < limit:
            time.sleep(0.05)
    else:
        assert process.returncode == 130, error
        assert "none is half-written; run the same command again" in error and "Traceback" not in error
        assert "leaked" not in error
    assert workers and not any(is_alive(worker) for worker in workers)
    assert 0 < len(pictures(out)) < 40
    if how != "kill":
        assert_nothing_half_written(out)
    assert all(is_whole_picture(path) for path in out.glob("*/*.png"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_while_the_model_loads(command, tmp_path, number):
    process = start(command())
    wait_for(lambda: workers_of(process), process)
    workers = workers_of(process)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130 and "stopped: 0 of 4 pictures drawn" in error and "Traceback" not in error
    assert not any(is_alive(worker) for worker in workers)
    assert pictures(tmp_path / "out") == []


def is_alive(process):
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_leftovers_of_a_killed_run_are_cleared(run, tmp_path):
    folder = tmp_path / "out" / "00"
    folder.mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (folder / f".jdiff-{ended.pid}.part").write_bytes(b"half")
    assert run("--limit", "1", "--batch", "2")[0] == 0
    assert_nothing_half_written(tmp_path / "out")


def test_threads_are_shared_out_among_workers(monkeypatch, command):
    cores = len(os.sched_getaffinity(0))
    parse = parallel.build_parser().parse_args
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert parallel.worker_threads(parse(command("--workers", "2"))) == max(1, cores // 2)
    assert parallel.worker_threads(parse(command("--workers", "1000"))) == 1
    assert parallel.worker_threads(parse(command("--threads", "3"))) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert parallel.worker_threads(parse(command())) is None


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """``gpus(count)``: a torch that sees so many GPUs, and workers that write down their environment and end. Called again
    without an argument: what each worker had as CUDA_VISIBLE_DEVICES.
    """
    folder, notes = tmp_path / "fake", tmp_path / "environments"

    def fake(count=None):
        if count is None:
            return sorted(note.read_text() for note in notes.iterdir())
        folder.mkdir()
        notes.mkdir()
        (folder / "torch.py").write_text(
            f"class cuda:\n    is_available, device_count = (lambda: {count > 0}), (lambda: {count})\n"
        )
        (folder / "sitecustomize.py").write_text(
            "import os, sys\n"
            "if any('spawn_main' in word for word in sys.orig_argv):\n"
            f"    with open(os.path.join({str(notes)!r}, str(os.getpid())), 'w') as file:\n"
            "        file.write(os.environ.get('CUDA_VISIBLE_DEVICES', 'not set'))\n"
            "    os._exit(3)\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(folder))
        monkeypatch.setattr("jdiff_style.gpus._has_driver", lambda: True)

    return fake


@pytest.mark.parametrize(
    ("options", "visible", "count", "seen"),
    [
        ([], None, 3, ["0", "1", "2"]),
        ([], "2,GPU-8932f937,0", 3, ["0", "2", "GPU-8932f937"]),
        (["--workers", "3"], "5,4", 2, ["4", "5", "5"]),
        (["--workers", "2"], "5,4,3", 2, ["4", "5"]),  # the driver does not know the last
        ([], None, 0, ["not set"]),
        (["--device", "cpu", "--workers", "2"], None, 3, ["not set", "not set"]),
    ],
)
def test_every_worker_sees_one_gpu(run, gpus, monkeypatch, options, visible, count, seen):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpus(count)
    code, _, error = run("--batch", "1", *options)
    assert code == 1 and error.count("ended with exit code 3") == len(seen)
    assert gpus() == seen and os.environ.get("CUDA_VISIBLE_DEVICES") == visible
