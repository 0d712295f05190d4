#!/usr/bin/env bash
# Sets the environment up, then trains a packed LoRA and draws a sample grid.
#
#   bash scripts/train_pack.sh                                     emoji-8 on the small base model in data/base/emoji-sd
#                                                                  (without it: sample pack, tiny random-weight base)
#   bash scripts/train_pack.sh --pack FOLDER [--base FOLDER] …     any option of `jdiff train`
#   bash scripts/train_pack.sh --resume RUN                        go on with an interrupted run
#
# The last line on standard output is the run folder. JDIFF_PYTHON=python uses that interpreter as it is, without set-up.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [[ -n ${JDIFF_PYTHON:-} ]]; then
    python=$JDIFF_PYTHON
else
    bash "$root/scripts/setup.sh" >&2
    python=$root/.venv/bin/python
fi

default=$root/data/recipes/emoji.yaml
[[ -f $root/data/base/emoji-sd/model_index.json ]] || default=$root/data/recipes/sample.yaml
source=(--recipe "$default")
out=(--out "$root/outputs")
for word in "$@"; do
    case $word in
        --recipe | --recipe=* | --help | -h) source=() ;;
        --resume | --resume=*) source=() out=() ;;
    esac
done
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "$python" -m jdiff_style.cli train ${source[@]+"${source[@]}"} ${out[@]+"${out[@]}"} "$@"
