"""The networks as :mod:`eval.features` uses them. torch and the weights are loaded when the first picture is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.metrics.clip_iqa import PROMPTS
from eval.preprocess import AS_IT_IS, LITE_INPUT, LPIPS_INPUT, VERSION, Preprocessing
from eval.weights import Found, sha256_of
from jdiff_style.errors import UserError
from jdiff_style.picture_features import PROJECTION_FILE

TEXT_BATCH = 64
#: Where sound and spoilt pictures lie among EfficientNet-Lite0's features; scripts/make_quality_anchors.py makes it.
LITE_QUALITY = Path(__file__).with_name("lite_quality.npz")
#: CLIP-IQA multiplies cosines by 100, which suits CLIP. Those of EfficientNet differ more: blur and noise move them by 0.1.
LITE_SHARE = np.float32(0.2)
#: How many features EfficientNet-Lite0 has.
LITE_FEATURES = 1280

#: What decides a model's answers beside its weights and its preprocessing: sizes, activations, how words are cut.
_SETTINGS = ("config.json",)
_TOKENIZER = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
              "added_tokens.json")  # fmt: skip


def key_of(kind: str, sha256: str) -> str:
    """A cache key: what is computed, by which weights, after which preprocessing."""
    return f"{kind}-{sha256[:20]}-p{VERSION}"


def _folder_key(kind: str, sha256: str, folder: Path, prepare: Preprocessing, files: Sequence[str]) -> str:
    """A cache key for a transformers folder: its preprocessing and other ``files`` may be edited beside the same weights."""
    digest = hashlib.sha256(repr(prepare).encode())
    for name in files:
        content = (folder / name).read_bytes() if (folder / name).is_file() else b""
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return f"{key_of(kind, sha256)}-{digest.hexdigest()[:12]}"


class VectorNetwork:
    """An :class:`eval.features.Extractor` from a function that makes the network.

    Args:
        key: see :func:`key_of`.
        prepare: what the network wants to be given.
        load: returns a function ``(batch, 3, height, width)`` tensor -> ``(batch, width)`` tensor.
        gives: feature name -> its part of a row.
    """

    def __init__(
        self, key: str, prepare: Preprocessing, load: Callable[[], Callable[[Any], Any]], gives: Mapping[str, slice]
    ):
        self.key, self.prepare, self.gives = key, prepare, dict(gives)
        self._load = load
        self._network: Callable[[Any], Any] | None = None

    def compute(self, inputs: np.ndarray) -> np.ndarray:
        """``(batch, 3, height, width)`` -> ``(batch, width)`` float32."""
        import torch

        if self._network is None:
            self._network = self._load()
        with torch.no_grad():
            return np.asarray(self._network(torch.from_numpy(inputs)).float().cpu().numpy(), dtype=np.float32)


class LpipsNetwork:
    """An :class:`eval.features.PairNetwork`.

    Args:
        key: see :func:`key_of`.
        load: returns an object with ``features(images in [-1, 1]) -> list of tensors`` and ``pairwise(a, b)``.
        prepare: 256×256 uint8 by default.
    """

    def __init__(self, key: str, load: Callable[[], Any], prepare: Preprocessing = LPIPS_INPUT):
        self.key, self.prepare = key, prepare
        self._load = load
        self._network: Any = None

    @property
    def network(self) -> Any:
        if self._network is None:
            self._network = self._load()
        return self._network

    def activations(self, inputs: np.ndarray) -> Any:
        """``(batch, 3, 256, 256)`` uint8 -> list of ``(batch, …)`` tensors."""
        import torch

        with torch.no_grad():
            return self.network.features(torch.from_numpy((inputs.astype(np.float32) / 255 - 0.5) / 0.5))

    def distances(self, first: Any, second: Any) -> np.ndarray:
        """``(first's batch, second's batch)`` float32, 0 or more."""
        import torch

        with torch.no_grad():
            # Rounding leaves equal pictures at about 1e-6 on either side of 0.
            return np.maximum(np.asarray(self.network.pairwise(first, second).cpu().numpy(), dtype=np.float32), 0)


def dino(folder: Path, sha256: str) -> VectorNetwork:
    """DINOv2's ``pooler_output`` from a transformers folder."""

    def load() -> Callable[[Any], Any]:
        model = _load_model("Dinov2Model", folder)
        return lambda images: model(pixel_values=images).pooler_output

    prepare = Preprocessing.of_folder(folder)
    return VectorNetwork(_folder_key("dino", sha256, folder, prepare, _SETTINGS), prepare, load, {"dino": slice(None)})


def inception(path: Path, sha256: str, features: Collection[str]) -> VectorNetwork:
    """``fid64``, ``fid2048`` or both, from uint8 pictures at their own size; no deeper than needed."""
    names = [name for name in ("64", "2048") if f"fid{name}" in features]

    def load() -> Callable[[Any], Any]:
        import torch

        from eval.networks.inception import FIDInception

        network = FIDInception.from_file(path)

        def run(images: Any) -> Any:
            found = network(images, wanted=names)
            return torch.cat([found[name] for name in names], 1)

        return run

    gives = {"fid64": slice(0, 64)} if "64" in names else {}
    gives |= {"fid2048": slice(64 if gives else 0, None)} if "2048" in names else {}
    return VectorNetwork(key_of("fid" + "-".join(names), sha256), AS_IT_IS, load, gives)


def lite(path: Path, sha256: str, features: Collection[str], clip: LockedClip | None = None) -> VectorNetwork:
    """EfficientNet-Lite0: ``fid64`` is 40 channel means of its first two stages, ``dino`` and ``fid2048`` 1280 features.

    ``clip_iqa`` is the cosine of these 1280 to the anchors in :data:`LITE_QUALITY`, sound pictures and spoilt ones, times
    :data:`LITE_SHARE`; ``clip`` is their projection into the space of ``clip``.
    """

    def load() -> Callable[[Any], Any]:
        import torch

        from eval.networks.efficientnet_lite import MIDDLE_CHANNELS, EfficientNetLite0

        network = EfficientNetLite0.from_file(path)
        first, second = MIDDLE_CHANNELS[:2]
        anchors = torch.from_numpy(LITE_SHARE * np.load(LITE_QUALITY)["anchors"])

        def run(images: Any) -> Any:
            last, style = network.describe(images)
            # Per map its means, then its deviations.
            means = [style[:, :first], style[:, 2 * first : 2 * first + second]]
            vectors = [] if clip is None else [_unit(clip.projection(last))]
            return torch.cat([*means, last, _unit(last) @ anchors.t(), *vectors], 1)

        return run

    end = 40 + LITE_FEATURES
    gives = {"fid64": slice(0, 40), "fid2048": slice(40, end), "dino": slice(40, end), "clip_iqa": slice(end, end + 2)}
    gives |= {} if clip is None else {"clip": slice(end + 2, None)}
    made = LITE_QUALITY.read_bytes() + repr(LITE_SHARE).encode() + (b"" if clip is None else clip.projection_sha256.encode())
    made_of = hashlib.sha256(made).hexdigest()[:12]
    return VectorNetwork(
        f"{key_of('lite', sha256)}-{made_of}",
        LITE_INPUT,
        load,
        {name: part for name, part in gives.items() if name in features},
    )


def clip_iqa(path: Path, sha256: str, protocol: str) -> VectorNetwork:
    """CLIP-IQA's two cosines by CLIP RN50, from pictures at their own size.

    torchmetrics divides by ``data_range``. The checker left it at 1, so 0..255 enters the normalisation unscaled:
    ``challenge`` does the same, ``corrected`` divides by 255.
    """

    def load() -> Callable[[Any], Any]:
        import torch

        from eval.networks.clip_resnet import DEVIATION, MEAN, ClipResNet

        network = ClipResNet.from_file(path)
        texts = network.quality_texts()
        mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, DEVIATION))
        scale = 1.0 if protocol == "challenge" else 255.0
        return lambda images: network.quality((images.float() / scale - mean) / deviation, texts)

    return VectorNetwork(key_of(f"clip_iqa-{protocol}", sha256), AS_IT_IS, load, {"clip_iqa": slice(None)})


def lpips(net: str, trunk: Path, heads: Path, *hashes: str) -> LpipsNetwork:
    """LPIPS from published files; ``hashes`` are those of both."""

    def load() -> Any:
        from eval.networks.lpips import LPIPS

        return LPIPS.from_files(net, trunk, heads)

    return LpipsNetwork(key_of(f"lpips-{net}", "".join(part[:10] for part in hashes)), load)


class _LitePerceptual:
    """1 − cosine of EfficientNet-Lite0's first five maps, averaged over positions, then maps; LPIPS without its heads."""

    def __init__(self, network: Any):
        self.network = network

    def features(self, images: Any) -> list[Any]:
        pixels = (images + 1) * 127.5
        maps = self.network.middle((pixels - 127.0) / 128.0)
        return [x / (1e-8 + (x**2).sum(dim=1, keepdim=True)).sqrt() for x in maps]

    def pairwise(self, first: Sequence[Any], second: Sequence[Any]) -> Any:
        # |a − b|² / 2 by products, as LPIPS.pairwise; a position where all channels are 0 has no length.
        layers = []
        for a, b in zip(first, second, strict=True):
            # Moved to where the second ones are, and summed in steps: one sum over 200,000 numbers loses the fifth decimal.
            middle = b.mean(dim=0, keepdim=True)
            a, b = a - middle, b - middle
            own, other = ((x**2).sum(dim=1).mean(dim=2).mean(dim=1) for x in (a, b))
            products = a.flatten(1) @ b.flatten(1).t() / (a.shape[2] * a.shape[3])
            layers.append((own.unsqueeze(1) + other) / 2 - products)
        return sum(layers[1:], layers[0]) / len(layers)


def lite_lpips(path: Path, sha256: str) -> LpipsNetwork:
    """The stand-in for LPIPS among the lite backbones."""

    def load() -> Any:
        from eval.networks.efficientnet_lite import EfficientNetLite0

        return _LitePerceptual(EfficientNetLite0.from_file(path))

    return LpipsNetwork(key_of("lpips-lite", sha256), load)


class Clip:
    """A transformers CLIP folder: image vectors, text vectors and CLIP-IQA's two cosines, all of length 1.

    Args:
        folder: with ``config.json``, weights, tokenizer and ``preprocessor_config.json``.
        sha256: of the weights.
    """

    def __init__(self, folder: Path, sha256: str):
        self.folder, self.sha256 = folder, sha256
        self.prepare = Preprocessing.of_folder(folder)
        self._model: Any = None
        self._tokenizer: Any = None
        self._texts: dict[str, np.ndarray] = {}

    @property
    def model(self) -> Any:
        if self._model is None:
            self._model = _load_model("CLIPModel", self.folder)
        return self._model

    def network(self, features: Sequence[str]) -> VectorNetwork:
        """The extractor of ``clip`` (the image's vector), ``clip_iqa`` (cosines to the good and bad prompt), or both."""

        def load() -> Callable[[Any], Any]:
            import torch

            anchors = torch.from_numpy(self.embed_texts(PROMPTS)) if "clip_iqa" in features else None

            def run(images: Any) -> Any:
                vectors = _unit(self.model.get_image_features(pixel_values=images))
                cosines = [] if anchors is None else [vectors @ anchors.t()]
                return torch.cat([*cosines, vectors], 1) if "clip" in features else cosines[0]

            return run

        gives = {"clip_iqa": slice(0, 2)} if "clip_iqa" in features else {}
        gives |= {"clip": slice(2 if gives else 0, None)} if "clip" in features else {}
        files = (*_SETTINGS, *_TOKENIZER) if "clip_iqa" in gives else _SETTINGS
        key = _folder_key("-".join(sorted(gives)), self.sha256, self.folder, self.prepare, files)
        return VectorNetwork(key, self.prepare, load, gives)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> ``(texts, width)`` float32 of length 1; each text is computed once. Cut after 77 tokens."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            import torch

            self._tokenizer = self._tokenizer or _load_tokenizer(self.folder)
            for start in range(0, len(new), TEXT_BATCH):
                part = new[start : start + TEXT_BATCH]
                limit = self._longest_text()
                tokens = self._tokenizer(part, padding=True, truncation=True, max_length=limit, return_tensors="pt")
                with torch.no_grad():
                    rows = _unit(self._text_vectors(tokens)).cpu().numpy()
                self._texts.update(zip(part, rows, strict=True))
        return np.stack([self._texts[text] for text in texts]).astype(np.float32)

    def _longest_text(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    def _text_vectors(self, tokens: Any) -> Any:
        return self.model.get_text_features(**tokens)


class LockedClip(Clip):
    """The small CLIP of the ``clip`` stage: a text tower, and a projection of EfficientNet-Lite0's features.

    Args:
        folder: as ``jdiff export`` writes it.
        sha256: of the text tower's weights.
        network: EfficientNet-Lite0's weights on this machine.

    Raises:
        UserError: the projection is unreadable.
    """

    def __init__(self, folder: Path, sha256: str, network: Found):
        self.folder, self.sha256, self.image_network = folder, sha256, network
        self._model = self._tokenizer = None
        self._texts = {}
        from jdiff_style.image_projection import load_projection

        self.projection = load_projection(folder)
        self.projection_sha256 = sha256_of(folder / PROJECTION_FILE)

    @property
    def model(self) -> Any:
        if self._model is None:
            self._model = _load_model("CLIPTextModelWithProjection", self.folder)
        return self._model

    def network(self, features: Sequence[str]) -> VectorNetwork:
        """The extractor of ``clip``. Raises UserError for ``clip_iqa``: quality is not among the words that it learnt."""
        if set(features) != {"clip"}:
            raise UserError(f"--backbones: clip_iqa={self.folder} is a small CLIP for clip= only; give a CLIPModel's folder")
        return lite(self.image_network.path, self.image_network.sha256, ["clip"], self)

    def _longest_text(self) -> int:
        return self.model.config.max_position_embeddings

    def _text_vectors(self, tokens: Any) -> Any:
        return self.model(**tokens).text_embeds


def _unit(vectors: Any) -> Any:
    return vectors / vectors.norm(p=2, dim=-1, keepdim=True)


def _load_model(name: str, folder: Path) -> Any:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    try:
        kind = getattr(transformers, name)
        model, found = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise UserError(f"{folder}: {name} cannot be loaded ({error}); download the folder again") from error
    if missing := sorted(found["missing_keys"]):
        # transformers fills them with random numbers.
        raise UserError(f"{folder}: its weights lack {missing[0]} ({len(missing)} such); they are not those of a {name}")
    return model.eval()


def _load_tokenizer(folder: Path) -> Any:
    import transformers

    try:
        return transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{folder}: its tokenizer cannot be loaded ({error}); it needs vocab.json and merges.txt") from error
