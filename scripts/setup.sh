#!/usr/bin/env bash
# Make the environment that everything else runs in. Safe to run again, from anywhere, and twice at once.
#
#   bash scripts/setup.sh              .venv: Jittor and the libraries, Jittor's core compiled (a few minutes, once)
#   bash scripts/setup.sh --reference  .venv-reference: the same libraries on PyTorch, for comparison
#
# PYTHON=/path/to/python3.11 picks the interpreter. With nothing to do it takes a second and prints nothing.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fail() { echo "setup.sh: $*" >&2; exit 1; }

kind=main
for argument in "$@"; do
    case $argument in
        --reference) kind=reference ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
        *) fail "unknown argument $argument: only --reference is known" ;;
    esac
done

if [ "$kind" = main ]; then
    venv=$root/.venv
    files=(constraints.txt requirements.txt requirements-dev.txt patches/pyproject.toml pyproject.toml)
    needed_mb=1600
else
    venv=$root/.venv-reference
    files=(requirements-reference.txt requirements-dev.txt tests/reference/requirements-scorers.txt pyproject.toml)
    needed_mb=2500
fi
name=${venv##*/}
stamp=$venv/.setup-stamp
log=$root/.setup-$kind.log

# --- what must be on the machine --------------------------------------------------------------------------------------
find_python() {
    local candidate path
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python; do
        path=$(command -v "$candidate" 2>/dev/null) || continue
        # The interpreter itself: neither a version manager's launcher, whose answer depends on the folder one is in, nor
        # the environment that happens to be active.
        path=$("$path" -c 'import sys; print(sys._base_executable if sys.version_info[:2] == (3, 11) else "")' 2>/dev/null) || continue
        if [ -n "$path" ]; then echo "$path"; return 0; fi
    done
    return 0
}

check_machine() {
    local include free home
    python=$(find_python)
    [ -n "$python" ] || fail "Python 3.11 is needed (the pinned libraries and Jittor are tested with no other) and" \
        "${PYTHON:-python3.11} is not it: install python3.11 and python3.11-venv, or set PYTHON=/path/to/python3.11."
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$python has no venv module: install it (Debian, Ubuntu: apt-get install python3.11-venv)."
    if [ "$kind" = main ]; then
        command -v "${cc_path:-g++}" >/dev/null ||
            fail "${cc_path:-g++} is not there and Jittor compiles C++ while it runs: install g++ (Debian, Ubuntu: apt-get install g++)."
        include=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
        [ -f "$include/Python.h" ] ||
            fail "Jittor compiles against Python's headers and $include/Python.h is missing: install it (Debian, Ubuntu: apt-get install python3.11-dev)."
        home=${JITTOR_HOME:-$HOME}
        { mkdir -p "$home/.cache/jittor" && [ -w "$home/.cache/jittor" ]; } 2>/dev/null ||
            fail "$home/.cache/jittor cannot be written, where Jittor keeps compiled code: make it writable or set JITTOR_HOME to a folder that is."
    fi
    [ -w "$root" ] || fail "$root cannot be written: make it writable."
    free=$(df -Pm "$root" | awk 'NR == 2 { print $4 }')
    [ -f "$stamp" ] || [ -d "$venv/lib" ] || [ "$free" -ge "$needed_mb" ] ||
        fail "$name needs $needed_mb MB in $root and $free MB are free: free some space."
}

# --- the state of the environment -------------------------------------------------------------------------------------
wanted() {
    (cd "$root" && { echo "layout 1"; echo "$python"; echo "$root"; for file in "${files[@]}"; do echo "$file"; cat "$file"; done; }) | sha256sum | cut -d' ' -f1
}

works() { [ -x "$venv/bin/python" ] && "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

pip() { "$venv/bin/python" -m pip --disable-pip-version-check --no-input "$@" >>"$log" 2>&1; }

# pip's last step is to rewrite RECORD with its own files in it, INSTALLER among them. A package without that line was
# being installed when an earlier run was killed. Taking its metadata away makes pip install it again; names that begin
# with ~ are what pip moved aside.
repair() {
    local packages folder
    for packages in "$venv"/lib/python3.11/site-packages; do
        for folder in "$packages"/*.dist-info; do
            if [ -d "$folder" ] && ! grep -qs '/INSTALLER,' "$folder/RECORD"; then rm -rf "$folder"; fi
        done
        rm -rf "$packages"/~*
    done
}

install() {
    rm -f "$stamp"
    : >"$log"
    if ! works; then
        rm -rf "$venv"
        "$python" -m venv "$venv" >>"$log" 2>&1 || explain "making $name"
    fi
    repair
    say "Installing Python packages into $name (about a minute)"
    cd "$root"
    pip install setuptools==80.9.0 wheel==0.45.1 || explain "installing setuptools"
    # Without build isolation pip need not fetch setuptools anew for each of Jittor and our own packages.
    if [ "$kind" = main ]; then
        pip install --no-build-isolation -c constraints.txt -e ./patches || explain "installing ./patches"
        # ./patches is in place, as an editable install: do not let the line in requirements.txt replace it by a copy.
        grep -v '^\./patches' requirements.txt >"$venv/requirements.txt"
        cp constraints.txt "$venv/constraints.txt"
        pip install --no-build-isolation -r "$venv/requirements.txt" -r requirements-dev.txt || explain "installing requirements.txt"
    else
        pip install -r requirements-reference.txt -r requirements-dev.txt || explain "installing requirements-reference.txt"
        rm -rf "$venv/scorers"
        pip install --no-deps --target "$venv/scorers" -r tests/reference/requirements-scorers.txt ||
            explain "installing tests/reference/requirements-scorers.txt"
    fi
    pip install --no-build-isolation --no-deps -e . || explain "installing the project itself"
    local torch
    torch=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("torch"))' 2>>"$log") || torch=none
    case $kind:$torch in
        main:2.2.2+jittor | reference:2.13.0*) ;;
        *) fail "$name has torch $torch, which is not what belongs there: delete $venv and run this again." ;;
    esac
    wanted >"$stamp.new"
    mv "$stamp.new" "$stamp"
    say "Installed in $SECONDS s"
}

say() { echo "$*" >&2; }

explain() {
    if grep -q 'No space left on device' "$log"; then fail "the disk of $root is full ($1): free some space and run this again."; fi
    local reason
    reason=$(grep -E '^(ERROR|error|Error)' "$log" | head -n 1 || true)
    fail "$1 failed (${reason:-see the log}); the whole output is in $log."
}

# --- do it ------------------------------------------------------------------------------------------------------------
main() {
    check_machine
    exec 9>"$root/.setup.lock"
    "$python" - <<'PYTHON' || fail "another setup.sh could not be waited for."
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Waiting for another setup.sh", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
PYTHON
    if ! { works && [ "$(cat "$stamp" 2>/dev/null)" = "$(wanted)" ]; }; then install; fi
    if [ "$kind" = main ]; then
        "$venv/bin/python" -c '
import sys
try:
    from jtorch.startup import warm_up
    warm_up()
except ImportError as error:
    sys.exit(f"setup.sh: {error}.")'
    fi
}

main
