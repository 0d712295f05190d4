"""Writes the golden file with real PyTorch: ``.venv-reference/bin/python tests/reference/make_golden.py``.

``tests/golden/models.npz`` holds the thinned arrays of the cases named in ``GOLDEN`` and, under ``info``, the versions
that made it; ``tests/golden/lora/`` a LoRA that diffusers and peft wrote on PyTorch, and ``lora_from_pytorch|…`` what
loading it gives. It needs scipy and torchsde for two of the schedulers.
"""

from __future__ import annotations

import importlib.metadata
import json
import pathlib
import sys
import warnings

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import cases  # noqa: E402
import compare  # noqa: E402

#: Checked in every test run; they share shapes and kernels so that a machine without a cache compiles few.
GOLDEN = (
    "unet_sd15",
    "unet_sd21",
    "unet_sdxl",
    "autoencoder_kl",
    "clip_text",
    "clip_text_projection",
    "dinov2",
    "clip",
    "dit",
    "pipeline_sd",
    "pipeline_img2img",
    "pipeline_sdxl",
    "lora_training",
    "lora_merging",
    "files_unet",
    "files_text_encoder",
)
GOLDEN_DIR = HERE.parent / "golden"


def main() -> None:
    """Run the cases and write the files."""
    import torch

    if "jittor" in torch.__version__:
        raise SystemExit("golden files come from PyTorch: run this with .venv-reference/bin/python")
    warnings.simplefilter("ignore")
    table = cases.load_all()
    from cases import exchange, schedulers

    kept: dict[str, np.ndarray] = {}
    for name in [*GOLDEN, *schedulers.NAMES]:
        try:
            arrays = table[name]()
        except cases.Skip as reason:
            raise SystemExit(f"{name} cannot be left out of the golden file: {reason}") from None
        _keep(kept, name, arrays)
        print(name, flush=True)
    exchange.save_lora(str(GOLDEN_DIR / "lora"))
    _keep(kept, "lora_from_pytorch", exchange.load_lora(str(GOLDEN_DIR / "lora")))
    libraries = ("torch", "diffusers", "transformers", "peft", "accelerate", "numpy", "scipy", "torchsde")
    info = {library: importlib.metadata.version(library) for library in libraries}
    np.savez_compressed(GOLDEN_DIR / "models.npz", info=np.array(json.dumps(info)), **kept)


def _keep(kept: dict[str, np.ndarray], case: str, arrays: dict[str, np.ndarray]) -> None:
    for key, values in arrays.items():
        kept[f"{case}|{key.replace('/', '|')}"] = compare.thin(key, values)


if __name__ == "__main__":
    main()
