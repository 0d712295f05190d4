"""Packed multi-style LoRA training, generation and scoring on the torch API.

Nothing in this package downloads anything: importing it puts the Hugging Face libraries into their offline mode before
they are imported, so a mistyped model folder is an error at once instead of an attempt to reach a hub.
"""

import os
from pathlib import Path

__version__ = "0.1.0"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _begin_hub_cache() -> None:
    """Mark a new, empty hub cache as a current one, with the file that transformers writes there itself.

    diffusers puts a file of its own into the folder when it is imported. transformers, imported after it, then takes
    the new folder for one of the year 2022 and warns that every `from_pretrained()` will very likely fail.
    """
    try:
        from huggingface_hub.constants import HF_HUB_CACHE
    except ModuleNotFoundError:
        return  # where no model can be loaded: the emoji are drawn in an environment without such libraries
    cache = Path(HF_HUB_CACHE)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not any(cache.iterdir()):
            (cache / "version.txt").write_text("1", encoding="utf-8")
    except OSError:
        pass  # where it cannot be written, the libraries say so in their own words


_begin_hub_cache()
