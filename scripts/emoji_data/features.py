"""EfficientNet-Lite0's features of the built pictures, and of altered copies of those that are trained on."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from jdiff_style import runs
from jdiff_style.checkpoint import sha256
from jdiff_style.dataset import PICTURE, derive_seed
from jdiff_style.errors import UserError
from jdiff_style.picture_features import FEATURES_INFO, features_file
from jdiff_style.pretrain_augment import alter
from jdiff_style.pretrain_data import IMAGES_FILE, METADATA_FILE, OTHER_STYLES, read_pictures
from jdiff_style.progress import Progress

from .command import OUT

NETWORK, WIDTH, BATCH, SEED = "EfficientNet-Lite0", 1280, 16, 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compute the features that the clip stage learns from: EfficientNet-Lite0's last 1280 numbers of every "
        "picture and of altered copies of it (other colours, ground, size, texture). Stopped at any moment, it goes on "
        "where it was. Runs in .venv or .venv-reference."
    )
    parser.add_argument("--data", type=Path, default=OUT, metavar="FOLDER", help="what make_emoji_data.py built")
    parser.add_argument("--altered", type=int, default=4, metavar="COPIES", help="altered copies of each picture (4)")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="where the network's weights lie, if not installed")
    options = parser.parse_args(arguments)
    if not 0 <= options.altered <= 100:
        parser.error(f"--altered: {options.altered} is not between 0 and 100")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        make(options.data, options.altered, [options.weights] if options.weights else [])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def make(folder: Path, altered: int, places: list[Path]) -> None:
    """Write the features of both picture files of `folder`, and `features.json` last.

    Raises UserError if the pictures are not built or the network's weights are not on this machine.
    """
    from eval import weights
    from eval.networks.efficientnet_lite import EfficientNetLite0

    found = weights.find("efficientnet_lite0", places)
    network = EfficientNetLite0.from_file(found.path)
    made_of = {}
    for (images_file, items_file), copies in (((IMAGES_FILE, METADATA_FILE), altered), (OTHER_STYLES, 0)):
        if images_file != IMAGES_FILE and not (folder / images_file).exists():
            continue  # make_emoji_data.py --base-only
        images, _ = read_pictures(folder, images_file, items_file)
        made_of[images_file] = sha256(folder / images_file)
        key = {"of": made_of[images_file], "network": found.sha256, "versions": 1 + copies, "seed": SEED}
        _describe(network, images, folder / features_file(images_file), key)
    info = {"network": NETWORK, "sha256": found.sha256, "width": WIDTH, "versions": 1 + altered, "seed": SEED, "of": made_of}
    runs.write_text(folder / FEATURES_INFO, json.dumps(info, indent=2) + "\n")


def _describe(network: object, images: np.ndarray, target: Path, key: dict[str, object]) -> None:
    """Fill `target` picture by picture; `NAME.part` and a note of how far it is survive a stop. Nothing if it is there."""
    versions, note = int(key["versions"]), target.with_name(f".{target.name}.json")  # type: ignore[call-overload]
    part = target.with_name(f".{target.name}.part")
    state = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    if state.get("key") == key and state["done"] == len(images) and target.is_file():
        return
    going_on = state.get("key") == key and part.is_file()
    shape = (len(images), versions, WIDTH)
    array = np.lib.format.open_memmap(part, "r+" if going_on else "w+", np.float16, None if going_on else shape)
    done = state["done"] if going_on else 0
    progress = Progress(f"features of {target.name.split('.')[0]}", len(images), done)
    for first in range(done, len(images), BATCH):
        chosen = range(first, min(first + BATCH, len(images)))
        array[first : chosen.stop] = np.stack([_features(network, images[n], n, versions) for n in chosen])
        array.flush()
        runs.write_text(note, json.dumps({"key": key, "done": chosen.stop}))
        progress.update(chosen.stop)
    progress.close()
    del array
    os.replace(part, target)


def _features(network: object, picture: np.ndarray, number: int, versions: int) -> np.ndarray:
    """float16 versions × 1280 of one picture, the first as it is; what the others are follows from its number alone."""
    import torch

    from eval.networks.efficientnet_lite import prepare

    pictures = [np.asarray(picture)]
    for version in range(1, versions):
        pictures.append(alter(pictures[0], np.random.default_rng(derive_seed(SEED, PICTURE, number, version))))
    prepared = np.stack([prepare(Image.fromarray(one)) for one in pictures])
    return network.features(torch.from_numpy(prepared)).numpy().astype(np.float16)  # type: ignore[attr-defined]
