"""Packed multi-style LoRA training, generation and scoring on the torch API.

Nothing in this package downloads anything: importing it puts the Hugging Face libraries into their offline mode before
they are imported, so a mistyped model folder is an error at once instead of an attempt to reach a hub.
"""

import os

__version__ = "0.1.0"

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
