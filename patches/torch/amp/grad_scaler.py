"""Loss scaling for float16 training: keeps small gradients from flushing to zero and skips steps that overflow."""

import warnings
from collections import abc, defaultdict
from enum import Enum

import torch

from .._missing import module_getattr

__all__ = ["GradScaler", "OptState"]


class OptState(Enum):
    """Where an optimizer stands between two calls of ``update``."""

    READY = 0
    UNSCALED = 1
    STEPPED = 2


def _fresh():
    return {"stage": OptState.READY, "found_inf_per_device": {}}


class GradScaler:
    """Multiplies the loss by a scale that adapts: PyTorch's ``torch.amp.GradScaler`` (Micikevicius et al., 2018).

    Args:
        device: "cuda" or "cpu". "cuda" on a machine without CUDA warns and switches the scaler off.
        init_scale: first scale.
        growth_factor: the scale is multiplied by this after ``growth_interval`` steps in a row without overflow.
        backoff_factor: the scale is multiplied by this after a step with an infinite or NaN gradient, which is skipped.
        enabled: False makes every method pass its argument through.

    Use: ``scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()``; call ``unscale_(optimizer)`` before
    touching gradients, to clip them for example.
    """

    def __init__(self, device="cuda", init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000,
                 enabled=True):
        if device not in ("cuda", "cpu"):
            raise RuntimeError(f"GradScaler: unknown device {device!r}; 'cuda' and 'cpu' are supported")
        self._device = device
        self._enabled = enabled
        if enabled and device == "cuda" and not torch.cuda.is_available():
            warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available. Disabling.", stacklevel=2)
            self._enabled = False
        if self._enabled:
            if growth_factor <= 1.0:
                raise ValueError("The growth factor must be > 1.0.")
            if backoff_factor >= 1.0:
                raise ValueError("The backoff factor must be < 1.0.")
        self._init_scale = init_scale
        self._scale = None  # a tensor from the first scale() on
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._init_growth_tracker = 0
        self._growth_tracker = None
        self._per_optimizer_states = defaultdict(_fresh)

    def _start(self):
        if self._scale is None:
            self._scale = torch.full((), float(self._init_scale), dtype=torch.float32)
            self._growth_tracker = torch.full((), self._init_growth_tracker, dtype=torch.int32)

    def _started(self, name):
        if self._scale is None:
            raise RuntimeError(f"Attempted {name} but _scale is None: call scaler.scale(loss) before it.")
        return self._scale

    def scale(self, outputs):
        """Multiply a tensor, or every tensor of an iterable, by the scale."""
        if not self._enabled:
            return outputs
        self._start()
        if isinstance(outputs, torch.Tensor):
            return outputs * self._scale.to(outputs.device)
        if isinstance(outputs, abc.Iterable):
            parts = [self.scale(x) for x in outputs]
            return type(outputs)(parts) if isinstance(outputs, (list, tuple)) else iter(parts)
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def unscale_(self, optimizer):
        """Divide the gradients of ``optimizer`` by the scale, in place, and note whether one is infinite or NaN.

        Raises `RuntimeError` when called twice, or after `step`, since the last `update`; `ValueError` for float16
        gradients (parameters must be float32).
        """
        if not self._enabled:
            return
        scale = self._started("unscale_")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        state["found_inf_per_device"] = self._unscale_grads_(optimizer, 1.0 / scale.item())
        state["stage"] = OptState.UNSCALED

    def _unscale_grads_(self, optimizer, inverse, allow_fp16=False):
        """Returns ``{device: 0-dim float32}``, 1 where a gradient of that device is not finite."""
        all_finite = {}
        with torch.no_grad():
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if not allow_fp16 and p.grad.dtype == torch.float16:
                        raise ValueError("Attempting to unscale FP16 gradients.")
                    finite = torch.isfinite(p.grad.reshape(-1)).all()
                    device = p.grad.device
                    all_finite[device] = finite if device not in all_finite else all_finite[device] & finite
                    if inverse != 1.0:
                        p.grad.mul_(inverse)
        return {device: (~finite).to(torch.float32) for device, finite in all_finite.items()}

    def _found_inf_per_device(self, optimizer):
        return self._per_optimizer_states[id(optimizer)]["found_inf_per_device"]

    def _check_inf_per_device(self, optimizer):
        """Look for non-finite gradients without unscaling them."""
        self._started("_check_inf_per_device")
        found = self._unscale_grads_(optimizer, 1.0, allow_fp16=True)
        self._per_optimizer_states[id(optimizer)]["found_inf_per_device"] = found
        return found

    def step(self, optimizer, *args, **kwargs):
        """Run ``optimizer.step(*args, **kwargs)`` on unscaled gradients, unless one of them is not finite.

        Returns its result, or None when the step was skipped. Raises `RuntimeError` for a closure, for a second call
        before `update`, and when the optimizer has no gradient at all.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if kwargs.get("closure") is not None or (args and args[0] is not None):
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._started("step")
        state = self._per_optimizer_states[id(optimizer)]
        if state["stage"] is OptState.STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if state["stage"] is OptState.READY:
            self.unscale_(optimizer)
        found = state["found_inf_per_device"]
        if not found:
            raise AssertionError("No inf checks were recorded for this optimizer.")
        result = None
        if not sum(flag.item() for flag in found.values()):
            result = optimizer.step(*args, **kwargs)
        state["stage"] = OptState.STEPPED
        return result

    def update(self, new_scale=None):
        """Adapt the scale after the steps of all optimizers; ``new_scale`` (number or 0-dim tensor) sets it instead."""
        if not self._enabled:
            return
        scale = self._started("update")
        if new_scale is not None:
            scale.fill_(float(new_scale))
        else:
            flags = [f for s in self._per_optimizer_states.values() for f in s["found_inf_per_device"].values()]
            if not flags:
                raise AssertionError("No inf checks were recorded prior to update.")
            if any(flag.item() for flag in flags):
                scale.fill_(scale.item() * self._backoff_factor)
                self._growth_tracker.fill_(0)
            elif self._growth_tracker.item() + 1 >= self._growth_interval:
                grown = torch.tensor(scale.item() * self._growth_factor, dtype=torch.float32)
                if torch.isfinite(grown).item():
                    scale.fill_(grown.item())
                self._growth_tracker.fill_(0)
            else:
                self._growth_tracker += 1
        self._per_optimizer_states = defaultdict(_fresh)

    def get_scale(self):
        """The scale as a float (1.0 when disabled)."""
        if not self._enabled:
            return 1.0
        return float(self._init_scale) if self._scale is None else self._scale.item()

    def get_growth_factor(self):
        """The factor of growth."""
        return self._growth_factor

    def set_growth_factor(self, new_factor):
        """Set the factor of growth."""
        self._growth_factor = new_factor

    def get_backoff_factor(self):
        """The factor after an overflow."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor):
        """Set the factor after an overflow."""
        self._backoff_factor = new_factor

    def get_growth_interval(self):
        """Steps between two growths."""
        return self._growth_interval

    def set_growth_interval(self, new_interval):
        """Set the number of steps between two growths."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self):
        if not self._enabled:
            return 0
        return self._init_growth_tracker if self._growth_tracker is None else self._growth_tracker.item()

    def is_enabled(self):
        """Whether the scaler does anything."""
        return self._enabled

    def state_dict(self):
        """The scale, the factors and the counter; empty when disabled. PyTorch's layout."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval, "_growth_tracker": self._get_growth_tracker()}

    def load_state_dict(self, state_dict):
        """Restore what `state_dict` returned, here or in PyTorch. Raises `RuntimeError` for an empty one."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance "
                               "of GradScaler.")
        self._init_scale = state_dict["scale"]
        self._growth_factor = state_dict["growth_factor"]
        self._backoff_factor = state_dict["backoff_factor"]
        self._growth_interval = state_dict["growth_interval"]
        self._init_growth_tracker = state_dict["_growth_tracker"]
        self._scale = self._growth_tracker = None
        self._start()

    def __getstate__(self):
        if self._enabled and self._per_optimizer_states:
            raise AssertionError("A GradScaler instance may only be pickled at the beginning of an iteration, or at "
                                 "the end after scaler.update().")
        state = dict(self.__dict__)
        state.update(_init_scale=self.get_scale(), _init_growth_tracker=self._get_growth_tracker(), _scale=None,
                     _growth_tracker=None, _per_optimizer_states=None)
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._per_optimizer_states = defaultdict(_fresh)


__getattr__ = module_getattr(__name__)
