#!/bin/sh
# Set up a folder with Python and TensorFlow, or print why that fails.
#
#     sh backstage/set_up.sh .venv 1     TensorFlow 1.15, on Python 3.7
#     sh backstage/set_up.sh .venv 2     current TensorFlow, on Python 3.9 to 3.13
#     sh backstage/set_up.sh .venv       what the folder has; a new one gets 1.15 if possible
#     sh backstage/set_up.sh .venv 2 horovod     the newest 2.x that Horovod supports
venv=$1 wanted=$2 target=${3:-train} python=$1/bin/python
newer='3.12 3.13 3.11 3.10 3.9'
[ "$target" != horovod ] || newer='3.12 3.11 3.10 3.9'
# In a terminal, pip shows its progress; a log needs none.
quiet=--quiet
[ ! -t 1 ] || quiet=

fail() {
    echo "$*" >&2
    exit 1
}

# Run Python of a given version, from the system or pyenv. This runs in the root folder: here, pyenv
# would use the version in .python-version.
python_of() {
    version=$1
    shift
    (cd / && PYENV_VERSION=$version "python$version" "$@" 2>/dev/null)
}

# Make the folder with the first of several Python versions that is available, or one from uv.
make_venv() {
    for version; do
        # A pyenv shim may exist but not work, and Debian's python3 may lack venv.
        python_of "$version" -c 'import ensurepip, venv' || continue
        echo "Making $venv with Python $version."
        python_of "$version" -m venv "$PWD/$venv" && return
    done
    echo "Python $1 is not installed; uv will download it (some tens of MB)."
    # uv uses its own folder and changes nothing else. (uv 0.7 and later do not provide Python 3.7.)
    [ -x .uv/bin/uv ] || {
        (here=$PWD && cd / && python3 -m venv --clear "$here/.uv") &&
            .uv/bin/python -m pip install --disable-pip-version-check $quiet uv==0.6.17
    } || {
        echo "uv could not be installed: python3 needs venv and pip (on Debian, the package" \
            "python3-venv)." >&2
        return 1
    }
    UV_PYTHON_INSTALL_DIR=.uv/python .uv/bin/uv venv --quiet --seed --managed-python \
        --python "$1" "$venv" 2>.uv/errors || {
        echo "uv could not download Python $1. See .uv/errors." >&2
        return 1
    }
}

make_newer() {
    make_venv $newer || fail 'Install Python 3.12 yourself, then run make again.'
}

if [ ! -e "$python" ]; then
    [ ! -L "$python" ] ||
        fail "$venv uses a Python that is gone. Remove it (rm -r $venv), then run make again."
    machine=$(uname -sm)
    case $wanted,$machine in
    '1,Linux x86_64')
        make_venv 3.7 || fail 'Install Python 3.7 with "pyenv install 3.7" or conda so that' \
            '"python3.7 -V" works, then run make again.'
        ;;
    1,*) fail "There is no TensorFlow 1.15 for $machine. Use TF=2." ;;
    2,*) make_newer ;;
    ',Linux x86_64')
        make_venv 3.7 || {
            echo 'Python 3.7 is not available, so TensorFlow 2 will be installed instead of 1.15.'
            make_newer
        }
        ;;
    ,*)
        echo "There is no TensorFlow 1.15 for $machine, so TensorFlow 2 will be installed."
        make_newer
        ;;
    *) fail "TF must be 1 or 2, got $wanted." ;;
    esac
fi

has=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $has in
3.7) tensorflow=1 requirements=requirements.txt size='450 MB to download, 1.6 GB on disk' ;;
3.9 | 3.1[0-3])
    tensorflow=2 requirements=requirements-tf2.txt size='640 MB to download, 2.2 GB on disk'
    # A new folder for Horovod gets the 2.x that it supports, and keeps it in later calls.
    case $target,$(ls -d "$venv"/lib/python*/site-packages/tensorflow-2* 2>/dev/null) in
    horovod, | *,*/tensorflow-2.17.*) requirements=requirements-horovod-tf2.txt ;;
    esac
    ;;
*) fail "$venv has Python $has, for which there is no TensorFlow. Remove it (rm -r $venv), then" \
    'run make again.' ;;
esac
[ "${wanted:-$tensorflow}" = $tensorflow ] ||
    fail "$venv is for TensorFlow $tensorflow. Remove it (rm -r $venv), or use another folder:" \
        "make $target TF=$wanted VENV=$venv-tf$wanted"

[ ! "$venv/installed" -nt $requirements ] || exit 0

pip() { "$python" -m pip --disable-pip-version-check $quiet "$@"; }
# pip before 20.3 cannot install the packages of TensorFlow 2.x; before 19.3, not those of 1.15.
"$python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (20, 3))' ||
    pip install pip==24.0 || fail "pip in $venv is too old and could not be upgraded."
echo "Installing TensorFlow $tensorflow and about 40 packages that it needs into $venv: $size," \
    'a minute or two.'
pip install --requirement $requirements
