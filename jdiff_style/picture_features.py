"""Features of pictures from a fixed image network, and what is on disk of their projection into a CLIP's space.

The `clip` stage trains a text tower and one linear layer (image_projection.py) on features that never change: locked-image
tuning (Zhai et al. 2022). `scripts/make_emoji_features.py` writes them beside the pictures: float16 of shape (N, versions,
width), version 0 of the picture as it is, the others of altered copies; `features.json` says what network made them of
which pictures.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from jdiff_style.errors import UserError

FEATURES_INFO = "features.json"
PROJECTION_FILE, PROJECTION_INFO = "image_projection.safetensors", "image_projection.json"
HOW = "python scripts/make_emoji_features.py makes it"


def features_file(images_file: str) -> str:
    """`images.npy` -> `images.features.npy`."""
    return f"{Path(images_file).stem}.features.npy"


def read_info(folder: Path, field: str = "data") -> dict[str, Any]:
    """`features.json`: `network`, `sha256` of its weights, `width`, `versions` and `of`, the pictures' SHA-256 by file."""
    path = folder / FEATURES_INFO
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        network, weights, width = str(info["network"]), str(info["sha256"]), int(info["width"])
        return {"network": network, "sha256": weights, "width": width, "of": {str(k): str(v) for k, v in info["of"].items()}}
    except FileNotFoundError:
        raise UserError(f"{field}: {path} is missing; {HOW}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{field}: {path} cannot be read ({error!r}); {HOW} anew") from None


def read_features(folder: Path, images_file: str, count: int, width: int, field: str = "data") -> np.ndarray:
    """The features of `count` pictures, memory-mapped float16 count × versions × width; UserError if they do not fit."""
    path = folder / features_file(images_file)
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{field}: {path} is missing; {HOW}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{field}: {path} is not a NumPy array ({error}); {HOW} anew") from None
    if features.dtype != np.float16 or features.ndim != 3 or len(features) != count or features.shape[2] != width:
        raise UserError(
            f"{field}: {path} is {features.dtype} of shape {features.shape}; expected float16 ({count}, versions, {width}); "
            f"{HOW} anew"
        )
    return features


def projection_info(folder: Path) -> dict[str, Any]:
    """What stands in `image_projection.json`: `network`, `sha256` of its weights, `features`, `projection`; or UserError."""
    try:
        info = json.loads((folder / PROJECTION_INFO).read_text(encoding="utf-8"))
        names = {"network": str(info["network"]), "sha256": str(info["sha256"])}
        return {**names, "features": int(info["features"]), "projection": int(info["projection"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        place = folder / PROJECTION_INFO
        raise UserError(f"{place} cannot be read ({error!r}); export or download the folder again") from error
