#!/bin/sh
# Make the environment of the MONAI Deploy application: sh scripts/deploy/setup.sh VENV [PYTHON_OF_THE_TRAINING_VENV]
#
# PyTorch is 3 GB, so it is not installed twice: a .pth file lets the new environment see the training one (by default
# .venv of this folder). Where there is none, it is installed. The same command again repairs what is there.
set -eu
venv=${1:?"usage: sh scripts/deploy/setup.sh VENV [PYTHON_OF_THE_TRAINING_VENV]"}
here=$(cd "$(dirname "$0")" && pwd)
training=${2:-$here/../../.venv/bin/python}

rm -f "$venv/ready"
"$([ -x "$training" ] && echo "$training" || echo python3)" -m venv --clear "$venv" # the same Python, to share
python=$venv/bin/python
shared=
if [ -x "$training" ]; then
    shared=$("$training" -c 'import sysconfig, torch; print(sysconfig.get_path("purelib"))') || shared=
fi
if [ -z "$shared" ]; then
    echo "no training environment with PyTorch at $training, so PyTorch is installed: 3 GB"
    "$python" -m pip install --quiet -r "$here/runtime.txt"
fi
# monai and monai.deploy must lie in one site-packages: the training one's monai has no monai.deploy. With the .pth
# file there already pip would find that monai and not install it again, so the .pth comes last.
"$python" -m pip install --quiet --no-deps -r "$here/requirements.txt"
if [ -n "$shared" ]; then
    # sorts before the other .pth files: holoscan's own imports filelock when Python starts
    printf '%s\n' "$shared" >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/_shared.pth"
    echo "PyTorch is shared with $training"
fi
"$python" -c 'import torch, monai.deploy.core, monai.deploy.operators' >/dev/null 2>"$venv/setup.log" || {
    tail -n 1 "$venv/setup.log" >&2
    echo "error: the MONAI Deploy App SDK does not import in $venv; see $venv/setup.log" >&2
    exit 1
}
touch "$venv/ready"
echo "$venv is ready"
