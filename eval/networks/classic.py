"""The convolutions of SqueezeNet 1.1, AlexNet and VGG 16, with torchvision's parameter names (``features.0.weight``).

Only the feature stacks: the classifiers behind them are in the published files and are not needed. Sources: SqueezeNet
arXiv 1602.07360; AlexNet in the version of arXiv 1404.5997; VGG arXiv 1409.1556, configuration D.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Fire(nn.Module):
    """SqueezeNet's module: few channels between, then 1×1 and 3×3 side by side."""

    def __init__(self, inputs: int, between: int, each: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, between, 1)
        self.expand1x1 = nn.Conv2d(between, each, 1)
        self.expand3x3 = nn.Conv2d(between, each, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(batch, inputs, height, width)`` -> ``(batch, 2 * each, height, width)``."""
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], 1))


def squeezenet1_1() -> nn.Sequential:
    """SqueezeNet 1.1: ``(batch, 3, height, width)`` -> 512 channels at a sixteenth of the size."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()]
    for fires in (((64, 16, 64), (128, 16, 64)), ((128, 32, 128), (256, 32, 128)), _LAST_FIRES):
        # The window may hang over the edge (ceil_mode): odd sizes keep their last row.
        layers += [nn.MaxPool2d(3, 2, ceil_mode=True), *(Fire(*widths) for widths in fires)]
    return nn.Sequential(*layers)


_LAST_FIRES = ((256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256))


def alexnet() -> nn.Sequential:
    """AlexNet: ``(batch, 3, height, width)`` -> 256 channels at a 32nd of the size."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


def vgg16() -> nn.Sequential:
    """VGG 16 without batch norm: ``(batch, 3, height, width)`` -> 512 channels at a 32nd of the size."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers)
