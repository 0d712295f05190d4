"""The progress line."""

import io

import pytest

from jdiff_style import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (75.4, "1:15"), (3675, "1:01:15"), (-3, "0:00")])
def test_format_seconds(seconds, text):
    assert progress.format_seconds(seconds) == text


def test_eta_follows_the_recent_pace(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = Terminal()
    bar = progress.Progress("training", 100, 0, stream)
    now[0] = 90.0
    bar.update(1, loss="0.5")
    assert "training 1/100, loss 0.5, 1:30 gone" in stream.getvalue()
    for step in range(2, 12):
        now[0] += 2.0
        bar.update(step)
    # The first step took 90 s; the nine after it show that two seconds each is the truth.
    assert stream.getvalue().split("\r")[-1].split("ETA ")[1].startswith("2:58")


def test_without_a_terminal_lines_are_few(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    bar = progress.Progress("training", 1000, 0, stream, interval=10.0)
    for step in range(1, 1001):
        now[0] += 0.1
        bar.update(step)
    bar.close()
    lines = stream.getvalue().splitlines()
    assert 10 <= len(lines) <= 13 and "1000/1000" in lines[-1] and "\r" not in stream.getvalue()
