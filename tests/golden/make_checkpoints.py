"""Write the checkpoints that tests/patches/torch/test_serialization.py reads, with real PyTorch.

    .venv-reference/bin/python tests/golden/make_checkpoints.py

Every value follows from ``numpy.arange``, so that the tests say what to expect without PyTorch.
"""

import argparse
import random
import warnings
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


def every_kind():
    """Tensors of every dtype, shape and kind of sharing that a checkpoint can hold."""
    base = torch.arange(24.0)
    tied = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    annotated = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    annotated.note = "kept"
    return {
        "dtypes": {name: (torch.arange(5) % 3).to(getattr(torch, name)) for name in DTYPES},
        "whole": base,
        "part": base[4:20:4],
        "transposed": base[:6].reshape(2, 3).t(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "wants_grad": torch.arange(3.0).requires_grad_(),
        "parameter": tied,
        "annotated": annotated,
        "tied": OrderedDict([("a.weight", tied.detach()), ("b.weight", tied.detach())]),
        "size": torch.Size([2, 3]),
        "dtype": torch.float16,
        "device": torch.device("cpu"),
        "layout": torch.strided,
        "meta": torch.empty(2, 3, device="meta"),
    }


def plain_things():
    """What comes along in training checkpoints besides tensors."""
    return {
        "set": {1, 2},
        "slice": slice(1, None, 2),
        "complex": 1 + 2j,
        "bytes": b"\x00\xff",
        "default": defaultdict(list, a=[1]),
        "namespace": argparse.Namespace(rank=4, name="style"),
        "array": np.arange(6, dtype=np.float32).reshape(2, 3),
        "big_endian": np.arange(3, dtype=">i4"),
        "number": np.float64(0.5),
        "path": Path("a/b"),
    }


def training_state():
    """An optimizer, a scheduler and the random states, as accelerate saves them."""
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    weight = torch.nn.Parameter(torch.arange(4.0))
    optimizer = torch.optim.AdamW([weight], lr=0.5, weight_decay=0.25)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    weight.grad = torch.ones(4)
    optimizer.step()
    scheduler.step()
    return {
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "random_state": random.getstate(),
        "numpy_random_seed": np.random.get_state(),
        "torch_manual_seed": torch.get_rng_state(),
    }


def main():
    torch.save(every_kind(), HERE / "checkpoint_zip.pt")
    torch.save(plain_things(), HERE / "checkpoint_plain.pt")
    torch.save(training_state(), HERE / "checkpoint_training.pt")
    legacy = every_kind()
    del legacy["meta"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(legacy, HERE / "checkpoint_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), HERE / "checkpoint_whole_module.pt")
    tensors = {name: value for name, value in every_kind()["dtypes"].items()}
    tensors["empty"], tensors["scalar"] = torch.zeros(0, 4), torch.tensor(7)
    tensors["table"] = torch.arange(12.0).reshape(3, 4).bfloat16()
    save_file(tensors, HERE / "weights.safetensors", {"format": "pt"})


if __name__ == "__main__":
    main()
