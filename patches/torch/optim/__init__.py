"""Optimizers with PyTorch's update rules, option names and checkpoint layout.

Supported: `SGD`, `Adam`, `AdamW`, `Adamax`, `Adagrad`, `RMSprop`, and the schedules of `torch.optim.lr_scheduler`.
Not supported: sparse gradients, complex parameters, ``capturable=True`` and ``differentiable=True`` (each is refused
with an error); any other optimizer name raises `TorchNameError`. ``foreach`` and ``fused`` choose between
implementations of the same formula in PyTorch; here there is one, so they are checked, stored in the checkpoint and
change nothing.
"""

from .._missing import module_getattr
from . import lr_scheduler
from .adagrad import Adagrad
from .adam import Adam
from .adamax import Adamax
from .adamw import AdamW
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Adamax", "Optimizer", "RMSprop", "lr_scheduler"]

__getattr__ = module_getattr(__name__)
