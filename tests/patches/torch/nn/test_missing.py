"""Names this backend does not have: loud, and visible to `hasattr`."""

import importlib

import pytest
import torch
from torch import nn
from torch._missing import TorchNameError

MODULES = [
    "torch.nn", "torch.nn.init", "torch.nn.modules", "torch.nn.modules.module", "torch.nn.modules.linear",
    "torch.nn.parallel", "torch.nn.parameter", "torch.nn.utils", "torch.nn.utils.parametrizations",
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_an_unknown_name_is_named_in_full(module):
    module = importlib.import_module(module)
    assert not hasattr(module, "NoSuchThing")
    with pytest.raises(TorchNameError, match=rf"{module.__name__}\.NoSuchThing is not implemented"):
        module.NoSuchThing  # noqa: B018
    with pytest.raises(ImportError):
        exec(f"from {module.__name__} import NoSuchThing")


def test_what_pytorch_2_2_lacks_is_lacking_here():
    assert not hasattr(nn, "RMSNorm")


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(3, 4),
        lambda: nn.GRU(3, 4),
        lambda: nn.SyncBatchNorm(3),
        lambda: nn.DataParallel(nn.ReLU()),
        lambda: nn.parallel.DistributedDataParallel(nn.ReLU()),
        lambda: nn.ReLU().share_memory(),
        lambda: nn.ReLU().compile(),
        lambda: nn.ReLU().register_backward_hook(print),
    ],
)
def test_names_only_raise_when_used(make):
    with pytest.raises(TorchNameError, match=r"torch\.nn.*is not implemented in torch on Jittor"):
        make()


def test_names_only_serve_type_checks():
    assert not isinstance(nn.ReLU(), (nn.DataParallel, nn.parallel.DistributedDataParallel, nn.LSTM))
    assert issubclass(nn.SyncBatchNorm, torch.nn.modules.batchnorm._BatchNorm)
