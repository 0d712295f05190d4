"""Special functions that exist under other names too."""

from .._missing import module_getattr
from .._tensor import FUNCTIONS

erf, erfc, erfinv, expm1, log1p, exp2 = (FUNCTIONS[n] for n in ("erf", "erfc", "erfinv", "expm1", "log1p", "exp2"))
expit, logsumexp, softmax, log_softmax, xlogy = (
    FUNCTIONS[n] for n in ("sigmoid", "logsumexp", "softmax", "log_softmax", "xlogy"))
__getattr__ = module_getattr("torch.special")
