#!/bin/sh
# Train, resume, sample and evaluate on the oldest and newest Pythons with a supported TensorFlow:
#
#     sh benchmarks/smoke.sh             each in its own environment, under .smoke/
#
# If a Python is not installed, its version is printed, and the exit status is 1.
set -e
failed=
mkdir -p .smoke

# smoke VERSION ARGUMENTS...: the arguments are for pip install
smoke() {
    version=$1 venv=.smoke/$1 python=.smoke/$1/bin/python
    shift
    if [ ! -x "$python" ]; then
        (here=$PWD && cd / && PYENV_VERSION=$version "python$version" -m venv "$here/$venv") || {
            failed="$failed, Python $version is not here"
            return 0
        }
    fi
    # Python 3.6 comes with a pip that is too old; 21.3.1 is the last one for it.
    [ "$version" != 3.6 ] || "$python" -m pip install --quiet pip==21.3.1
    "$python" -m pip install --disable-pip-version-check --quiet "$@"
    name=$("$python" -c 'from backstage import tf; print("TensorFlow", tf.__version__)')
    rm -rf "$venv/temp"
    train="$python stacked_lstm_shakespeare.py --gutenberg_url=none --temp_dir=$venv/temp"
    MPLBACKEND=Agg $train --max_iterations=30 >"$venv/output" 2>"$venv/errors" &&
        MPLBACKEND=Agg $train --max_iterations=60 >>"$venv/output" 2>>"$venv/errors" &&
        "$python" -m tools.sample --temp_dir="$venv/temp" --prime_text=my >>"$venv/output" \
            2>>"$venv/errors" &&
        "$python" -m tools.evaluate --temp_dir="$venv/temp" >>"$venv/output" 2>>"$venv/errors" &&
        PYTHONIOENCODING=ascii MPLBACKEND=Agg $train --max_iterations=3 --clean_text=False \
            --prime_texts=€ --temp_dir="$venv/temp/ascii" >>"$venv/output" 2>>"$venv/errors" &&
        [ ! -s "$venv/errors" ] || {
        failed="$failed, $name on Python $version (see $venv/errors)"
        return 0
    }
    echo "Python $version, $name: $(sed -n 's/^Loss: //p' "$venv/output")"
}

# The packages of requirements.txt for Python 3.6, which TensorFlow's own images of 1.15 have
smoke 3.6 tensorflow-gpu==1.15 numpy==1.18.5 matplotlib==3.3.4 requests tqdm protobuf==3.19.6
smoke 3.7 --requirement requirements.txt
smoke 3.9 --requirement requirements-tf2.txt
smoke 3.11 tensorflow-cpu==2.15.1 matplotlib requests tqdm
smoke 3.13 --requirement requirements-tf2.txt

[ -z "$failed" ] || {
    echo "Failed: ${failed#, }" >&2
    exit 1
}
