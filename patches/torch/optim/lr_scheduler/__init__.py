"""Learning-rate schedules with PyTorch's numbers.

A schedule is stepped after the optimizer, changes ``lr`` in every parameter group and is saved with ``state_dict()``.
All of PyTorch's schedules up to 2.2 are here; other names raise `TorchNameError`.
"""

from ..._missing import module_getattr
from ._base import EPOCH_DEPRECATION_WARNING, SAVE_STATE_WARNING, LRScheduler, _LRScheduler
from ._combine import ChainedScheduler, SequentialLR
from ._cyclic import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from ._decay import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from ._plateau import ReduceLROnPlateau

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]
_CLASSES = [globals()[name] for name in __all__] + [_LRScheduler]
__all__ += ["EPOCH_DEPRECATION_WARNING", "SAVE_STATE_WARNING"]  # transformers imports the second by name

for _cls in _CLASSES:
    _cls.__module__ = __name__  # pickles name the class where PyTorch has it
del _cls

__getattr__ = module_getattr(__name__)
