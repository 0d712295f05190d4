"""CLIP with a ResNet, as CLIP-IQA uses it: pictures of any size, and no positions in them.

Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020), section 2.4; Exploring CLIP for
Assessing the Look and Feel of Images (arXiv 2207.12396), section 3.2, for leaving the positions out. Parameter names of
OpenAI's file, whose network transformers does not have; torchmetrics runs it through the piq package. Weights:
``clip_rn50`` in ``eval/weights.py``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.networks.loading import Published
from eval.networks.torchscript import read_script_state

#: Tokens of "Good photo." and "Bad photo.": begin, word, "photo", ".", end; zeros follow, as torchmetrics pads.
QUALITY_TOKENS = ((49406, 886, 1125, 269, 49407), (49406, 2103, 1125, 269, 49407))
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_HEAD = 64


def _attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Attention over heads of 64: ``(batch, tokens, width)`` each -> ``(batch, query tokens, width)``."""

    def split(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], x.shape[1], -1, _HEAD).transpose(1, 2)

    found = F.scaled_dot_product_attention(split(query), split(key), split(value), is_causal=causal)
    return found.transpose(1, 2).reshape(query.shape)


class _Bottleneck(nn.Module):
    """As in ResNet, with average pooling in place of strides."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.stride = stride
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != 4 * width:
            parts = [("0", nn.Conv2d(inputs, 4 * width, 1, bias=False)), ("1", nn.BatchNorm2d(4 * width))]
            self.downsample = nn.Sequential(OrderedDict(parts))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        if self.stride > 1:
            x, y = F.avg_pool2d(x, self.stride), F.avg_pool2d(y, self.stride)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class _AttentionPool(nn.Module):
    """The mean of all positions asks them by attention. Positions themselves are in the file and are not used."""

    def __init__(self, width: int, outputs: int, positions: int):
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(positions, width))
        self.k_proj, self.q_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.c_proj = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        mean = x.mean(dim=1, keepdim=True)
        x = torch.cat([mean, x], 1)
        return self.c_proj(_attend(self.q_proj(mean), self.k_proj(x), self.v_proj(x))[:, 0])


class _Picture(nn.Module):
    def __init__(self, layers: tuple[int, ...], width: int, outputs: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        inputs = width
        for index, count in enumerate(layers):
            between = width * 2**index
            blocks = []
            for place in range(count):
                blocks.append(_Bottleneck(inputs, between, 2 if index and not place else 1))
                inputs = 4 * between
            self.add_module(f"layer{index + 1}", nn.Sequential(*blocks))
        self.depth = len(layers)
        # Trained at 224 pixels: 7 × 7 positions and their mean.
        self.attnpool = _AttentionPool(inputs, outputs, 7 * 7 + 1)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.relu(norm(convolution(x)))
        x = F.avg_pool2d(x, 2)
        for index in range(self.depth):
            x = getattr(self, f"layer{index + 1}")(x)
        return self.attnpool(x)


class _TextAttention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = F.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        return self.out_proj(_attend(query, key, value, causal=True))


class _TextBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.attn = _TextAttention(width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict([("c_fc", nn.Linear(width, 4 * width)), ("c_proj", nn.Linear(4 * width, width))])
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        y = self.mlp.c_fc(self.ln_2(x))
        # QuickGELU, CLIP's own approximation.
        return x + self.mlp.c_proj(y * torch.sigmoid(1.702 * y))


class _Text(nn.Module):
    def __init__(self, width: int, layers: int):
        super().__init__()
        self.resblocks = nn.Sequential(*[_TextBlock(width) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


class ClipResNet(Published):
    """CLIP RN50; the arguments are its sizes, smaller ones are for tests.

    OpenAI's file is a TorchScript archive; its code is not run. Half precision becomes single.

    Args:
        layers: blocks per stage of the picture's network.
        width: its channels after the stem; a multiple of 2.
        embedding: width of the common space.
        text_width: of the text's network; a multiple of 64.
        text_layers: its blocks.
        vocabulary: tokens known.
        context: tokens in a text, padding included.
    """

    besides = ("input_resolution", "context_length", "vocab_size")  # sizes, stored as tensors

    @staticmethod
    def reads(path: Path) -> Mapping[str, Tensor]:
        return read_script_state(path)

    def __init__(
        self,
        layers: tuple[int, ...] = (3, 4, 6, 3),
        width: int = 64,
        embedding: int = 1024,
        text_width: int = 512,
        text_layers: int = 12,
        vocabulary: int = 49408,
        context: int = 77,
    ):
        super().__init__()
        self.visual = _Picture(layers, width, embedding)
        self.transformer = _Text(text_width, text_layers)
        self.token_embedding = nn.Embedding(vocabulary, text_width)
        self.positional_embedding = nn.Parameter(torch.zeros(context, text_width))
        self.ln_final = nn.LayerNorm(text_width)
        self.text_projection = nn.Parameter(torch.zeros(text_width, embedding))
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.requires_grad_(False)
        self.eval()

    def encode_image(self, images: Tensor) -> Tensor:
        """``(batch, 3, height, width)`` float32, normalised by MEAN and DEVIATION, -> ``(batch, embedding)``, any length."""
        with torch.no_grad():
            return self.visual(images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """``(batch, context)`` int64; what a text means stands at its largest token, the end. -> ``(batch, embedding)``."""
        with torch.no_grad():
            x = self.token_embedding(tokens) + self.positional_embedding
            x = self.ln_final(self.transformer(x))
            ends = tokens.argmax(dim=-1)
            last = torch.stack([row[int(end)] for row, end in zip(x, ends)])
            return last @ self.text_projection

    def quality_texts(self) -> Tensor:
        """ "Good photo." and "Bad photo." in the common space: ``(2, embedding)`` of length 1."""
        tokens = torch.zeros(2, self.positional_embedding.shape[0], dtype=torch.int64)
        for row, words in enumerate(QUALITY_TOKENS):
            tokens[row, : len(words)] = torch.tensor(words)
        return F.normalize(self.encode_text(tokens.to(self.positional_embedding.device)), dim=-1)

    def quality(self, images: Tensor, texts: Tensor | None = None) -> Tensor:
        """Cosines of pictures to the two texts, the two numbers that CLIP-IQA compares.

        Args:
            images: as for :meth:`encode_image`.
            texts: what :meth:`quality_texts` gave, to compute them once.

        Returns:
            ``(batch, 2)`` float32.
        """
        texts = self.quality_texts() if texts is None else texts
        with torch.no_grad():
            return F.normalize(self.encode_image(images), dim=-1) @ texts.t()
