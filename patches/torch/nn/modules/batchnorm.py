"""Batch normalisation, and the state it shares with instance normalisation."""

import torch
from torch._missing import TorchNameError, module_getattr

from .. import functional as F
from .. import init
from ..parameter import Parameter
from .module import Module

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]


class _NormBase(Module):
    """Affine parameters and running statistics of shape (num_features)."""

    # Version 2 added num_batches_tracked: older checkpoints lack it, which is not an error.
    _version = 2
    _accepted_dims = ()

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        if affine:
            self.weight = Parameter(torch.empty(num_features, device=device, dtype=dtype))
            self.bias = Parameter(torch.empty(num_features, device=device, dtype=dtype))
        else:
            self.register_parameter("weight", None)
            self.register_parameter("bias", None)
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(num_features, device=device, dtype=dtype))
            self.register_buffer("running_var", torch.ones(num_features, device=device, dtype=dtype))
            self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long, device=device))
        else:
            self.register_buffer("running_mean", None)
            self.register_buffer("running_var", None)
            self.register_buffer("num_batches_tracked", None)
        self.reset_parameters()

    def reset_running_stats(self):
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self):
        self.reset_running_stats()
        if self.affine:
            init.ones_(self.weight)
            init.zeros_(self.bias)

    def _check_input_dim(self, input):
        if input.dim() not in self._accepted_dims:
            accepted = " or ".join(f"{dims}D" for dims in self._accepted_dims)
            raise ValueError(f"expected {accepted} input (got {input.dim()}D input)")

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
    ):
        version = local_metadata.get("version", None)
        if (version is None or version < 2) and self.track_running_stats:
            key = prefix + "num_batches_tracked"
            if key not in state_dict:
                tracked = self.num_batches_tracked
                usable = tracked is not None and not tracked.is_meta
                state_dict[key] = tracked if usable else torch.tensor(0, dtype=torch.long)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_NormBase):
    def forward(self, input):
        self._check_input_dim(input)
        # momentum None asks for the plain average over all batches so far.
        average_factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                average_factor = 1.0 / float(self.num_batches_tracked)
        use_batch = self.training or (self.running_mean is None and self.running_var is None)
        keep_statistics = not self.training or self.track_running_stats
        return F.batch_norm(
            input,
            self.running_mean if keep_statistics else None,
            self.running_var if keep_statistics else None,
            self.weight,
            self.bias,
            use_batch,
            average_factor,
            self.eps,
        )


class BatchNorm1d(_BatchNorm):
    """Normalise each channel over the batch: (N, C) or (N, C, L) → the same."""

    _accepted_dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Normalise each channel over batch and image: (N, C, H, W) → the same."""

    _accepted_dims = (4,)


class BatchNorm3d(_BatchNorm):
    """Normalise each channel over batch and volume: (N, C, D, H, W) → the same."""

    _accepted_dims = (5,)


class SyncBatchNorm(_BatchNorm):
    """Present for ``isinstance`` checks; there is no process group to synchronise over, so making one raises."""

    def __init__(self, *args, **kwargs):
        raise TorchNameError("torch.nn.SyncBatchNorm is not implemented in torch on Jittor")

    @classmethod
    def convert_sync_batchnorm(cls, module, process_group=None):
        raise TorchNameError("torch.nn.SyncBatchNorm.convert_sync_batchnorm is not implemented in torch on Jittor")


__getattr__ = module_getattr(__name__)
