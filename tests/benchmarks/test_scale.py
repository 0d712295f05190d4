"""The scale benchmark draws what it says, scores it and measures it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / "data" / "packs" / "emoji-2"


def scale(*words):
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), str(PACK), "--side", "64", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_row_for_each_number_of_pictures_with_time_and_memory():
    done = scale("--pictures", "3", "1", "--", "--metrics", "hist,dino", "--workers", "1")
    assert done.returncode == 0, done.stderr
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()[2:]]
    assert [row[:2] for row in rows] == [["1", "3"], ["3", "6"]] and {row[6] for row in rows} == {"hist"}
    for row in rows:
        assert float(row[2]) > 0 and float(row[4]) > 10 and float(row[5]) > 10


def test_more_pictures_than_words():
    done = scale("--pictures", "52", "--", "--metrics", "hist", "--workers", "1", "--bootstrap", "0")
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("| 52 | 6 |"), done.stderr


def test_what_cannot_be_measured_is_one_sentence():
    done = scale("--pictures", "2", "--", "--metrics", "beauty")
    assert done.returncode == 1 and "score.py failed (1):\nerror: --metrics: 'beauty' is unknown" in done.stderr
