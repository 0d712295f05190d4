#!/usr/bin/env bash
# On a machine with an NVIDIA card: build from an empty cache, check every case against PyTorch on the same card, and time
# both, in at most ten minutes. Ends with an error where a case is wrong, and at once where there is no card.
#
#   bash benchmarks/gpu.sh [OUT]      OUT (default outputs/gpu): logs, numbers, table.md and table.json
#
# JDIFF_PYTHON      interpreter with the torch of patches/ and, unless CUDA is installed, requirements-cuda.txt (.venv)
# REFERENCE_PYTHON  interpreter with PyTorch built for CUDA and the libraries of requirements-reference.txt (.venv-reference)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fail() { echo "gpu.sh: $*" >&2; exit 1; }
case ${1:-} in -h | --help) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;; esac

out=$(realpath -m "${1:-$root/outputs/gpu}")
ours=${JDIFF_PYTHON:-$root/.venv/bin/python}
theirs=${REFERENCE_PYTHON:-$root/.venv-reference/bin/python}
export JTORCH_CUDA=1
[ -x "$ours" ] || fail "$ours is missing: bash scripts/setup.sh makes it, or set JDIFF_PYTHON"
[ -x "$theirs" ] || fail "$theirs is missing: bash scripts/setup.sh --reference makes it, or set REFERENCE_PYTHON"
decision=$("$ours" -c 'from jtorch import cuda; d = cuda.decide(); print(("yes " if d.usable else "no ") + d.reason)') ||
    fail "$ours has no torch of this project (bash scripts/setup.sh)"
[ "${decision%% *}" = yes ] || fail "CUDA is not usable here: ${decision#no }"
"$theirs" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null ||
    fail "the PyTorch of $theirs sees no card: set REFERENCE_PYTHON to one that is built for CUDA"

mkdir -p "$out"
rm -rf "$out/jittor" "$out/pytorch" "$out/home"
began=$SECONDS
left() { echo $((590 - SECONDS + began)); }
echo "Jittor: ${decision#yes }"
export JITTOR_HOME=$out/home  # an empty cache
echo "building Jittor's core (log: $out/build.log)"
timeout "$(left)" "$ours" -c 'from jtorch.startup import warm_up; warm_up()' > "$out/build.log" 2>&1 ||
    fail "Jittor does not start with CUDA; the last line of $out/build.log is: $(tail -n 1 "$out/build.log")"
echo "built after $((SECONDS - began)) s; running PyTorch"
timeout 150 "$theirs" "$root/benchmarks/gpu.py" run "$out/pytorch" --seconds 100 > "$out/pytorch.log" 2>&1 || true
[ -f "$out/pytorch/times.json" ] || fail "PyTorch ran no case; the last line of its log is: $(tail -n 1 "$out/pytorch.log")"
echo "running Jittor (log: $out/jittor.log)"
timeout "$(left)" "$ours" "$root/benchmarks/gpu.py" run "$out/jittor" --seconds "$(($(left) - 30))" > "$out/jittor.log" 2>&1 || true
[ -f "$out/jittor/times.json" ] || fail "Jittor ran no case; the last line of its log is: $(tail -n 1 "$out/jittor.log")"
"$ours" "$root/benchmarks/gpu.py" compare "$out/jittor" "$out/pytorch" --json "$out/table.json" | tee "$out/table.md"
