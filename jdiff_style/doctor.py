"""`jdiff doctor`: what is installed, what the machine offers, and whether a small computation comes out right.

Works on Jittor and on PyTorch, and reports everything it can even where the backend does not start.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from typing import Any

import numpy as np

DISTRIBUTIONS = (
    "torch", "jittor", "diffusers", "transformers", "tokenizers", "peft", "accelerate", "safetensors",
    "huggingface_hub", "numpy", "pillow", "onednn-cpu-gomp",
)  # fmt: skip

#: Largest error, relative to the largest reference value, at which a check passes; float32 sums of a few hundred terms.
TOLERANCE = 1e-5


def main(argv: Iterable[str] | None = None) -> int:
    """Print the report; returns 0 when the backend starts and every self-test passes, else 1."""
    parser = argparse.ArgumentParser(
        prog="jdiff doctor",
        description="Report versions, backend, compiler, oneDNN, CUDA and cache, then run a ten-second self-test.",
    )
    parser.parse_args(None if argv is None else list(argv))
    for name, value in environment():
        _line(name, value)
    return 0 if _self_test() else 1


def environment() -> Iterator[tuple[str, str]]:
    """(label, value) for everything that can be told without starting the backend."""
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    yield "system", f"{platform.platform()}, {os.cpu_count()} CPUs"
    for name in DISTRIBUTIONS:
        version = _version(name)
        if version is not None:
            yield name, version
        elif name not in ("jittor", "onednn-cpu-gomp") or backend() == "Jittor":
            yield name, "not installed: bash scripts/setup.sh"
    yield "backend", backend()
    if backend() == "Jittor":
        yield from _jittor_environment()


def backend() -> str:
    """"Jittor" or "PyTorch", by the installed distribution named torch; "none" without one."""
    version = _version("torch")
    if version is None:
        return "none"
    return "Jittor" if version.endswith("+jittor") else "PyTorch"


def _jittor_environment() -> Iterator[tuple[str, str]]:
    try:
        from jtorch import startup  # part of the distribution named torch; does not import jittor itself
    except ImportError as error:
        yield "jtorch", f"does not import: {error}"
        return
    found: dict[str, Any] = startup.describe()
    missing = "missing, see below"
    yield "compiler", found["compiler"] or missing
    yield "Python.h", found["python_headers"] or missing
    yield "oneDNN", f"found in {found['onednn']}" if found["onednn"] else missing
    yield from found["cuda"]
    if found["cache"]:
        core = "core compiled" if found["core_compiled"] else "core not compiled: the next start takes two to three minutes"
        yield "cache", f"{found['cache']} ({found['cache_bytes'] / 2**20:.0f} MB, {core})"
    for problem in found["problems"]:
        yield "PROBLEM", problem


def _self_test() -> bool:
    """Start the backend, run the checks and print PASS or FAIL for each; True when all pass."""
    began = time.monotonic()
    try:
        import torch
    except ImportError as error:
        _line("self-test", f"FAIL: torch does not import: {error}")
        return False
    if backend() == "PyTorch":
        reason = "no device found" if torch.version.cuda else "this PyTorch is built without CUDA"
        _line("CUDA", "in use" if torch.cuda.is_available() else f"not in use: {reason}")
    passed = True
    for name, check in CHECKS.items():
        try:
            deviation = check(torch)
        except Exception as problem:
            reason = " ".join(str(problem).split())[:300]
            _line(name, f"FAIL: {type(problem).__name__}: {reason}")
            passed = False
            continue
        good = deviation <= TOLERANCE
        passed &= good
        _line(name, f"{'PASS' if good else 'FAIL'} (error {deviation:.1e}, at most {TOLERANCE:.0e})")
    _line("self-test", f"{'PASS' if passed else 'FAIL'} in {time.monotonic() - began:.1f} s")
    return passed


def _matmul(torch: Any) -> float:
    left, right = _random(0, 96, 130), _random(1, 130, 64)
    got = torch.from_numpy(left) @ torch.from_numpy(right)
    return relative_error(got.numpy(), left.astype(np.float64) @ right)


def _convolution(torch: Any) -> float:
    image, weight = _random(2, 2, 8, 17, 19), _random(3, 12, 8, 3, 3)
    got = torch.nn.functional.conv2d(torch.from_numpy(image), torch.from_numpy(weight), padding=1)
    return relative_error(got.numpy(), np.einsum("nchwij,ocij->nohw", _windows(image), weight, optimize=True))


def _gradient(torch: Any) -> float:
    """Of sum(conv(image, weight)²) with respect to weight: 2 Σ output · window."""
    image, weight = _random(4, 2, 6, 12, 12), _random(5, 10, 6, 3, 3)
    leaf = torch.from_numpy(weight).requires_grad_()
    torch.nn.functional.conv2d(torch.from_numpy(image), leaf, padding=1).square().sum().backward()
    windows = _windows(image)
    output = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
    return relative_error(leaf.grad.numpy(), 2 * np.einsum("nohw,nchwij->ocij", output, windows, optimize=True))


CHECKS: dict[str, Callable[[Any], float]] = {
    "matmul": _matmul,
    "convolution": _convolution,
    "gradient": _gradient,
}


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the largest expected magnitude; infinite when shapes differ or a value is not
    finite."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    return float(np.abs(got - expected).max() / np.abs(expected).max())


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _windows(image: np.ndarray) -> np.ndarray:
    """All 3×3 windows of ``image`` (N, C, H, W) padded by one zero: (N, C, H, W, 3, 3) in float64."""
    padded = np.pad(image.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    view: Any = np.lib.stride_tricks.sliding_window_view  # its annotation allows one axis only
    return view(padded, (3, 3), axis=(2, 3))


def _version(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _line(name: str, value: str) -> None:
    print(f"{name:<16} {value}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
