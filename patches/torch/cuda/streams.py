"""Streams and events. Jittor runs every kernel in one stream, in order, and lazily: waiting for a stream or an event is
waiting for all that is pending. What cannot be had from one stream (concurrency, another library's stream) raises."""

import time

from .. import _raw
from .._missing import module_getattr

__all__ = ["Event", "ExternalStream", "Stream", "current_stream", "default_stream", "set_stream", "stream"]


def _needs_card(name):
    from torch import cuda

    if not cuda.is_available():
        raise RuntimeError(f"Tried to instantiate dummy base class {name}")
    cuda.init()


class Stream:
    """Jittor's one stream, by another name: work put into it runs after all earlier work."""

    def __init__(self, device=None, priority=0, **kwargs):
        _needs_card("Stream")
        self.priority = priority
        self.cuda_stream = 0

    def synchronize(self):
        """Wait for all pending kernels."""
        _raw.jt.sync_all(True)

    def query(self):
        """Whether nothing is pending; Jittor cannot tell without running it, so this waits and is True."""
        self.synchronize()
        return True

    def wait_stream(self, stream):
        """Later work waits for earlier work of ``stream``: with one stream it does."""

    def wait_event(self, event):
        """Later work waits for ``event``: with one stream it does."""

    def record_event(self, event=None):
        """Record an event here; see `Event`."""
        event = event or Event()
        event.record(self)
        return event

    def __eq__(self, other):
        return isinstance(other, Stream)

    def __hash__(self):
        return 0


class ExternalStream(Stream):
    """Raises: Jittor's kernels cannot be put into another library's stream."""

    def __init__(self, stream_ptr, device=None, **kwargs):
        _needs_card("Stream")
        raise NotImplementedError("torch.cuda.ExternalStream: Jittor computes in one stream of its own")


class Event:
    """A point in the order of kernels.

    With ``enable_timing`` recording waits for all pending work and takes the host's clock: `elapsed_time` is then the time
    between two points with nothing pending, which is what the difference of two events means in a lazy backend.
    """

    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        _needs_card("Event")
        self._timing, self._when = enable_timing, None

    def record(self, stream=None):
        """Mark this point."""
        if self._timing:
            _raw.jt.sync_all(True)
        self._when = time.perf_counter()

    def synchronize(self):
        """Wait for all pending kernels."""
        _raw.jt.sync_all(True)

    def query(self):
        """Whether everything before the event has run; waits, so it has."""
        self.synchronize()
        return True

    def wait(self, stream=None):
        """Later work waits for this event: with one stream it does."""

    def elapsed_time(self, end_event):
        """Milliseconds from this event to ``end_event``. Raises RuntimeError where one has no time."""
        if not (self._timing and end_event._timing):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self._when is None or end_event._when is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return (end_event._when - self._when) * 1000


def current_stream(device=None):
    """Jittor's one stream. Raises AssertionError without a card."""
    from torch import cuda

    cuda._index(device)
    return Stream()


default_stream = current_stream


def set_stream(stream):
    """Nothing: there is one stream."""


class stream:
    """Context in which ``stream`` is the current one; with one stream it is anyway. None is allowed."""

    def __init__(self, stream):
        self.stream = stream

    def __enter__(self):
        return None

    def __exit__(self, *exc):
        return False


__getattr__ = module_getattr(__name__)
