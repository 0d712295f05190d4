"""Datasets, samplers and the data loader, with PyTorch's order of samples for a given seed."""

import importlib

from ..._missing import module_getattr
from . import _utils, dataloader, dataset, distributed, sampler  # noqa: F401 - reached as attributes
from ._utils.collate import default_collate, default_convert
from ._utils.info import get_worker_info
from .dataloader import DataLoader, _DatasetKind  # noqa: F401
from .dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from .distributed import DistributedSampler
from .sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

__all__ = [
    "BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler", "IterableDataset",
    "RandomSampler", "Sampler", "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset",
    "WeightedRandomSampler", "default_collate", "default_convert", "get_worker_info", "random_split",
]

_unknown = module_getattr(__name__)


def __getattr__(name):
    if name in ("datapipes", "graph_settings"):  # only accelerate's dispatching loader asks for them
        return importlib.import_module(f"{__name__}.{name}")
    return _unknown(name)
