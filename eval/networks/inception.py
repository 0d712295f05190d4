"""Inception v3 as FID knows it: the TensorFlow network of 2015-12-05, ported by torch-fidelity and pytorch-fid.

It differs from torchvision's Inception v3: 1008 classes, average pooling that does not count the padding, max pooling in
the last block, no second classifier, input by TensorFlow 1's bilinear resizing. Rethinking the Inception Architecture
(arXiv 1512.00567); FID: arXiv 1706.08500. Weights: ``inception`` in ``eval/weights.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.networks.loading import Published
from eval.resize import antialiased_bilinear, tf1_bilinear

#: Outputs by depth; the first four are feature maps averaged over positions.
FEATURES = ("64", "192", "768", "2048", "logits_unbiased", "logits")
SIZE = 299

# A block is a list of branches whose outputs are concatenated. A branch is a list of steps: a pooling, a convolution
# (name, output channels, kernel[, stride]), or a list of convolutions of the same input, concatenated.


def _block_a(pool_features: int) -> list:
    return [
        [("branch1x1", 64, (1, 1))],
        [("branch5x5_1", 48, (1, 1)), ("branch5x5_2", 64, (5, 5))],
        [("branch3x3dbl_1", 64, (1, 1)), ("branch3x3dbl_2", 96, (3, 3)), ("branch3x3dbl_3", 96, (3, 3))],
        ["average", ("branch_pool", pool_features, (1, 1))],
    ]


def _block_c(width: int) -> list:
    wide, high = (1, 7), (7, 1)
    long = [("branch7x7dbl_2", width, high), ("branch7x7dbl_3", width, wide), ("branch7x7dbl_4", width, high)]
    return [
        [("branch1x1", 192, (1, 1))],
        [("branch7x7_1", width, (1, 1)), ("branch7x7_2", width, wide), ("branch7x7_3", 192, high)],
        [("branch7x7dbl_1", width, (1, 1)), *long, ("branch7x7dbl_5", 192, wide)],
        ["average", ("branch_pool", 192, (1, 1))],
    ]


def _block_e(pooling: str) -> list:
    def fork(name: str) -> list:
        return [(f"{name}a", 384, (1, 3)), (f"{name}b", 384, (3, 1))]

    return [
        [("branch1x1", 320, (1, 1))],
        [("branch3x3_1", 384, (1, 1)), fork("branch3x3_2")],
        [("branch3x3dbl_1", 448, (1, 1)), ("branch3x3dbl_2", 384, (3, 3)), fork("branch3x3dbl_3")],
        [pooling, ("branch_pool", 192, (1, 1))],
    ]


_BLOCK_B = [
    [("branch3x3", 384, (3, 3), 2)],
    [("branch3x3dbl_1", 64, (1, 1)), ("branch3x3dbl_2", 96, (3, 3)), ("branch3x3dbl_3", 96, (3, 3), 2)],
    ["halve"],
]
_BLOCK_D = [
    [("branch3x3_1", 192, (1, 1)), ("branch3x3_2", 320, (3, 3), 2)],
    [
        ("branch7x7x3_1", 192, (1, 1)),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, (3, 3), 2),
    ],
    ["halve"],
]
_BLOCKS = {
    "Mixed_5b": _block_a(32),
    "Mixed_5c": _block_a(64),
    "Mixed_5d": _block_a(64),
    "Mixed_6a": _BLOCK_B,
    "Mixed_6b": _block_c(128),
    "Mixed_6c": _block_c(160),
    "Mixed_6d": _block_c(160),
    "Mixed_6e": _block_c(192),
    "Mixed_7a": _BLOCK_D,
    "Mixed_7b": _block_e("average"),
    # The published graph pools by maxima here, in this one block.
    "Mixed_7c": _block_e("maximum"),
}


def _pool(kind: str, x: Tensor) -> Tensor:
    if kind == "average":
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return F.max_pool2d(x, 3, 1, 1) if kind == "maximum" else F.max_pool2d(x, 3, 2)


class _Convolution(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, padded: bool = True):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded and stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _Block(nn.Module):
    def __init__(self, inputs: int, branches: list):
        super().__init__()
        self.branches = branches
        self.outputs = 0
        for branch in branches:
            width = inputs
            for step in branch:
                if isinstance(step, str):
                    continue
                parts = step if isinstance(step, list) else [step]
                for name, outputs, *rest in parts:
                    self.add_module(name, _Convolution(width, outputs, *rest))
                width = sum(part[1] for part in parts)
            self.outputs += width

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._branch(branch, x) for branch in self.branches], 1)

    def _branch(self, branch: list, x: Tensor) -> Tensor:
        for step in branch:
            if isinstance(step, str):
                x = _pool(step, x)
            elif isinstance(step, list):
                x = torch.cat([getattr(self, part[0])(x) for part in step], 1)
            else:
                x = getattr(self, step[0])(x)
        return x


class FIDInception(Published):
    """The network behind FID, KID and the Inception score.

    Args:
        antialias: resize with antialiasing, as torchmetrics' FID does by default since 1.8; the original and the
            challenge's checker do not.
    """

    def __init__(self, antialias: bool = False):
        super().__init__()
        self.antialias = antialias
        self.Conv2d_1a_3x3 = _Convolution(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, (3, 3), padded=False)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, (3, 3))
        self.Conv2d_3b_1x1 = _Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _Convolution(80, 192, (3, 3), padded=False)
        width = 192
        for name, branches in _BLOCKS.items():
            block = _Block(width, branches)
            self.add_module(name, block)
            width = block.outputs
        self.fc = nn.Linear(width, 1008)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor, wanted: Sequence[str] = ("64",)) -> dict[str, Tensor]:
        """Features of pictures.

        Args:
            images: ``(batch, 3, height, width)`` uint8, red first, any size.
            wanted: names out of :data:`FEATURES`.

        Returns:
            By name, float32: ``(batch, 64 | 192 | 768 | 2048)``, logits ``(batch, 1008)``. The network runs only as
            deep as the deepest needs.

        Raises:
            ValueError: other input, or an unknown name.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images: uint8 (batch, 3, height, width) is needed, not {images.dtype} {tuple(images.shape)}")
        unknown = [name for name in wanted if name not in FEATURES]
        if unknown or not wanted:
            raise ValueError(f"wanted: {unknown or list(wanted)} is no choice; choose from {', '.join(FEATURES)}")
        deepest = max(FEATURES.index(name) for name in wanted)
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            x = self._prepare(images)
            for depth, stage in enumerate((self._to_64, self._to_192, self._to_768, self._to_2048, self._to_logits)):
                if depth > deepest:
                    break
                x = stage(x)
                found[FEATURES[depth]] = F.adaptive_avg_pool2d(x, 1).flatten(1) if depth < 4 else x
                x = found["2048"] if depth == 3 else x
            if "logits" in wanted:
                found["logits"] = x + self.fc.bias
        return {name: found[name] for name in wanted}

    def _prepare(self, images: Tensor) -> Tensor:
        resize = antialiased_bilinear if self.antialias else tf1_bilinear
        return (resize(images.float(), (SIZE, SIZE)) - 128) / 128

    def _to_64(self, x: Tensor) -> Tensor:
        return _pool("halve", self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))

    def _to_192(self, x: Tensor) -> Tensor:
        return _pool("halve", self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))

    def _to_768(self, x: Tensor) -> Tensor:
        return self._blocks("Mixed_5", "Mixed_6", x)

    def _to_2048(self, x: Tensor) -> Tensor:
        return self._blocks("Mixed_7", "Mixed_7", x)

    def _to_logits(self, x: Tensor) -> Tensor:
        return F.linear(x, self.fc.weight)

    def _blocks(self, first: str, last: str, x: Tensor) -> Tensor:
        for name in _BLOCKS:
            if name.startswith((first, last)):
                x = getattr(self, name)(x)
        return x
