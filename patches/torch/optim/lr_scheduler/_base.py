"""What every schedule shares: initial rates, the step counter, the order check and saving."""

import contextlib
import types
import warnings

import torch

from ..optimizer import Optimizer

EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` is deprecated: call `scheduler.step()` without it; an explicit epoch "
    "uses the closed form of the schedule where there is one.")
SAVE_STATE_WARNING = "Please also save or load the state of the optimizer when saving or loading the scheduler."


def set_lr(group, lr):
    """Write a rate into a parameter group; a rate held as a tensor keeps its identity."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(float(lr))
    else:
        group["lr"] = lr


def check_optimizer(optimizer):
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


def per_group(optimizer, name, value):
    """Return ``value`` once per parameter group; a list or tuple must already have that length."""
    n = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        return [value] * n
    if len(value) != n:
        raise ValueError(f"{name} must have the same length as optimizer.param_groups: expected {n}, got {len(value)}")
    return list(value)


def saved_functions(functions):
    """State of a list of schedule functions: the attributes of callable objects, None for plain functions."""
    return [None if isinstance(f, types.FunctionType) else dict(f.__dict__) for f in functions]


class LRScheduler:
    """Base of the schedules. A subclass defines ``get_lr()`` and, optionally, ``_get_closed_form_lr()``.

    Args:
        optimizer: the optimizer whose groups are driven.
        last_epoch: index of the last finished step; -1 starts, any other value needs ``initial_lr`` in the groups.
        verbose: print each new rate (deprecated in PyTorch).
    """

    def __init__(self, optimizer, last_epoch=-1, verbose="deprecated"):
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                lr = group["lr"]
                group.setdefault("initial_lr", lr.clone() if isinstance(lr, torch.Tensor) else lr)
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{i}] when resuming an optimizer")
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.verbose = verbose is True
        self._initial_step()

    def _initial_step(self):
        if hasattr(self.optimizer, "_opt_called"):
            self.optimizer._opt_called = False
        self._step_count = 0
        self._advance(None)

    def state_dict(self):
        """Everything but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict):
        """Restore what `state_dict` returned, here or in PyTorch. The optimizer's own state is loaded separately."""
        self.__dict__.update(state_dict)

    def get_last_lr(self):
        """The rates last set, one per parameter group."""
        return self._last_lr

    def get_lr(self):
        """Compute the rates of step ``last_epoch`` from the present ones; `step` calls it."""
        raise NotImplementedError(f"{type(self).__name__} does not define get_lr()")

    def _warn_outside_step(self):
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
                          UserWarning, stacklevel=3)

    _get_lr_called_within_step = False

    @contextlib.contextmanager
    def _within_step(self):
        self._get_lr_called_within_step = True
        try:
            yield
        finally:
            self._get_lr_called_within_step = False

    def print_lr(self, is_verbose, group, lr, epoch=None):
        """Print a rate, if ``is_verbose``."""
        if is_verbose:
            when = "" if epoch is None else f"Epoch {epoch:5d}: "
            print(f"{when}Adjusting learning rate of group {group} to {lr:.4e}.")

    def step(self, epoch=None):
        """Go to the next step (or, deprecated, to step ``epoch``) and set the rates."""
        # `_opt_called` is absent from wrappers such as accelerate's, which check the order themselves.
        if self._step_count == 1 and not getattr(self.optimizer, "_opt_called", True):
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: the first value of the schedule is "
                "skipped. Call `optimizer.step()` first.", UserWarning, stacklevel=2)
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._advance(epoch)

    def _advance(self, epoch):
        self._step_count += 1
        with self._within_step():
            if epoch is None:
                self.last_epoch += 1
                values = self.get_lr()
            else:
                self.last_epoch = epoch
                closed = getattr(self, "_get_closed_form_lr", None)
                values = self.get_lr() if closed is None else closed()
        self._apply(values, epoch)

    def _apply(self, values, epoch=None):
        for i, (group, lr) in enumerate(zip(self.optimizer.param_groups, values)):
            set_lr(group, lr)
            self.print_lr(self.verbose, i, lr, epoch)
        self._last_lr = self._current()

    def _current(self):
        """The rates in the optimizer now."""
        return [g["lr"].item() if isinstance(g["lr"], torch.Tensor) else g["lr"] for g in self.optimizer.param_groups]


class _LRScheduler(LRScheduler):
    """The name of `LRScheduler` before PyTorch 2.0."""
