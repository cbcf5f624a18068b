#!/bin/sh
# Make the environment of MONAI Label: sh scripts/label/setup.sh VENV [TRAINING_VENV]
# It needs Python 3.10 or 3.11, and packages of other versions than training does (pydicom 2), so it has a home of
# its own; PyTorch and MONAI are lent by the training environment, if that has such a Python.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:?usage: setup.sh VENV [TRAINING_VENV]}
training=${2:-$here/../../.venv}

suits() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null; }

lent=""
if suits "$training/bin/python" && "$training/bin/python" -c 'import monai, torch' 2>/dev/null; then
    python=$training/bin/python
    lent=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
else
    for python in python3.11 python3.10 python3 none; do
        suits "$python" && break
    done
    if [ "$python" = none ]; then
        echo "no Python 3.10 or 3.11 found, and MONAI Label 0.8.5 runs with no other; install one" >&2
        exit 1
    fi
fi

echo "setting up $venv for MONAI Label with $("$python" --version)"
rm -rf "$venv"
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --no-deps --requirement "$here/requirements.txt"
if [ -n "$lent" ]; then
    # last, for pip takes what it sees there for installed; what is in this environment itself comes first
    echo "$lent" > "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/_shared.pth"
else
    echo "no training environment in $training, so PyTorch and MONAI are installed too; this takes minutes"
    "$venv/bin/pip" install --quiet --no-warn-conflicts --requirement "$here/requirements-alone.txt"
fi
"$venv/bin/python" -c 'import monailabel, torch, monai, pydicom; assert pydicom.__version__.startswith("2.4."), pydicom'
touch "$venv/ready"
echo "$venv is ready"
