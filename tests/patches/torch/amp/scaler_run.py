"""Twelve steps under a `GradScaler` with overflows between them; prints what it did as JSON, on Jittor and PyTorch alike."""

import json

import numpy as np
import torch


def trace() -> dict[str, list]:
    """Scale, counter and parameter after each step; steps 3, 4 and 9 have an infinite, NaN or overflowing gradient."""
    found: dict[str, list] = {"scale": [], "counter": [], "parameter": [], "norm": []}
    weight = torch.nn.Parameter(torch.tensor([0.5, -2.0, 3.0]))
    other = torch.nn.Parameter(torch.tensor([1.0]))
    optimizers = [torch.optim.SGD([weight], lr=0.1, momentum=0.9), torch.optim.AdamW([other], lr=0.05)]
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14, growth_factor=3.0, backoff_factor=0.25, growth_interval=3)
    random = np.random.default_rng(3)
    for step in range(12):
        for optimizer in optimizers:
            optimizer.zero_grad()
        x = torch.from_numpy(random.standard_normal(3).astype(np.float32))
        bad = {3: float("inf"), 4: float("nan"), 9: 3e38}.get(step, 1.0)
        loss = ((weight * x).sum() - 1) ** 2 * bad + (other * x[:1]).sum()
        scaler.scale(loss).backward()
        if step % 2:
            scaler.unscale_(optimizers[0])
            norm = torch.nn.utils.clip_grad_norm_([weight], 1.0)
            found["norm"].append(float(norm))
        for optimizer in optimizers:
            scaler.step(optimizer)
        scaler.update(2.0**10 if step == 7 else None)
        found["scale"].append(scaler.get_scale())
        found["counter"].append(scaler.state_dict()["_growth_tracker"])
        found["parameter"].append([*weight.tolist(), *other.tolist()])
    found["norm"] = [x if np.isfinite(x) else str(x) for x in found["norm"]]
    return found


if __name__ == "__main__":
    print(json.dumps(trace()))
