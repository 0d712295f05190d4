"""torch.profiler: which operations ran, how often, how long; and that what it cannot do raises."""

import pytest
import torch
from torch.autograd.profiler import record_function
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile


def counts(profiler):
    return {event.key: event.count for event in profiler.key_averages()}


def work(x):
    for _ in range(3):
        x = F.layer_norm(x, (64,))
    return F.softmax(x, -1)


def test_every_operation_is_counted_under_its_name():
    x = torch.randn(100, 64)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work(x).numpy()
    assert counts(profiler) == {"norm": 3, "softmax": 1}
    average = {event.key: event for event in profiler.key_averages()}["norm"]
    assert 0 < average.self_cpu_time_total == average.cpu_time_total == pytest.approx(3 * average.cpu_time)


def test_what_is_pending_counts_where_it_was_asked_for():
    x = torch.randn(100, 64)
    early = work(x)
    with profile() as profiler:
        pass
    assert counts(profiler) == {}
    with profile() as profiler:
        late = work(x)  # nobody reads it inside
    assert counts(profiler) == {"norm": 3, "softmax": 1}
    assert early.equal(late)


def test_jittors_own_operations_and_fused_ones_have_names():
    x = torch.randn(40, 30)
    with profile() as profiler:
        ((x * 3.0).exp().sqrt()).numpy()
    assert counts(profiler) == {"array+broadcast_to+multiply+exp+sqrt": 1}


def test_the_table_shows_the_largest_first_and_the_sum():
    x = torch.randn(100, 64)
    with profile() as profiler:
        work(x).numpy()
    events = profiler.key_averages()
    lines = events.table(sort_by="count", row_limit=1).splitlines()
    assert lines[1].startswith("norm") and len(lines) == 3
    assert events.self_cpu_time_total == sum(event.self_cpu_time_total for event in events)
    assert lines[-1] == f"Self CPU time total: {events.self_cpu_time_total / 1e3:.3f}ms"
    assert len(events.table(row_limit=-1).splitlines()) == 4


def test_what_is_not_supported_raises():
    for options in ({"record_shapes": True}, {"with_stack": True}, {"schedule": lambda step: 0}, {"activities": ["cuda"]}):
        with pytest.raises(NotImplementedError):
            profile(**options)
    assert profile(record_shapes=False, on_trace_ready=None) is not None
    with profile() as profiler:
        with pytest.raises(RuntimeError, match="already"):
            profile().start()
        with pytest.raises(RuntimeError, match="end"):
            profiler.key_averages()
        with pytest.raises(NotImplementedError, match="label"), record_function("label"):
            pass
    with pytest.raises(NotImplementedError, match="cuda_time"):
        profiler.key_averages().table(sort_by="cuda_time")
    with pytest.raises(RuntimeError, match="not running"):
        profiler.stop()
    with record_function("label"):
        pass


def test_an_error_inside_ends_the_profile():
    with pytest.raises(ZeroDivisionError), profile():
        raise ZeroDivisionError
    with profile():
        pass
