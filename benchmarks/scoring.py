"""Scoring's networks against torchmetrics on the same pictures and weights: ``python benchmarks/run.py --scoring``.

The side on Jittor runs eval/, the side on PyTorch torchmetrics as the challenge's checker calls it (with torch-fidelity's
Inception and torchvision's SqueezeNet, which ``setup.sh --reference`` installs). Weights are random: they decide nothing
about the time.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from workloads import Arrays, Prepared, Workload

OURS = "jittor" in torch.__version__
GENERATED, REFERENCES, SIDE = 24, 3, 512


def pictures(seed: int, count: int, side: int) -> np.ndarray:
    """uint8 [count, 3, side, side]: soft waves and noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = random.uniform(2, 25, (count, 3, 2, 1, 1))
    soft = np.sin(waves[:, :, 0] * x + waves[:, :, 1] * y)
    return np.clip(soft * 90 + 128 + 10 * random.standard_normal(soft.shape), 0, 255).astype(np.uint8)


def weights(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Random weights of a usual size for every parameter and buffer of the module; heads and variances are positive."""
    random = np.random.default_rng(seed)
    made = {}
    for name, value in sorted(module.state_dict().items()):
        shape = tuple(value.shape)
        if name.endswith("num_batches_tracked"):
            values = np.zeros(shape, np.int64)
        elif len(shape) > 1 and not name.startswith(("heads", "lin")):
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / np.prod(shape[1:])))
        elif name.endswith(("running_var", "weight")) or name.startswith(("heads", "lin")):
            values = random.random(shape, dtype=np.float32) + np.float32(0.5)
        else:
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.1)
        made[name] = torch.from_numpy(np.asarray(values))
    return made


def find_scorers() -> None:
    """Make the packages importable that lie apart in the reference environment; torchvision asks there that two operators
    be known."""
    sys.path.append(str(Path(sys.prefix) / "scorers"))
    if torch.version.cuda is None:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def fid() -> Prepared:
    """FID with 64 features of 24 pictures of 512 px against 12."""
    from eval.networks.inception import FIDInception

    made, real = (torch.from_numpy(pictures(seed, count, SIDE)) for seed, count in ((1, GENERATED), (2, 12)))
    network = FIDInception()
    state = weights(network, 3)
    if OURS:
        from eval.frechet import frechet_distance
        from eval.metrics.fid import moments

        network.load_state_dict(state)

        def step() -> Arrays:
            sides = [moments(network(x)["64"].numpy()) for x in (made, real)]
            return {"fid": np.array(frechet_distance(*sides[0], *sides[1]))}

        return Prepared(step)
    find_scorers()
    with tempfile.TemporaryDirectory() as folder:
        from torchmetrics.image import FrechetInceptionDistance

        torch.save(state, f"{folder}/inception.pth")
        metric = FrechetInceptionDistance(feature=64, feature_extractor_weights_path=f"{folder}/inception.pth",
                                          antialias=False)

    def run() -> Arrays:
        metric.reset()
        metric.update(real, real=True)
        metric.update(made, real=False)
        return {"fid": metric.compute().numpy()}

    return Prepared(run)


def lpips() -> Prepared:
    """LPIPS with SqueezeNet of 24 pictures of 256 px against 3 references: 72 pairs."""
    from eval.networks.lpips import LPIPS

    made, real = (torch.from_numpy(pictures(seed, count, 256)).float() / 127.5 - 1
                  for seed, count in ((4, GENERATED), (5, REFERENCES)))
    network = LPIPS("squeeze")
    state = weights(network, 6)
    if OURS:
        network.load_state_dict(state)

        def step() -> Arrays:
            return {"lpips": network.pairwise(network.features(made), network.features(real)).numpy()}

        return Prepared(step)
    metric = _torchmetrics_lpips(state)

    def run() -> Arrays:
        with torch.inference_mode():
            columns = [metric(made, x[None].expand(GENERATED, -1, -1, -1)).flatten() for x in real]
            return {"lpips": torch.stack(columns, 1).numpy()}

    return Prepared(run)


@torch.no_grad()
def _torchmetrics_lpips(state: dict[str, torch.Tensor]) -> Any:
    """torchmetrics' network with the weights that eval's has: trunk.N.part there is slices.S.N.part here."""
    find_scorers()
    from torchmetrics.functional.image.lpips import _LPIPS

    metric = _LPIPS(pretrained=False, net="squeeze", pnet_rand=True)
    for name, parameter in metric.net.named_parameters():
        parameter.copy_(state[".".join(["trunk", *name.split(".")[2:]])])
    for index in range(7):
        getattr(metric, f"lin{index}").model[1].weight.copy_(state[f"heads.{index}"])
    return metric.eval()


SCORING = {
    "score-fid": Workload("FID 64, 24 and 12 pictures of 512 px", fid, images=False),
    "score-lpips": Workload("LPIPS SqueezeNet, 24 × 3 pairs of 256 px", lpips, images=False),
}
