"""Training does not grow (Jittor has been seen to keep memory with every accumulated gradient, jittor#602), and the
collector stays out of its way."""

import os
import subprocess
import sys
from pathlib import Path

import torch


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_five_hundred_accumulated_steps_leave_the_resident_size():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.SiLU(), torch.nn.LayerNorm(128), torch.nn.Linear(128, 8))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x, y = torch.randn(256, 64), torch.randn(256, 8)
    sizes, first = [], None
    for step in range(500):
        loss = (model(x) - y).square().mean()
        (loss / 2).backward()
        if step % 2:
            optimizer.step()
            optimizer.zero_grad()
        if step in (50, 499):
            first = first or loss.item()
            sizes.append(resident_mb())
    assert loss.item() < first
    # One step makes 1.5 MB of intermediate values; 450 kept steps would be hundreds.
    assert sizes[1] - sizes[0] < 8

def test_the_collector_is_not_asked_every_step_and_a_chosen_threshold_stays():
    code = "import gc, sys; gc.set_threshold(*map(int, sys.argv[1:])); import torch; print(*gc.get_threshold())"
    for chosen, found in (("700 10 10", "20000 10 10"), ("900 10 10", "900 10 10"), ("0 10 10", "0 10 10")):
        done = subprocess.run([sys.executable, "-c", code, *chosen.split()], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == found
