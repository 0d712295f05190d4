"""For all tests: nothing is fetched from a model hub, and tests/reference (cases, compare) is on the import path."""

import os
import pathlib
import signal
import sys

# A test run started in the background of a shell ignores Ctrl-C, and so would every program that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "reference"))
