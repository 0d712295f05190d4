"""``torch.profiler``, as far as it goes here: which operations ran, how often, and how long.

An operation is what Jittor runs in one piece: a C++ kernel of ours (by the name of its source), an operator of Jittor's,
or several that it fused. Its time is that of the piece alone; Python and scheduling are what is left of the time around
it. PyTorch's figures hold its dispatch, and its names nest. NumPy's work on host data is not seen. What is not supported
raises.
"""

import enum
import re

from . import _raw
from ._missing import module_getattr
from .autograd import profiler as _labels
from .autograd.profiler import record_function

__all__ = ["ProfilerActivity", "profile", "record_function"]

_SORT = ("count", "cpu_time", "cpu_time_total", "self_cpu_time_total")


class ProfilerActivity(enum.Enum):
    """What to watch: the CPU only."""

    CPU = 0


def _name(key):
    """A readable name for one of Jittor's kernel keys, which hold all that a kernel was generated from."""
    if key.startswith("code«"):
        found = re.search(r"«CODE:# include <[^>]*/(\w+)-[0-9a-f]+\.inc>", key)  # see jtorch.kernels.sources
        return found[1] if found else "code"
    parts = key.split("«opkey")[1:]  # the members of a fused group: "number:name«OP:operation«..."
    found = [re.search(r"«OP:(\w+)", part) or re.match(r"\w+:(\w+)", part) for part in parts]
    return "+".join(name[1] for name in found) or key.split("«", 1)[0]


class FunctionEventAvg:
    """All runs of one operation: ``key`` is its name, ``count`` how often it ran; times in microseconds."""

    def __init__(self, key):
        self.key, self.count, self.self_cpu_time_total = key, 0, 0.0

    cpu_time_total = property(lambda self: self.self_cpu_time_total)  # operations do not nest here
    cpu_time = property(lambda self: self.self_cpu_time_total / self.count)


class EventList(list):
    """`FunctionEventAvg` of each operation."""

    @property
    def self_cpu_time_total(self):
        """Microseconds of all of them together."""
        return sum(event.self_cpu_time_total for event in self)

    def table(self, sort_by=None, row_limit=100):
        """The events as text, the largest ``sort_by`` first; ``row_limit`` of them, all if it is -1.

        Raises NotImplementedError for a ``sort_by`` that is not measured here.
        """
        if sort_by not in (None, *_SORT):
            raise NotImplementedError(f"profiler tables sorted by {sort_by} are not implemented in torch on Jittor: use "
                                      f"{', '.join(_SORT)}")
        rows = self if sort_by is None else sorted(self, key=lambda event: -getattr(event, sort_by))
        shown = rows if row_limit < 0 else rows[:row_limit]
        width = max([4] + [len(event.key) for event in shown])
        total = self.self_cpu_time_total or 1.0
        lines = [f"{'Name':{width}}  {'Self CPU %':>10}  {'Self CPU':>12}  {'CPU time avg':>12}  {'# of Calls':>10}"]
        for event in shown:
            lines.append(f"{event.key:{width}}  {100 * event.self_cpu_time_total / total:9.2f}%  "
                         f"{event.self_cpu_time_total / 1e3:10.3f}ms  {event.cpu_time:10.3f}us  {event.count:10d}")
        return "\n".join([*lines, f"Self CPU time total: {self.self_cpu_time_total / 1e3:.3f}ms"]) + "\n"


class profile:
    """Context manager that watches the operations run inside it; what was pending before runs before.

    Raises:
        NotImplementedError: an option other than ``activities=[ProfilerActivity.CPU]``.
        RuntimeError: a second profiler inside, or figures asked for before the end.
    """

    def __init__(self, *, activities=None, **options):
        for name, value in options.items():
            if value:
                raise NotImplementedError(f"torch.profiler.profile with {name} is not implemented in torch on Jittor")
        if activities is not None and set(activities) != {ProfilerActivity.CPU}:
            raise NotImplementedError("torch.profiler.profile watches the CPU only in torch on Jittor")
        self._scope = self._report = None

    def start(self):
        if _labels.ACTIVE:
            raise RuntimeError("a profiler is running already")
        _raw.jt.sync_all(True)
        self._scope = _raw.jt.profile_scope(log_silent=1)  # Jittor would print its own report
        self._report = self._scope.__enter__()
        _labels.ACTIVE = True

    def stop(self):
        if not _labels.ACTIVE or self._scope is None:
            raise RuntimeError("this profiler is not running")
        scope, self._scope, _labels.ACTIVE = self._scope, None, False
        try:
            _raw.jt.sync_all(True)
        finally:
            scope.__exit__(None, None, None)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def key_averages(self):
        """An `EventList` with an entry for each name."""
        if self._report is None or self._scope is not None:
            raise RuntimeError("the profiler has not run to its end")
        events = {}
        for row in self._report[1:]:
            found = dict(zip(self._report[0], row))
            event = events.setdefault(_name(found["Name"]), FunctionEventAvg(_name(found["Name"])))
            event.count += int(float(found["Count"]))
            event.self_cpu_time_total += float(found["TotalTime"]) / 1e3
        return EventList(events.values())


__getattr__ = module_getattr("torch.profiler")
