"""Training does not grow: Jittor has been seen to keep memory with every accumulated gradient (jittor#602)."""

import os
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
