"""LPIPS 0.1: weighted distances between unit-length features of several layers of an image classifier.

The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (arXiv 1801.03924), section 3, equation 1, as
torchmetrics 1.x computes it (``learned_perceptual_image_patch_similarity``). Weights: ``squeezenet1_1``, ``alexnet`` or
``vgg16``, and ``lpips_squeeze``, ``lpips_alex`` or ``lpips_vgg``, in ``eval/weights.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from eval.networks.classic import alexnet, squeezenet1_1, vgg16
from eval.networks.loading import fill, read_state
from jdiff_style.errors import UserError

#: name -> trunk, after which of its layers features are taken, their channels.
_NETS = {
    "squeeze": (squeezenet1_1, (1, 4, 7, 9, 10, 11, 12), (64, 128, 256, 384, 384, 512, 512)),
    "alex": (alexnet, (1, 4, 7, 9, 11), (64, 192, 384, 256, 256)),
    "vgg": (vgg16, (3, 8, 15, 22, 29), (64, 128, 256, 512, 512)),
}
NETS = tuple(_NETS)


class LPIPS(nn.Module):
    """Perceptual distance of pictures; 0 is equal, unrelated photographs are at about 0.5 to 0.8.

    Args:
        net: ``squeeze``, ``alex`` or ``vgg``. The challenge uses ``squeeze``.

    Raises:
        UserError: another name.
    """

    def __init__(self, net: str = "squeeze"):
        super().__init__()
        if net not in _NETS:
            raise UserError(f"net: {net!r} is unknown; choose from {', '.join(NETS)}")
        self.net = net
        make, self.taps, widths = _NETS[net]
        self.trunk = make()
        # The heads: one weight per channel and layer, shape (1, channels, 1, 1).
        self.heads = nn.ParameterList([nn.Parameter(torch.ones(1, width, 1, 1)) for width in widths])
        # The range of ImageNet's normalisation, for inputs in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_files(cls, net: str, trunk: Path, heads: Path) -> LPIPS:
        """The metric with published weights.

        Args:
            net: as for the class.
            trunk: torchvision's checkpoint of the classifier.
            heads: the linear layers as the lpips package has them (``weights/v0.1/<net>.pth``).

        Raises:
            UserError: a file is unreadable or belongs to another network.
        """
        network = cls(net)
        network.fill_trunk(read_state(trunk), str(trunk))
        network.fill_heads(read_state(heads), str(heads))
        return network

    def fill_trunk(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take the convolutions out of a torchvision checkpoint; its classifier is left aside.

        Raises:
            UserError: it is another network's.
        """
        prefix = "features."
        fill(self.trunk, {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}, source)

    def fill_heads(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take the linear layers by their published names, ``lin0.model.1.weight`` and so on.

        Raises:
            UserError: they are another network's.
        """
        names = {f"lin{index}.model.1.weight": str(index) for index in range(len(self.taps))}
        fill(self.heads, {names.get(name, name): value for name, value in state.items()}, source)

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length features, one map per layer.

        Args:
            images: ``(batch, 3, height, width)`` float32 in [-1, 1], red first; 256×256 in the challenge.

        Returns:
            Per layer ``(batch, channels, height, width)`` float32, of length 1 at each position (0 where all are 0).
        """
        with torch.no_grad():
            x = (images - self.shift) / self.scale
            found = []
            for index, layer in enumerate(self.trunk):
                x = layer(x)
                if index in self.taps:
                    # The small number under the root is torchmetrics'; the lpips package adds 1e-10 outside.
                    found.append(x / torch.sqrt(1e-8 + (x**2).sum(dim=1, keepdim=True)))
                if index == self.taps[-1]:
                    break
            return found

    def distance(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Distances of picture i to picture i from :meth:`features`: ``(batch,)`` float32."""
        with torch.no_grad():
            layers = [(weight * (a - b) ** 2).sum(dim=1).mean(dim=(1, 2)) for weight, a, b in zip(self.heads, first, second)]
            return torch.stack(layers).sum(dim=0)

    def pairwise(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
        """Distances of every picture to every other, by matrix products.

        w·(a − b)² = w·a² + w·b² − 2 (w·a)·b: rounding leaves some 1e-6, of either sign, between equal pictures, where
        :meth:`distance` gives 0; nothing against a single picture.

        Args:
            first: features of A pictures.
            second: features of B pictures, of the same size.

        Returns:
            ``(A, B)`` float32.
        """
        with torch.no_grad():
            total = 0
            for weight, a, b in zip(self.heads, first, second):
                positions = a.shape[2] * a.shape[3]
                # Moved to where the second ones are, and summed in steps: one sum over a million numbers loses the fifth
                # decimal.
                middle = b.mean(dim=0, keepdim=True)
                a, b = a - middle, b - middle
                own, other = ((weight * x**2).sum(dim=1).mean(dim=2).mean(dim=1) for x in (a, b))
                products = (weight * a).flatten(1) @ b.flatten(1).t() / positions
                total = total + own.unsqueeze(1) + other - 2 * products
            return total

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances of picture i to picture i: two ``(batch, 3, height, width)`` in [-1, 1] -> ``(batch,)``."""
        return self.distance(self.features(first), self.features(second))
