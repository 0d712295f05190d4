"""`jdiff train --processes N`: the same losses as one process, and no process left behind whatever happens."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from jdiff_style.data_parallel import Group, check
from jdiff_style.errors import UserError
from jdiff_style.launched import claim_gpu, place

LORA = "pytorch_lora_weights.safetensors"
FAST = ["--rank-per-style", 2, "--resolution", 32, "--learning-rate", "1e-3", "--grid-styles", 0, "--batch-size", 3]
FAST += ["--lora-dropout", 0]  # each process draws masks of its own


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    """Entering a group takes a share of the threads; sums of the tests after these would differ in the last bit."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


# A decoder that learns from every second picture, and drafts.
RICH = ["--batch-size", 4, "--decoder-rank-per-style", 1, "--decoder-batch", 2, "--no-flip"]
RICH += ["--decoder-softness", 0.5, "--grid-steps", 2]
RICH += ["--draft-template", "a drawing of {object}", "--drafts", 0.7]


@pytest.fixture
def words(pack_folder, tiny_base, tmp_path):
    """The command line of a small run without the sample grid; batches of three."""
    return ["train", "--pack", pack_folder, "--base", tiny_base, "--out", tmp_path / "out", *FAST]


def losses(run):
    rows = [json.loads(row) for row in (run / "log.jsonl").read_text().splitlines()]
    return [value for row in rows for name, value in row.items() if name.endswith("loss")]


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


@pytest.mark.parametrize("options", [[], ["--grad-accumulation", 2, "--train-text-encoder"], RICH])
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


def under_mpirun(start_jdiff, words, size=2):
    """`mpirun -np SIZE jdiff …`, as far as the processes can tell: what Open MPI puts into their environment."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    return [
        start_jdiff(*words, variables={"MASTER_PORT": port, "OMPI_COMM_WORLD_RANK": str(rank),
                                       "OMPI_COMM_WORLD_SIZE": str(size), "OMPI_COMM_WORLD_LOCAL_SIZE": str(size)})
        for rank in range(size)
    ]  # fmt: skip


def ends(processes):
    """(exit code, output, errors) of each."""
    said = [process.communicate(timeout=120) for process in processes]
    return [(process.returncode, *words) for process, words in zip(processes, said)]


def test_processes_of_mpirun_share_one_run(jdiff, start_jdiff, words, tmp_path):
    one = jdiff(*words, "--steps", 4, "--out", tmp_path / "one")
    first, second = ends(under_mpirun(start_jdiff, [*words, "--steps", 4]))
    assert one[0] == first[0] == second[0] == 0, (first, second)
    (run,) = (tmp_path / "out").glob("0*")
    assert first[1].strip().endswith(run.name) and second[1:] == ("", "")
    assert losses(run) == pytest.approx(losses(Path(one[1].strip().splitlines()[-1])), rel=1e-5)
    first, second = ends(under_mpirun(start_jdiff, ["train", "--resume", run]))  # nothing is left to be done
    assert first[0] == second[0] == 0 and "is finished" in first[2], (first, second)
    first, second = ends(under_mpirun(start_jdiff, ["train", "--resume", run, "--steps", 6]))
    assert first[0] == second[0] == 0 and len(losses(run)) == 6, (first, second)


def test_what_is_wrong_is_said_once_and_ends_all(start_jdiff, words, tmp_path):
    first, second = ends(under_mpirun(start_jdiff, [*words, "--pack", tmp_path / "none"]))
    assert first[0] == 1 and "error: " in first[2] and second == (0, "", "")
    for code, _, err in ends(under_mpirun(start_jdiff, ["train", "--stage", "vae"])):
        assert code == 1 and "mpirun: only a LoRA's training is shared" in err


def test_a_killed_process_of_mpirun_ends_the_others(start_jdiff, words, tmp_path):
    processes = under_mpirun(start_jdiff, [*words, "--steps", 400, "--checkpoint-every", 2])
    run = wait_for_steps(tmp_path / "out", 3, processes[0])
    processes[1].kill()
    code, _, err = ends(processes)[0]
    assert code == 1 and "mpirun: a process of the training has ended" in err and any(run.glob("checkpoints/step-*"))


def test_launchers_are_known_by_their_variables(monkeypatch):
    assert place({}) is None and place({"RANK": "0", "WORLD_SIZE": "1"}) is None
    found = place({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.2", "MASTER_PORT": "7"})
    assert (found.launcher, found.rank, found.size) == ("torchrun", 1, 2)
    assert found.address == {"MASTER_ADDR": "127.0.0.2", "MASTER_PORT": "7", "WORLD_SIZE": "2"}
    found = place({"PMI_RANK": "2", "PMI_SIZE": "4"})
    assert (found.launcher, found.rank, found.size) == ("mpiexec", 2, 4) and found.address["MASTER_ADDR"] == "127.0.0.1"
    with pytest.raises(UserError, match="must be on one machine"):
        place({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    monkeypatch.setattr("jdiff_style.launched.usable_gpus", lambda device: ["4", "5", "6", "7"])
    claim_gpu(found, "auto")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "6"
    monkeypatch.setattr("jdiff_style.launched.usable_gpus", lambda device: ["4"])
    with pytest.raises(UserError, match="mpiexec: 4 processes, but 1 GPU can be used"):
        claim_gpu(found, "auto")
