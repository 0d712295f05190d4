"""Run cases in the environment of the interpreter that runs this:
``python tests/reference/run_case.py OUT [--write FOLDER | --read FOLDER] CASE...`` (no case: all of them).

For each case OUT gets ``CASE.npz``, or ``CASE.skip`` or ``CASE.error`` with the reason, and ``seconds.json`` the times.
``--write`` and ``--read`` run the cases that exchange files through FOLDER.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import time
import traceback
import warnings

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import cases


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", metavar="OUT", type=pathlib.Path)
    parser.add_argument("names", metavar="CASE", nargs="*")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--write", metavar="FOLDER")
    ways.add_argument("--read", metavar="FOLDER")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    table = cases.load_all()
    if options.write or options.read:
        os.environ["PARITY_FOLDER"] = options.write or options.read
        table = cases.WRITERS if options.write else cases.READERS
    unknown = set(options.names) - set(table)
    if unknown:
        raise SystemExit(f"no such case: {', '.join(sorted(unknown))}; there are {', '.join(table)}")
    options.out.mkdir(parents=True, exist_ok=True)
    seconds = {}
    for name in options.names or table:
        start = time.perf_counter()
        try:
            arrays = table[name]()
        except cases.Skip as reason:
            (options.out / f"{name}.skip").write_text(str(reason))
        except Exception:
            (options.out / f"{name}.error").write_text(traceback.format_exc())
        else:
            np.savez(options.out / f"{name}.npz", **{key.replace("/", "|"): value for key, value in arrays.items()})
        seconds[name] = round(time.perf_counter() - start, 2)
        print(f"{name}: {seconds[name]} s", flush=True)
    (options.out / "seconds.json").write_text(json.dumps(seconds, indent=1))


if __name__ == "__main__":
    main()
