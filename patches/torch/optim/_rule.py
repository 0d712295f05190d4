"""What all update rules share: the loop over parameters, option checks, and arithmetic on flattened tensors.

A rule works on one-dimensional views: Jittor compiles one kernel per rank, so flattening lets every parameter of a
model share the same few kernels. Values come out of place and are written back once per tensor.
"""

import torch

from .optimizer import Optimizer


class RuleOptimizer(Optimizer):
    """An optimizer defined by ``_init_state`` and ``_update``."""

    def _init_state(self, p, group):
        """Return the state dict of a parameter that is updated for the first time."""
        return {}

    def _update(self, p, grad, state, group):
        """Update ``p`` in place from ``grad`` (both flattened inside), and ``state``."""
        raise NotImplementedError

    def _check_options(self, defaults):
        for name in ("capturable", "differentiable"):
            if defaults.get(name):
                raise NotImplementedError(
                    f"{type(self).__name__}: {name}=True is not implemented in torch on Jittor; leave it False")
        if defaults.get("fused") and defaults.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")

    def __init__(self, params, defaults):
        self._check_options(defaults)
        super().__init__(params, defaults)

    def step(self, closure=None):
        """Update every parameter that has a gradient.

        Args:
            closure: optional function that computes the loss again; called with gradients on, its value is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = []
        with torch.no_grad():
            for group in self.param_groups:
                for p in group["params"]:
                    if p.grad is None:
                        continue
                    if p.dtype.is_complex:
                        raise NotImplementedError(
                            f"{type(self).__name__}: complex parameters are not implemented in torch on Jittor")
                    work.append((p, group))
            self._update_all(work)
        return loss

    def _update_all(self, work):
        """Update the parameters of ``work``, a list of (parameter, its group)."""
        touched = []
        for p, group in work:
            state = self.state.get(p) or self._init_state(p, group)
            grad = flat(p.grad)
            self._update(p, -grad if group["maximize"] else grad, state, group)
            if state:  # a rule without state leaves no empty entry in the checkpoint
                self.state[p] = state
            touched.append(p)
            touched += [v for v in state.values() if isinstance(v, torch.Tensor)]
        flush(touched)


def flush(tensors):
    """Run the pending lazy work of ``tensors``: Jittor's graph must not grow from one training step into the next."""
    engine = getattr(torch, "_engine", None)
    run = getattr(engine, "flush", None)
    if run is not None:
        run(tensors)


def flat(t):
    return t.reshape(-1)


def store(t, values):
    """Write flattened ``values`` into ``t`` and return them."""
    t.copy_(values.reshape(t.shape))
    return values


def next_step(state):
    """Count this update in ``state["step"]`` (0-dim float32, as in PyTorch) and return the count as a float."""
    state["step"] += 1
    return state["step"].item()


def lerp(start, end, weight):
    """``start + weight · (end − start)``, in the order of operations that PyTorch uses on either side of 0.5."""
    if weight < 0.5:
        return start + weight * (end - start)
    return end - (end - start) * (1 - weight)


def check_range(name, value, low, high=None):
    """Raise `ValueError` unless ``low <= value`` (and ``value < high`` when given)."""
    if not value >= low or (high is not None and not value < high):
        raise ValueError(f"Invalid {name}: {value}; it must be at least {low}" + (f" and below {high}" if high else ""))


def check_betas(betas):
    """Check the two moving-average coefficients of the Adam family."""
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}; it must lie in [0, 1)")
