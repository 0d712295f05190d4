"""EfficientNet-Lite0's features of the built pictures, and of altered and decoded copies of those to train on."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from jdiff_style import runs
from jdiff_style.checkpoint import sha256
from jdiff_style.dataset import PICTURE, derive_seed
from jdiff_style.errors import UserError
from jdiff_style.finished_models import load_part
from jdiff_style.hashes import SUMS_FILE
from jdiff_style.picture_features import FEATURES_INFO, features_file
from jdiff_style.pretrain_augment import alter
from jdiff_style.pretrain_data import IMAGES_FILE, METADATA_FILE, OTHER_STYLES, read_pictures, to_pictures, to_pixels
from jdiff_style.progress import Progress

from .command import OUT

NETWORK, WIDTH, BATCH, SEED = "EfficientNet-Lite0", 1280, 16, 0
VAE = Path(__file__).resolve().parents[2] / "data" / "base" / "emoji-vae"
MOST_NOISE = 0.4  # standard deviation of what is added to latents; theirs is 1

Maker = Callable[[np.ndarray, int, int], list[np.ndarray]]  # (picture, its number, number of the first copy) -> copies


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compute the features that the clip stage learns from: EfficientNet-Lite0's last 1280 numbers of every "
        "picture and of copies of it: altered ones (other colours, ground, size, texture), and ones decoded from latents "
        "with noise, half of them altered, for the CLIP is to judge what a latent diffusion model draws. Stopped at any "
        "moment, it goes on where it was. Runs in .venv or .venv-reference."
    )
    parser.add_argument("--data", type=Path, default=OUT, metavar="FOLDER", help="what make_emoji_data.py built")
    parser.add_argument("--altered", type=int, default=4, metavar="COPIES", help="altered copies of each picture (4)")
    parser.add_argument("--decoded", type=int, default=0, metavar="COPIES", help="decoded copies of each picture (0)")
    parser.add_argument("--vae", type=Path, default=VAE, metavar="FOLDER", help="autoencoder for these (the embedded one)")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="where the network's weights lie, if not installed")
    options = parser.parse_args(arguments)
    for name in ("altered", "decoded"):
        if not 0 <= getattr(options, name) <= 100:
            parser.error(f"--{name}: {getattr(options, name)} is not between 0 and 100")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    try:
        make(options.data, options.altered, options.decoded, options.vae, [options.weights] if options.weights else [])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


def make(folder: Path, altered: int, decoded: int, vae: Path, places: list[Path]) -> None:
    """Write the features of both picture files of `folder`, and `features.json` last.

    Raises UserError if the pictures are not built, or the network's or the autoencoder's weights are not on this machine.
    """
    from eval import weights
    from eval.networks.efficientnet_lite import EfficientNetLite0

    found = weights.find("efficientnet_lite0", places)
    network = EfficientNetLite0.from_file(found.path)
    copies: dict[str, Any] = {"altered": altered, "decoded": decoded}
    if decoded:
        autoencoder = load_part(str(vae), "vae", AutoencoderKL).requires_grad_(False).eval()
        copies["vae"] = sha256(vae / SUMS_FILE)
    made_of = {}
    for images_file, items_file in ((IMAGES_FILE, METADATA_FILE), OTHER_STYLES):
        own = images_file == IMAGES_FILE
        if not own and not (folder / images_file).exists():
            continue  # make_emoji_data.py --base-only
        images, _ = read_pictures(folder, images_file, items_file)
        made_of[images_file] = sha256(folder / images_file)
        makers = [partial(_altered, altered), *([partial(_decoded, decoded, autoencoder)] if decoded else [])] if own else []
        key = {"of": made_of[images_file], "network": found.sha256, "seed": SEED, **(copies if own else {})}
        versions = 1 + (altered + decoded if own else 0)
        _describe(network, images, folder / features_file(images_file), key, versions, makers)
    info = {"network": NETWORK, "sha256": found.sha256, "width": WIDTH, **copies, "seed": SEED, "of": made_of}
    runs.write_text(folder / FEATURES_INFO, json.dumps(info, indent=2) + "\n")


def _describe(
    network: Any, images: np.ndarray, target: Path, key: dict[str, Any], versions: int, makers: list[Maker]
) -> None:
    """Fill `target` picture by picture; `NAME.part` and a note of how far it is survive a stop. Nothing if it is there."""
    note = target.with_name(f".{target.name}.json")
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
        array[first : chosen.stop] = np.stack([_features(network, images[n], n, makers) for n in chosen])
        array.flush()
        runs.write_text(note, json.dumps({"key": key, "done": chosen.stop}))
        progress.update(chosen.stop)
    progress.close()
    del array
    os.replace(part, target)


def _features(network: Any, picture: np.ndarray, number: int, makers: list[Maker]) -> np.ndarray:
    """float16 versions × 1280 of one picture, the first as it is; what the others are follows from its number alone."""
    from eval.networks.efficientnet_lite import prepare

    pictures = [np.asarray(picture)]
    for maker in makers:
        pictures += maker(pictures[0], number, len(pictures))
    prepared = np.stack([prepare(Image.fromarray(one)) for one in pictures])
    features: np.ndarray = network.features(torch.from_numpy(prepared)).numpy()
    return features.astype(np.float16)


def _altered(count: int, picture: np.ndarray, number: int, first: int) -> list[np.ndarray]:
    """Copies with other colours, ground, size or texture."""
    streams = [derive_seed(SEED, PICTURE, number, version) for version in range(first, first + count)]
    return [alter(picture, np.random.default_rng(stream)) for stream in streams]


def _decoded(count: int, vae: Any, picture: np.ndarray, number: int, first: int) -> list[np.ndarray]:
    """Copies decoded from latents with noise of a standard deviation from 0 to `MOST_NOISE`: those of the picture and, for
    every second copy, of an altered one.
    """
    draw = np.random.default_rng(derive_seed(SEED, PICTURE, number, first))
    sources = np.stack([alter(picture, draw) if copy % 2 else picture for copy in range(count)])
    with torch.no_grad():
        latents = vae.encode(torch.from_numpy(to_pixels(sources))).latent_dist.mean.numpy()
        amounts = draw.uniform(0.0, MOST_NOISE, (count, 1, 1, 1)) / vae.config.scaling_factor
        noise = amounts * draw.standard_normal(latents.shape)
        decoded = vae.decode(torch.from_numpy((latents + noise).astype(np.float32))).sample.numpy()
    return list(to_pictures(decoded))
