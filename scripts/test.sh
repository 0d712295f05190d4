#!/usr/bin/env bash
# Set the environment up, then check style, types and behaviour. Nothing but this is needed on a fresh clone.
#
#   bash scripts/test.sh                 everything that needs no PyTorch
#   bash scripts/test.sh tests/eval -x   arguments go to pytest instead of the folder tests/
#
# JDIFF_TEST_WORKERS=1 runs the tests one after the other; 2 is the default.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
bash scripts/setup.sh
bin=$root/.venv/bin

echo "ruff"
"$bin/ruff" check .
echo "mypy"
"$bin/mypy"

# Two processes: one computes while the other compiles. Kernels are compiled under Jittor's file lock, so they do not
# collide; a share of the cores each keeps OpenMP's threads from fighting.
workers=${JDIFF_TEST_WORKERS:-2}
cores=$(nproc)
if [ -z "${OMP_NUM_THREADS:-}" ]; then
    export OMP_NUM_THREADS=$((cores > workers ? cores / workers : 1))
fi
if [ $# -eq 0 ]; then set -- tests; fi
if [ "$workers" -gt 1 ]; then set -- -n "$workers" --dist loadfile "$@"; fi
exec "$bin/python" -m pytest -m "not reference" "$@"
