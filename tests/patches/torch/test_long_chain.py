"""Long chains of elementwise operations are cut into several kernels: one kernel of 800 takes half a minute to compile."""

import numpy as np
import torch


def _chain(x, steps):
    y = x
    for i in range(steps):
        y = y * (1 + 0.001 * i) - 0.1 * x
    return y


def test_a_long_chain_is_right():
    values = np.random.RandomState(0).standard_normal((4, 64, 33)).astype(np.float32)
    ours = _chain(torch.from_numpy(values), 400).numpy()
    np.testing.assert_allclose(ours, _chain(values.astype(np.float64), 400), rtol=1e-4)


def test_the_gradient_of_a_long_chain():
    x = torch.ones(4, 64, 33, requires_grad=True)
    y = x
    for _ in range(150):
        y = y * 1.01 + x
    y.sum().backward()
    expected = 1.01**150 + sum(1.01**k for k in range(150))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-4)
