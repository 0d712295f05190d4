"""diffusers' gated feed-forward as one operation, against the released forward; other variants stay diffusers'."""

import warnings

import numpy as np
import torch
from diffusers.models.activations import GEGLU

released = GEGLU.forward.released


def test_geglu():
    torch.manual_seed(0)
    module = GEGLU(20, 36)
    found = []
    for forward in (GEGLU.forward, released):
        module.zero_grad()
        x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, 33, 20)).astype(np.float32)).requires_grad_()
        y = forward(module, x)
        (y * y).sum().backward()
        found.append([y.grad_fn.name] + [t.detach().numpy().copy() for t in (y, x.grad, module.proj.weight.grad)])
    assert [f[0] for f in found] == ["gated_gelu", "mul"]
    for a, b in zip(*(f[1:] for f in found), strict=True):
        assert np.abs(a - b).max() <= 2e-6 * np.abs(b).max()


def test_a_subclass_with_its_own_gelu_and_the_scale_argument():
    class Other(GEGLU):
        def gelu(self, gate):
            return gate

    x = torch.ones(2, 4, 20)
    module = Other(20, 36)
    value, gate = module.proj(x).chunk(2, -1)
    assert torch.allclose(module(x), value * gate)
    module = GEGLU(20, 36)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.allclose(module(x, scale=1.0), module(x), atol=1e-6)
