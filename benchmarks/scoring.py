"""Scoring's networks against torchmetrics on the same pictures and weights: ``python benchmarks/run.py --scoring``.

The side on Jittor runs eval/, the side on PyTorch torchmetrics as the challenge's checker calls it (with torch-fidelity's
Inception, torchvision's SqueezeNet and piq's CLIP, which ``setup.sh --reference`` installs). Weights are random: they decide
nothing about the time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scorers import find_scorers
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


def _inception() -> tuple[torch.Tensor, torch.Tensor, torch.nn.Module, dict[str, torch.Tensor]]:
    """24 and 12 pictures, eval's network and weights for it."""
    from eval.networks.inception import FIDInception

    made, real = (torch.from_numpy(pictures(seed, count, SIDE)) for seed, count in ((1, GENERATED), (2, 12)))
    network = FIDInception()
    state = weights(network, 3)
    if OURS:
        network.load_state_dict(state)
    return made, real, network, state


def fid() -> Prepared:
    """FID with 64 features of 24 pictures of 512 px against 12."""
    made, real, network, state = _inception()
    if OURS:
        from eval.frechet import frechet_distance
        from eval.metrics.fid import moments

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


def kid() -> Prepared:
    """KID with 2048 features of 24 pictures of 512 px against 12, 100 subsets of 10."""
    made, real, network, state = _inception()
    if OURS:
        from eval.frechet import kernel_inception_distance

        def step() -> Arrays:
            mine, theirs = (network(x, ("2048",))["2048"].numpy() for x in (made, real))
            return {"kid": np.array(kernel_inception_distance(theirs, mine, subsets=100, subset_size=10, seed=0))}

        return Prepared(step)
    find_scorers()
    with tempfile.TemporaryDirectory() as folder:
        from torchmetrics.image import KernelInceptionDistance
        from torchmetrics.image.fid import NoTrainInceptionV3

        torch.save(state, f"{folder}/inception.pth")
        inception = NoTrainInceptionV3("inception-v3-compat", ["2048"], f"{folder}/inception.pth", antialias=False)
    metric = KernelInceptionDistance(feature=inception, subsets=100, subset_size=10)

    def run() -> Arrays:
        metric.reset()
        metric.update(real, real=True)
        metric.update(made, real=False)
        torch.manual_seed(0)
        return {"kid": torch.stack(metric.compute()).numpy()}

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


def clip_iqa() -> Prepared:
    """CLIP-IQA by CLIP RN50 of 4 pictures of 512 px, the two texts embedded before."""
    from eval.networks.clip_resnet import ClipResNet

    made = pictures(7, 4, SIDE)
    network = ClipResNet()
    state = weights(network, 8)
    # The texts would lie so far apart that every score was 0 or 1.
    state["token_embedding.weight"] *= 0.5
    if OURS:
        network.load_state_dict(state)
        return _our_clip_iqa(network, made)
    from torchmetrics.functional.multimodal import clip_iqa as theirs

    find_scorers()
    from piq.feature_extractors.clip import CLIP

    model = CLIP(1024, 224, (3, 4, 6, 3), 64, None, 77, 49408, 512, 8, 12).eval()
    model.load_state_dict(state)
    anchors = theirs._clip_iqa_get_anchor_vectors("clip_iqa", model, _Tokens(), ["Good photo.", "Bad photo."], "cpu")
    images = torch.from_numpy(made).float()

    def run() -> Arrays:
        with torch.inference_mode():
            features = theirs._clip_iqa_update("clip_iqa", images, model, _Tokens(), 255.0, "cpu")
            return {"clip_iqa": theirs._clip_iqa_compute(features, anchors, ["quality"]).numpy()}

    return Prepared(run)


class _Tokens:
    """In place of CLIP's processor, whose vocabulary is not at hand: the tokens of the two texts."""

    model_max_length = 77

    @property
    def tokenizer(self) -> _Tokens:
        return self

    def __call__(self, text: list[str]) -> dict[str, list[tuple[int, ...]]]:
        from eval.networks.clip_resnet import QUALITY_TOKENS

        return {"input_ids": [tuple(tokens) for tokens in QUALITY_TOKENS]}


def _our_clip_iqa(network: Any, made: np.ndarray) -> Prepared:
    """From bytes to scores as eval/score.py does it, in the protocol that scales as torchmetrics is meant to be called."""
    from unittest import mock

    from eval import extractors
    from eval.metrics.base import Picture
    from eval.metrics.clip_iqa import ClipIqa
    from eval.networks.clip_resnet import ClipResNet

    with mock.patch.object(ClipResNet, "from_file", lambda path: network):
        extractor = extractors.clip_iqa(Path("RN50.pt"), "0" * 64, "corrected")
        extractor.compute(made[:1])  # loads it

    def step() -> Arrays:
        metric = ClipIqa()
        rows = extractor.compute(made)
        return {"clip_iqa": np.array([metric.update(Picture("", str(n), {"clip_iqa": row})) for n, row in enumerate(rows)])}

    return Prepared(step)


def clip_score() -> Prepared:
    """100 × cosine of 8 pictures of 512 px and their texts by CLIP ViT-B/16, from bytes and words."""
    images = pictures(9, 8, SIDE)
    texts = [f"a picture of {word}" for word in ("cat", "dog", "red fish", "ring", "watch", "tree", "house", "boat")]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "openai-clip"  # torchmetrics wants to read "openai"
        _write_clip(folder)
        return _our_clip_score(folder, images, texts) if OURS else _their_clip_score(folder, images, texts)


def _write_clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    from jdiff_style.tokenizer_build import write_tokenizer

    size = write_tokenizer(folder, [])
    text = {"vocab_size": size, "bos_token_id": size - 2, "eos_token_id": size - 1, "pad_token_id": size - 1}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config={"patch_size": 16}))
    model.load_state_dict(weights(model, 10))
    model.save_pretrained(folder)
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)


def _our_clip_score(folder: Path, images: np.ndarray, texts: list[str]) -> Prepared:
    from eval.extractors import Clip

    clip = Clip(folder, "0" * 64)
    network = clip.network(["clip"])
    rows = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images]

    def step() -> Arrays:
        vectors = network.compute(np.stack([network.prepare(rgb) for rgb in rows]))
        clip._texts.clear()  # it would embed each text once only
        return {"clip_score": 100 * (vectors * clip.embed_texts(texts)).sum(axis=1)}

    step()  # loads it
    return Prepared(step)


def _their_clip_score(folder: Path, images: np.ndarray, texts: list[str]) -> Prepared:
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update, _get_clip_model_and_processor

    model, processor = _get_clip_model_and_processor(str(folder))
    model.eval()
    tensors = list(torch.from_numpy(images))

    def step() -> Arrays:
        with torch.inference_mode():
            return {"clip_score": _clip_score_update(tensors, texts, model, processor)[0].numpy()}

    return Prepared(step)


SCORING = {
    "score-fid": Workload("FID 64, 24 and 12 pictures of 512 px", fid, images=False),
    "score-kid": Workload("KID 2048, 24 and 12 pictures of 512 px", kid, images=False),
    "score-lpips": Workload("LPIPS SqueezeNet, 24 × 3 pairs of 256 px", lpips, images=False),
    "score-clip-iqa": Workload("CLIP-IQA RN50, 4 pictures of 512 px", clip_iqa, images=False),
    "score-clip-score": Workload("CLIP-score ViT-B/16, 8 pictures of 512 px", clip_score, images=False),
}
