"""What a worker process knows about itself."""

_current = None


class WorkerInfo:
    """A worker's ``id`` (0-based), the ``num_workers``, its PyTorch ``seed`` and its copy of the ``dataset``."""

    def __init__(self, *, id, num_workers, seed, dataset):
        self.id = id
        self.num_workers = num_workers
        self.seed = seed
        self.dataset = dataset

    def __repr__(self):
        return f"WorkerInfo(id={self.id}, num_workers={self.num_workers}, seed={self.seed}, dataset={self.dataset!r})"


def get_worker_info():
    """The `WorkerInfo` of this worker process; None in the main process."""
    return _current


def set_worker_info(info):
    global _current
    _current = info
