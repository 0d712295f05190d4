"""What the golden values do not show: options, errors, attention, names that are not there."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), ValueError, "out_channels must be divisible by groups"),
        (lambda: nn.Conv2d(4, 4, 3, groups=0), ValueError, "groups must be a positive integer"),
        (lambda: nn.Conv2d(4, 4, 3, padding="x"), ValueError, "Invalid padding string 'x'"),
        (lambda: nn.Conv2d(4, 4, 3, 2, padding="same"), ValueError, "not supported for strided convolutions"),
        (lambda: nn.Conv2d(4, 4, 3, padding_mode="x"), ValueError, "padding_mode must be one of"),
        (lambda: nn.ConvTranspose2d(2, 2, 3, padding_mode="reflect"), ValueError, 'Only "zeros" padding mode'),
        (lambda: nn.GroupNorm(3, 4), ValueError, "must be divisible by num_groups"),
        (lambda: nn.BatchNorm2d(3)(torch.zeros(2, 3)), ValueError, r"expected 4D input (got 2D input)"),
        (lambda: nn.BatchNorm1d(3)(torch.zeros(2, 3, 4, 4)), ValueError, r"expected 2D or 3D input (got 4D input)"),
        (lambda: nn.Dropout(2), ValueError, "between 0 and 1, but got 2"),
        (lambda: nn.Embedding(3, 2, 5), AssertionError, "Padding_idx must be within num_embeddings"),
        (lambda: nn.MultiheadAttention(7, 2), AssertionError, "embed_dim must be divisible by num_heads"),
        (lambda: nn.Bilinear(0, 1, 1), ValueError, "in1_features must be > 0"),
    ],
)
def test_wrong_options_are_named(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert message in str(caught.value)


def test_transposed_convolution_reaches_the_asked_size():
    layer = nn.ConvTranspose2d(2, 2, 3, stride=2)
    x = torch.ones(1, 2, 4, 4)
    assert layer(x).shape == (1, 2, 9, 9)
    assert layer(x, output_size=(10, 9)).shape == (1, 2, 10, 9)
    assert layer(x, output_size=(1, 2, 10, 10)).shape == (1, 2, 10, 10)
    with pytest.raises(ValueError, match="valid sizes range"):
        layer(x, output_size=(20, 9))


def test_dropout_only_while_training():
    x = torch.ones(1000)
    layer = nn.Dropout(0.25)
    torch.manual_seed(0)
    dropped = layer(x).numpy()
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert 0.2 < (dropped == 0).mean() < 0.3
    assert torch.equal(layer.eval()(x), x)


def test_batch_norm_statistics():
    layer = nn.BatchNorm1d(2, momentum=0.5)
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    layer(x)
    np.testing.assert_allclose(layer.running_mean.numpy(), [1.0, 10.0])
    np.testing.assert_allclose(layer.running_var.numpy(), [0.5 + 0.5 * 2, 0.5 + 0.5 * 200])
    assert layer.num_batches_tracked.item() == 1
    layer.eval()
    expected = (x.numpy() - [1.0, 10.0]) / np.sqrt(np.array([1.5, 100.5]) + 1e-5)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert layer.num_batches_tracked.item() == 1


def test_embedding_padding_row_gets_no_gradient():
    layer = nn.Embedding(4, 2, padding_idx=1)
    assert layer.weight[1].abs().sum().item() == 0
    layer(torch.tensor([1, 2, 2])).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0], [0, 0], [2, 2], [0, 0]]
    table = torch.eye(3)
    frozen = nn.Embedding.from_pretrained(table)
    assert not frozen.weight.requires_grad and torch.equal(frozen(torch.tensor([2])), table[2:])


@pytest.mark.parametrize(
    ("loss", "arguments", "expected"),
    [
        (nn.MSELoss(), ([1.0, 3.0], [0.0, 1.0]), 2.5),
        (nn.MSELoss(reduction="sum"), ([1.0, 3.0], [0.0, 1.0]), 5.0),
        (nn.L1Loss(), ([1.0, 3.0], [0.0, 1.0]), 1.5),
        (nn.SmoothL1Loss(), ([0.5, 3.0], [0.0, 0.0]), (0.125 + 2.5) / 2),
        (nn.HuberLoss(delta=2.0), ([1.0, 3.0], [0.0, 0.0]), (0.5 + 4.0) / 2),
        (nn.BCEWithLogitsLoss(), ([0.0, 0.0], [1.0, 0.0]), np.log(2)),
        (nn.BCELoss(), ([0.5, 0.25], [1.0, 0.0]), -(np.log(0.5) + np.log(0.75)) / 2),
        (nn.KLDivLoss(reduction="sum"), ([math.log(0.5), math.log(0.5)], [0.5, 0.5]), 0.0),
    ],
)
def test_losses_by_hand(loss, arguments, expected):
    assert loss(*map(torch.tensor, arguments)).item() == pytest.approx(expected, abs=1e-6)


def test_cross_entropy_ignores_and_weighs():
    logits = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0], [5.0, 1.0]])
    target = torch.tensor([0, 1, -100])
    assert nn.CrossEntropyLoss()(logits, target).item() == pytest.approx((np.log(2) + np.log(4)) / 2)
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([3.0, 1.0]))
    assert weighted(logits, target).item() == pytest.approx((3 * np.log(2) + np.log(4)) / 4)
    assert list(weighted.state_dict()) == ["weight"]


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(("batch_first", "need_weights"), itertools.product([False, True], repeat=2))
def test_attention_follows_its_formula(batch_first, need_weights):
    torch.manual_seed(0)
    length, keys, batch, embed, heads = 3, 4, 2, 6, 2
    layer = nn.MultiheadAttention(embed, heads, batch_first=batch_first).eval()
    with torch.no_grad():
        layer.in_proj_bias.normal_()
    q, k, v = torch.randn(batch, length, embed), torch.randn(batch, keys, embed), torch.randn(batch, keys, embed)
    padding = torch.tensor([[False, False, False, True], [False] * 4])
    causal = torch.triu(torch.ones(length, keys, dtype=torch.bool), diagonal=2)
    given = (q, k, v) if batch_first else tuple(x.transpose(0, 1) for x in (q, k, v))
    output, weights = layer(*given, key_padding_mask=padding, attn_mask=causal, need_weights=need_weights)
    output = output if batch_first else output.transpose(0, 1)

    projected = [
        x.numpy() @ w.T + b
        for x, w, b in zip(
            (q, k, v),
            np.split(layer.in_proj_weight.detach().numpy(), 3),
            np.split(layer.in_proj_bias.detach().numpy(), 3),
            strict=True,
        )
    ]
    expected = np.zeros((batch, length, embed))
    mean_weights = np.zeros((batch, length, keys))
    for head in range(heads):
        part = slice(head * embed // heads, (head + 1) * embed // heads)
        qh, kh, vh = (x[..., part] for x in projected)
        scores = qh @ kh.transpose(0, 2, 1) / np.sqrt(embed / heads)
        scores[np.broadcast_to(padding.numpy()[:, None], scores.shape) | causal.numpy()] = -np.inf
        attention = _softmax(scores)
        expected[..., part] = attention @ vh
        mean_weights += attention / heads
    expected = expected @ layer.out_proj.weight.detach().numpy().T + layer.out_proj.bias.detach().numpy()
    np.testing.assert_allclose(output.detach().numpy(), expected, atol=1e-5)
    if need_weights:
        np.testing.assert_allclose(weights.detach().numpy(), mean_weights, atol=1e-6)
    else:
        assert weights is None


def test_attention_without_batch_dimension():
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 2)
    x = torch.randn(3, 4)
    alone, weights = layer(x, x, x)
    batched, _ = layer(x[:, None], x[:, None], x[:, None])
    assert alone.shape == (3, 4) and weights.shape == (3, 3)
    np.testing.assert_allclose(alone.detach().numpy(), batched[:, 0].detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "path",
    [
        "torch.nn.modules.module._IncompatibleKeys",
        "torch.nn.modules.batchnorm._BatchNorm",
        "torch.nn.modules.conv._ConvNd",
        "torch.nn.modules.linear.Linear",
        "torch.nn.modules.sparse.Embedding",
        "torch.nn.modules.normalization.GroupNorm",
        "torch.nn.modules.container.ModuleList",
        "torch.nn.modules.container.ParameterDict",
        "torch.nn.modules.activation.MultiheadAttention",
        "torch.nn.modules.activation.GELU",
        "torch.nn.modules.utils._pair",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.nn.parallel.distributed.DistributedDataParallel",
        "torch.nn.parameter.Parameter",
        "torch.nn.utils.rnn.pad_sequence",
        "torch.nn.DataParallel",
    ],
)
def test_libraries_find_names_where_pytorch_has_them(path):
    import importlib

    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if path.startswith("torch.nn.modules.") and isinstance(found, type) and issubclass(found, nn.Module):
        assert found.__module__ == module  # pickles name a class by its module
