"""For all tests: nothing is fetched from a model hub, and tests/reference (cases, compare) is on the import path."""

import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "reference"))
