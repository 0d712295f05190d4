"""Parts of the data loader: fetching, collating, worker processes."""

from . import collate, fetch, iterators, worker

__all__ = ["collate", "fetch", "iterators", "worker"]
