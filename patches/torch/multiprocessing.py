"""Python's multiprocessing under torch's name. Tensors travel between processes as copies."""

from multiprocessing import *  # noqa: F403
from multiprocessing import get_context, get_start_method, set_start_method  # noqa: F401


def get_all_sharing_strategies():
    return {"file_system"}


def get_sharing_strategy():
    return "file_system"
