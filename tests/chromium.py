"""A headless Chromium from the package index: the package kaleido carries one, and what it needs, in its wheel.

kaleido draws charts: its program opens a page that loads a chart library from a file and calls the library's toImage.
Here that file is eval/page.js, which opens the page to be tested in a frame.
"""

import importlib.util
import json
import subprocess
from pathlib import Path

DRIVER = Path(__file__).parent / "eval" / "page.js"
# No sandbox, since tests may run as root; the page's frame is another file, which the driver has to see into.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-breakpad", "--disable-dev-shm-usage", "--allow-file-access-from-files")


def use_page(page, steps=()):
    """Open the file ``page``, carry out ``steps``, each {field's id: value}, and return what page.js answers."""
    folder = Path(importlib.util.find_spec("kaleido").submodule_search_locations[0]) / "executable"
    figure = {"data": [{"page": page.as_uri(), "steps": list(steps)}], "layout": {}}
    order = {"format": "json", "width": 1, "height": 1, "scale": 1, "data": figure}
    places = {"LD_LIBRARY_PATH": "lib", "FONTCONFIG_PATH": "etc/fonts", "XDG_DATA_HOME": "xdg"}
    done = subprocess.run(
        [str(folder / "bin" / "kaleido"), "plotly", f"--plotlyjs={DRIVER}", *FLAGS],
        input=json.dumps(order) + "\n",
        cwd=folder,
        env={name: str(folder / place) for name, place in places.items()} | {"HOME": str(page.parent)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["code"] == 0, answer["message"]
    return json.loads(answer["result"])
