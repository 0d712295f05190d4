"""Makes random.npz with real PyTorch: `.venv-reference/bin/python tests/golden/make_random.py`.

The file holds a script (JSON) of interleaved draws and, for each, what PyTorch drew; the test replays the script.
`exponential` and `bernoulli` with one probability are recorded only where PyTorch takes them from the generator itself
(on Intel processors it does not); elsewhere the maker stops rather than record another stream.
"""
import json
import pathlib

import numpy as np
import torch

FLOATS = ("float32", "float64", "float16", "bfloat16")
KEEP = 400  # values stored of a longer draw, evenly spaced; the state checks that the rest was drawn too


def script() -> list[dict]:
    """One dict per draw: `op` and its arguments. The order matters: scalar normals wait across other draws."""
    steps: list[dict] = []
    for dtype in FLOATS:
        for n in (1, 15, 16, 17, 3, 100, 0, 5, 640):
            steps.append({"op": "normal", "n": n, "dtype": dtype})
            steps.append({"op": "uniform", "n": n + 1, "dtype": dtype})
        steps.append({"op": "normal", "n": 7, "dtype": dtype, "mean": 0.3, "std": 0.7})
        steps.append({"op": "normal", "n": 45, "dtype": dtype, "mean": -20.0, "std": 1e-3})
        steps.append({"op": "normal", "n": 21, "dtype": dtype, "strided": True})
        steps.append({"op": "uniform", "n": 300, "dtype": dtype, "low": -0.3, "high": 0.7})
        steps.append({"op": "uniform", "n": 300, "dtype": dtype, "low": 0.1, "high": 1000.3})
        steps.append({"op": "log_normal", "n": 6, "dtype": dtype, "mean": 0.2, "std": 0.5})
        steps.append({"op": "cauchy", "n": 9, "dtype": dtype, "median": 1.0, "sigma": 2.0})
        steps.append({"op": "geometric", "n": 9, "dtype": dtype, "p": 0.2})
        steps.append({"op": "exponential", "n": 9, "dtype": dtype, "rate": 1.5})
        steps.append({"op": "bernoulli_each", "p": [0.0, 1.0, 0.5, 0.25, 0.75, 0.5], "dtype": dtype})
    for dtype in ("uint8", "int8", "int16", "int32", "int64", "bool", *FLOATS):
        steps.append({"op": "random", "n": 20, "dtype": dtype})
        steps.append({"op": "random", "n": 5, "dtype": dtype, "low": 1})
        steps.append({"op": "randint", "n": 20, "dtype": dtype, "low": 0, "high": 2})
    for low, high in ((0, 1000), (-7, 9), (0, 2**28 - 1), (0, 2**28), (0, 2**32), (-(2**63), 2**63 - 1)):
        steps.append({"op": "randint", "n": 25, "dtype": "int64", "low": low, "high": high})
    steps.append({"op": "random", "n": 9, "dtype": "int64", "low": -(2**63)})
    steps += [{"op": "randperm", "n": n} for n in (0, 1, 2, 84, 3000)]
    steps += [{"op": "bernoulli", "n": 200, "p": p} for p in (0.0, 0.1, 0.5, 1.0)]
    weights = [[1.0, 2.0, 0.5, 4.0, 0.25], [3.0, 3.0, 1.0, 0.125, 7.0]]
    for count, replacement in ((1, False), (3, False), (5, False), (1, True), (12, True)):
        steps.append({"op": "multinomial", "weights": weights, "samples": count, "replacement": replacement})
    steps += [{"op": "normal", "n": n, "dtype": "float32"} for n in (1, 4 * 64 * 64, 70001, 2)]
    steps += [{"op": "uniform", "n": 70001, "dtype": "float32"}, {"op": "randint", "n": 70001, "low": 0, "high": 50}]
    return steps


def draw(step: dict, g: torch.Generator) -> torch.Tensor:
    """What PyTorch draws for a step."""
    s = dict(step)
    op, dtype = s.pop("op"), getattr(torch, s.pop("dtype", "int64" if step["op"] == "randint" else "float32"))
    if op == "randperm":
        return torch.randperm(s["n"], generator=g)
    if op == "multinomial":
        return torch.multinomial(torch.tensor(s["weights"]), s["samples"], s["replacement"], generator=g)
    if op == "bernoulli_each":
        return torch.bernoulli(torch.tensor(s["p"], dtype=dtype), generator=g)
    if s.pop("strided", False):
        return torch.empty(s["n"], 2, dtype=dtype)[:, 0].normal_(generator=g)
    t = torch.empty(s.pop("n"), dtype=dtype)
    if op in ("random", "randint"):
        return t.random_(s["low"], s.get("high"), generator=g) if "low" in s else t.random_(generator=g)
    return getattr(t, op + "_")(*s.values(), generator=g)


def main() -> None:
    """Write random.npz beside this file."""
    probe = torch.Generator().manual_seed(1)
    unit = torch.rand(64, dtype=torch.float64, generator=probe)
    probe.manual_seed(1)
    if not torch.equal(torch.empty(64).bernoulli_(0.5, generator=probe).bool(), unit < 0.5):
        raise SystemExit("this processor makes PyTorch draw bernoulli_ from MKL; run the maker on an AMD one")
    steps, seeds, kept = script(), [0, -1, 2**32 + 5], {}
    for i, seed in enumerate(seeds):
        g = torch.Generator().manual_seed(seed)
        for j, step in enumerate(steps):
            if i and step.get("n", 0) > KEEP:
                continue  # one seed is enough for the long ones
            t = draw(step, g)
            t = t.float() if t.dtype == torch.bfloat16 else t
            kept[f"{i}/{j}"] = t.numpy()[:: max(1, t.numel() // KEEP)] if t.ndim == 1 else t.numpy()
        kept[f"{i}/state"] = g.get_state().numpy()
    info = json.dumps({"steps": steps, "seeds": seeds, "keep": KEEP, "torch": torch.__version__})
    np.savez_compressed(pathlib.Path(__file__).with_name("random.npz"), info=np.array(info), **kept)


if __name__ == "__main__":
    main()
