"""`jdiff train --processes N`: the same losses as one process, and no process left behind whatever happens."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from jdiff_style.data_parallel import Group, check
from jdiff_style.errors import UserError

LORA = "pytorch_lora_weights.safetensors"
FAST = ["--rank-per-style", 2, "--resolution", 32, "--learning-rate", "1e-3", "--grid-styles", 0, "--batch-size", 3]
FAST += ["--lora-dropout", 0]  # each process draws masks of its own


@pytest.fixture
def words(pack_folder, tiny_base, tmp_path):
    """The command line of a small run without the sample grid; batches of three."""
    return ["train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / "out", *FAST]


def losses(run):
    return [json.loads(row)["loss"] for row in (run / "log.jsonl").read_text().splitlines()]


def workers_of(pid):
    """Numbers of the processes that help the process `pid`."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"jdiff_style.train_worker" in line and str(pid).encode() in line:
            found.append(int(folder.name))
    return found


def wait_for(condition, seconds=60):
    for _ in range(int(seconds / 0.05)):
        if condition():
            return True
        time.sleep(0.05)
    return False


def wait_for_steps(folder, count, process):
    assert wait_for(
        lambda: process.poll() is not None
        or any(len(log.read_text().splitlines()) >= count for log in folder.glob("0*/log.jsonl"))
    )
    assert process.poll() is None, process.communicate()[1]
    (run,) = folder.glob("0*")
    return run


@pytest.mark.parametrize("options", [[], ["--grad-accumulation", 2, "--train-text-encoder"]])
def test_two_processes_have_the_losses_of_one(jdiff, words, tmp_path, options):
    runs = {}
    for count in (1, 2):
        code, out, err = jdiff(*words, *options, "--steps", 5, "--processes", count, "--out", tmp_path / str(count))
        assert code == 0, err
        runs[count] = Path(out.strip().splitlines()[-1])
    assert losses(runs[2]) == pytest.approx(losses(runs[1]), rel=1e-5)
    one, two = (load_file(runs[count] / LORA) for count in (1, 2))
    assert one.keys() == two.keys()
    for name in one:
        assert np.abs(one[name] - two[name]).max() < 2e-4, name
    assert not workers_of(os.getpid())


def test_ctrl_c_stops_all_and_the_run_goes_on_with_another_number(jdiff, start_jdiff, words, tmp_path):
    process = start_jdiff(*words, "--steps", 400, "--processes", 2)
    run = wait_for_steps(tmp_path / "out", 3, process)
    helpers = workers_of(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "which is saved" in err
    assert len(helpers) == 1 and wait_for(lambda: not workers_of(process.pid), 15)
    done = len(losses(run))
    code, _, err = jdiff("train", "--resume", run, "--steps", done + 3, "--processes", 3)
    assert code == 0 and len(losses(run)) == done + 3, err
    code, out, err = jdiff(*words, "--steps", done + 3, "--out", tmp_path / "whole")
    assert code == 0 and losses(run) == pytest.approx(losses(Path(out.strip().splitlines()[-1])), rel=1e-4)


def test_a_killed_helper_is_told_and_the_run_can_go_on(start_jdiff, words, tmp_path):
    process = start_jdiff(*words, "--steps", 400, "--processes", 2, "--checkpoint-every", 2)
    run = wait_for_steps(tmp_path / "out", 3, process)
    (helper,) = workers_of(process.pid)
    os.kill(helper, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "process 1 of the training ended with exit code -9" in err and "Traceback" not in err
    assert any(run.glob("checkpoints/step-*"))


def test_helpers_end_with_the_main_process(start_jdiff, words, tmp_path):
    process = start_jdiff(*words, "--steps", 400, "--processes", 3)
    wait_for_steps(tmp_path / "out", 2, process)
    assert len(workers_of(process.pid)) == 2
    process.kill()
    process.communicate()
    assert wait_for(lambda: not workers_of(process.pid), 20)


def test_an_exploding_loss_stops_all(jdiff, words, tmp_path):
    code, _, err = jdiff(*words, "--steps", 30, "--processes", 2, "--learning-rate", 1, "--max-grad-norm", 0,
                         "--lora-plus-gamma", 1e4)  # fmt: skip
    assert code == 1 and "the loss became" in err and len(err.strip().splitlines()[-1:]) == 1
    assert not workers_of(os.getpid())


def test_more_processes_than_pictures_or_gpus(jdiff, words, tmp_path, monkeypatch):
    code, _, err = jdiff(*words, "--processes", 4)
    assert code == 1 and "processes: 4 share batches of 3" in err and not (tmp_path / "out").exists()
    monkeypatch.setattr("jdiff_style.data_parallel.usable_gpus", lambda device: ["0"])
    with pytest.raises(UserError, match="processes: 2, but 1 GPU can be used"):
        check(2, 8, "cuda")
    check(1, 8, "cuda")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [7, 8, 20])
def test_shares_are_whole_disjoint_and_even(size, count):
    shares = [list(range(count)[Group(rank, size).share(count)]) for rank in range(size)]
    assert [place for share in shares for place in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_sent():
    parameter = torch.nn.Parameter(torch.ones(2))
    Group().add_gradients([parameter])
    assert Group().add(1.5, 2.0) == [1.5, 2.0] and parameter.grad is None and Group().leads
