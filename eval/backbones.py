"""Which networks the metrics look through: the challenge's own, small embedded ones, or folders of your choice.

``official``
    what the challenge's checker used. Weights are looked up by :mod:`eval.weights`, checked, and never fetched; one that
    is missing leaves its metrics not computed, with the file's name and where it is published.
``lite``
    small networks that come with the project; numbers are not comparable with the leaderboard. EfficientNet-Lite0's 1280
    last features stand for DINO (and for Inception's 2048), the 40 channel means of its first two stages for Inception's
    64, the mean 1 − cosine of its first five stages' maps for LPIPS; a small CLIP of emoji for CLIP. CLIP-IQA is not by
    CLIP: the small one is trained to see through blur and noise, and knows no "good photo" (see eval/README.md).
    In its place stand the cosines of EfficientNet-Lite0's features to those of sound and of spoilt pictures.
``dino=FOLDER``, ``clip=FOLDER``, ``clip_iqa=FOLDER``
    a transformers folder of your own in that role; ``FOLDER`` alone is one more folder to look for weights in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval import extractors, weights
from eval.extractors import LITE_QUALITY, Clip, LockedClip, LpipsNetwork, VectorNetwork
from jdiff_style.errors import UserError
from jdiff_style.hashes import SUMS_FILE, check_sums
from jdiff_style.picture_features import PROJECTION_FILE, PROJECTION_INFO, projection_info

#: Every feature that a metric may need, and the role whose network makes it.
FEATURES = {
    "hist": None,
    "dino": "dino",
    "dino_base": "dino",
    "fid64": "inception",
    "fid2048": "inception",
    "lpips": "lpips",
    "lpips_pairs": "lpips",
    "clip": "clip",
    "clip_iqa": "clip_iqa",
}
#: LPIPS network -> its two files in :mod:`eval.weights`.
LPIPS_FILES = {
    "squeeze": ("squeezenet1_1", "lpips_squeeze"),
    "alex": ("alexnet", "lpips_alex"),
    "vgg": ("vgg16", "lpips_vgg"),
}
LITE_CLIP = Path(__file__).resolve().parents[1] / "data" / "base" / "emoji-clip"
#: Small packs have fewer references than the 64 pictures that FID asks for; lite's number is a rough one anyway.
LITE_MINIMUMS = {"fid": 20}


class Unavailable(Exception):
    """A network cannot be had; the text is the clause that a report shows after "not computed: "."""


class Backbones:
    """The networks of one run, made when they are asked for.

    Args:
        kind: ``official`` or ``lite``.
        folders: where to look for weights first, in order; :mod:`eval.weights` names the other places.
        own: role -> transformers folder that replaces the network of that role.
        lpips_net: ``squeeze`` (the challenge's), ``alex`` or ``vgg``.

    Attributes:
        deviation: why numbers are not comparable with the leaderboard's, or None; as far as networks were asked for.
        minimums: see :class:`eval.metrics.base.Setting`.

    Raises:
        UserError: ``lpips_net`` is given with the lite backbones, which have a stand-in of their own.
    """

    def __init__(
        self,
        kind: str = "official",
        folders: Sequence[Path] = (),
        own: dict[str, Path] | None = None,
        lpips_net: str = "squeeze",
    ):
        self.kind, self.folders, self.own, self.lpips_net = kind, list(folders), dict(own or {}), lpips_net
        self.minimums = LITE_MINIMUMS if kind == "lite" else {}
        self._found: dict[str, dict[str, Any]] = {}
        self._clips: dict[Path, Clip] = {}
        self._deviations: list[str] = []
        if kind == "lite" and lpips_net != "squeeze":
            raise UserError(f"--lpips-net: {lpips_net} is not used with lite backbones, which have their own; leave it out")

    @property
    def deviation(self) -> str | None:
        reasons = ["lite backbones"] if self.kind == "lite" else []
        reasons += [f"{role} from {path}" for role, path in self.own.items()]
        reasons += [f"LPIPS with {self.lpips_net}"] if self.lpips_net != "squeeze" else []
        return ", ".join([*reasons, *self._deviations]) or None

    def require(self, feature: str) -> None:
        """Find the weights of a feature's network.

        Raises:
            Unavailable: they are nowhere, or damaged; the text says which file and where it is published.
            UserError: a folder given for a role is no model.
        """
        role = FEATURES[feature]
        if role is not None and role not in self._found:
            self._found[role] = self._find(role)

    def extractors(self, features: Collection[str], protocol: str = "challenge") -> list[VectorNetwork]:
        """The networks for ``features`` (LPIPS aside), each run once per picture, whatever it is used for.

        ``protocol`` matters to the official CLIP-IQA only, see :func:`eval.extractors.clip_iqa`.

        Raises:
            Unavailable: as :meth:`require`.
        """
        for feature in sorted(features):
            self.require(feature)
        wanted = {"dino" if feature == "dino_base" else feature for feature in features}
        found = []
        if "dino" in wanted and self._is_transformers("dino"):
            used = self._found["dino"]
            found.append(extractors.dino(Path(used["path"]), used["sha256"]))
            wanted.discard("dino")
        seen = wanted & {"dino", "fid64", "fid2048"}
        if self.kind == "lite" and "clip_iqa" in wanted and "clip_iqa" not in self.own:
            seen = seen | {"clip_iqa"}
            wanted.discard("clip_iqa")
        locked: LockedClip | None = None
        if seen and self.kind == "lite" and "clip" in wanted:
            clip = self._clip("clip")
            if isinstance(clip, LockedClip):  # the same network, run once
                locked, seen = clip, seen | {"clip"}
                wanted.discard("clip")
        if seen:
            used = self._found[str(FEATURES[min(seen - {"clip"})])]
            path, sha256 = Path(used["path"]), used["sha256"]
            if self.kind == "lite":
                found.append(extractors.lite(path, sha256, seen, locked))
            else:
                found.append(extractors.inception(path, sha256, seen))
        if "clip_iqa" in wanted and self.kind == "official" and "clip_iqa" not in self.own:
            used = self._found["clip_iqa"]
            found.append(extractors.clip_iqa(Path(used["path"]), used["sha256"], protocol))
            wanted.discard("clip_iqa")
        for clip in {id(self._clip(role)): self._clip(role) for role in sorted(wanted & {"clip", "clip_iqa"})}.values():
            roles = [role for role in ("clip", "clip_iqa") if role in wanted and self._clip(role) is clip]
            found.append(clip.network(roles))
        return found

    def pair_network(self) -> LpipsNetwork:
        """The network of ``lpips`` and ``lpips_pairs``; raises as :meth:`require`."""
        self.require("lpips")
        used = self._found["lpips"]
        if self.kind == "lite":
            return extractors.lite_lpips(Path(used["path"]), used["sha256"])
        hashes = used["sha256"], used["heads_sha256"]
        return extractors.lpips(self.lpips_net, Path(used["path"]), Path(used["heads"]), *hashes)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """``(texts, width)`` float32 of length 1 in the space of the feature ``clip``."""
        return self._clip("clip").embed_texts(texts)

    def describe(self, features: Collection[str]) -> dict[str, Any]:
        """What a report says: ``kind``, ``comparable``, and per role of the used ``features`` the model and its hash."""
        roles = {FEATURES[feature] for feature in features}
        return {
            "kind": self.kind,
            "comparable": self.deviation is None,
            "networks": {role: used for role, used in sorted(self._found.items()) if role in roles},
        }

    def _is_transformers(self, role: str) -> bool:
        return role in self.own or self.kind == "official"

    def _find(self, role: str) -> dict[str, Any]:
        """Model, path and hashes of a role's network."""
        if role in self.own:
            return self._describe_own(role, self.own[role])
        try:
            if role == "clip" and self.kind == "lite":
                return self._find_lite_clip()
            if self.kind == "lite":
                found = weights.find("efficientnet_lite0", self.folders)
                used = _used("EfficientNet-Lite0", found.path, found.sha256)
                if role != "clip_iqa":
                    return used
                anchors = {"anchors": str(LITE_QUALITY), "anchors_sha256": weights.sha256_of(LITE_QUALITY)}
                return used | anchors | {"model": "EfficientNet-Lite0 between sound and spoilt pictures, no CLIP"}
            if role == "clip_iqa":
                found = weights.find("clip_rn50", self.folders)
                return _used("CLIP RN50 without positional embedding", found.path, found.sha256)
            if role == "inception":
                found = weights.find("inception", self.folders)
                return _used("Inception v3, FID version of 2015-12-05", found.path, found.sha256)
            if role == "lpips":
                found, heads = (weights.find(name, self.folders) for name in LPIPS_FILES[self.lpips_net])
                used = _used(f"LPIPS 0.1, {self.lpips_net}", found.path, found.sha256)
                return used | {"heads": str(heads.path), "heads_sha256": heads.sha256}
            name = {"dino": "dinov2"}.get(role, role)
            found = weights.find_model(name, self.folders)
            self._deviations += [found.deviation] if found.deviation else []
            return _used(weights.MODELS[name].repository, found.path, found.sha256) | {"checked": found.checked}
        except UserError as error:
            raise Unavailable(f"needs weights: {error}") from error

    def _find_lite_clip(self) -> dict[str, Any]:
        for name in ("config.json", PROJECTION_INFO, SUMS_FILE):
            if not (LITE_CLIP / name).is_file():
                raise Unavailable(
                    f"needs the small CLIP, and {LITE_CLIP / name} is not there: `jdiff train --recipe "
                    f"data/recipes/emoji-clip.yaml` and `jdiff export RUN {LITE_CLIP}` make it; or bring one as "
                    "clip=FOLDER"
                )
        check_sums(LITE_CLIP, "--backbones lite")
        return self._describe_own("clip", LITE_CLIP) | {"model": "emoji-clip", "checked": "SHA-256"}

    def _describe_own(self, role: str, folder: Path) -> dict[str, Any]:
        used = _used(str(folder), folder, _folder_hash(folder, role))
        if role == "dino" or not (folder / PROJECTION_INFO).is_file():
            return used
        about, network = projection_info(folder), weights.find("efficientnet_lite0", self.folders)
        if about["sha256"] != network.sha256:
            raise UserError(
                f"{folder}: its projection is for {about['network']} with SHA-256 {about['sha256']}, and {network.path} has "
                f"{network.sha256}; it needs the weights that it was trained on"
            )
        return used | {"projection_sha256": weights.sha256_of(folder / PROJECTION_FILE), "image_sha256": network.sha256}

    def _clip(self, role: str) -> Clip:
        """One CLIP per folder, whatever its roles."""
        self.require(role)
        used = self._found[role]
        folder = Path(used["path"])
        if folder not in self._clips:
            if "projection_sha256" in used:
                network = weights.find("efficientnet_lite0", self.folders)
                self._clips[folder] = LockedClip(folder, used["sha256"], network)
            else:
                self._clips[folder] = Clip(folder, used["sha256"])
        return self._clips[folder]


def _used(model: str, path: Path, sha256: str) -> dict[str, Any]:
    return {"model": model, "path": str(path), "sha256": sha256}


def _folder_hash(folder: Path, role: str) -> str:
    """SHA-256 of a transformers folder's weights; raises UserError where it is no model for the role."""
    config = weights.configuration(folder)
    wanted = "dinov2" if role == "dino" else "clip"
    if role != "dino" and (folder / PROJECTION_INFO).is_file():
        wanted = "clip_text_model"  # the small CLIP, whose image side is EfficientNet-Lite0
    if config is not None and config.get("model_type") != wanted:
        kind = config.get("model_type")
        raise UserError(f"--backbones: {role}={folder} is a model of type {kind!r}; {role} needs one of type {wanted!r}")
    for name in ("model.safetensors", "pytorch_model.bin"):
        if config is not None and (folder / name).is_file():
            return weights.sha256_of(folder / name)
    raise UserError(f"--backbones: {role}={folder} lacks config.json or model.safetensors; give a transformers folder")


def choose_backbones(
    words: Sequence[str], folders: Sequence[Path] = (), lpips_net: str = "squeeze", clip_iqa_model: Path | None = None
) -> Backbones:
    """Backbones from the command line's words (see the module) and options.

    Raises:
        UserError: an unknown word, or a folder that is none.
    """
    kind, own = "official", {}
    places = [Path(path).expanduser() for path in folders]
    for word in words:
        role, equals, value = word.partition("=")
        if word in ("official", "lite"):
            kind = word
        elif equals and role in ("dino", "clip", "clip_iqa"):
            own[role] = Path(value).expanduser()
        elif Path(word).expanduser().is_dir():
            places.append(Path(word).expanduser())
        else:
            raise UserError(
                f"--backbones: {word!r} is neither official nor lite, no folder, and not dino=, clip= or clip_iqa=FOLDER"
            )
    if clip_iqa_model is not None:
        own["clip_iqa"] = clip_iqa_model.expanduser()
    for role, path in own.items():
        if not path.is_dir():
            raise UserError(f"--backbones: {role}={path} is not a folder; give one in transformers layout")
    for folder in places:
        if not folder.exists():
            raise UserError(f"--weights: {folder} is not there; give the folder that holds the weight files")
    return Backbones(kind, places, own, lpips_net)
