"""Cases that run unchanged on Jittor and on PyTorch. A case is a function without arguments that builds its models from
a seed, runs them and returns ``{name: array}``; :mod:`compare` decides by the first part of the name how close is equal.

A case may use the APIs of torch, diffusers, transformers and peft and nothing that tells the two environments apart.
Weights come from ``torch.manual_seed`` (that both environments initialise alike is part of the proof), inputs from
NumPy.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]
CASES: dict[str, Callable[[], Arrays]] = {}
#: Cases that exchange files: a writer puts them into ``folder()``, a reader of the same name reads them there.
WRITERS: dict[str, Callable[[], Arrays]] = {}
READERS: dict[str, Callable[[], Arrays]] = {}
_MODULES = ("unet", "autoencoder", "text", "vision", "dit", "schedulers", "pipelines", "lora", "files", "exchange")


class Skip(Exception):
    """The case cannot run here; its text says why."""


def case(function: Callable[[], Arrays]) -> Callable[[], Arrays]:
    """Register `function` as a case under its own name."""
    if function.__name__ in CASES:
        raise ValueError(f"two cases are called {function.__name__}")
    CASES[function.__name__] = function
    return function


def folder() -> str:
    """Where writers leave files for readers: the environment variable ``PARITY_FOLDER``."""
    return os.environ["PARITY_FOLDER"]


def load_all() -> dict[str, Callable[[], Arrays]]:
    """Import every module of cases and return the registry. It imports torch, so it is no part of ``import cases``."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
    for name in _MODULES:
        importlib.import_module(f"{__name__}.{name}")
    return CASES
