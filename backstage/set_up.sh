#!/bin/sh
# Set up a folder with Python and TensorFlow, or say in a sentence why not.
#
#     sh backstage/set_up.sh .venv 1     with TensorFlow 1.15, on Python 3.7
#     sh backstage/set_up.sh .venv 2     with today's TensorFlow, on Python 3.9 to 3.13
#     sh backstage/set_up.sh .venv       with what the folder has; a new one with 1.15 where possible
#     sh backstage/set_up.sh .venv 2 horovod     with the newest 2.x that Horovod takes, up to 3.12
venv=$1 wanted=$2 target=${3:-train} python=$1/bin/python
newer='3.12 3.13 3.11 3.10 3.9'
[ "$target" != horovod ] || newer='3.12 3.11 3.10 3.9'
# In a terminal pip shows what it fetches, with a bar; a log does without.
quiet=--quiet
[ ! -t 1 ] || quiet=

fail() {
    echo "$*" >&2
    exit 1
}

# Run a Python of some version, as the system or pyenv has it. From the root folder, since here pyenv
# would take python3 for that of .python-version.
python_of() {
    version=$1
    shift
    (cd / && PYENV_VERSION=$version "python$version" "$@" 2>/dev/null)
}

# Make the folder with the first of some versions that is there, or else let uv fetch one.
make_venv() {
    for version; do
        # A shim of pyenv may be there and not work, and Debian's python3 may lack venv.
        python_of "$version" -c 'import ensurepip, venv' || continue
        echo "Making $venv with Python $version."
        python_of "$version" -m venv "$PWD/$venv" && return
    done
    echo "No Python $1 here; uv will fetch one, some tens of MB."
    # uv lives in a folder of its own and touches nothing else of the user's. (uv 0.7 and later fetch
    # no Python older than 3.8.)
    [ -x .uv/bin/uv ] || {
        (here=$PWD && cd / && python3 -m venv --clear "$here/.uv") &&
            .uv/bin/python -m pip install --disable-pip-version-check $quiet uv==0.6.17
    } || {
        echo "uv could not be installed: python3 needs its venv and pip (on Debian the package" \
            "python3-venv)." >&2
        return 1
    }
    UV_PYTHON_INSTALL_DIR=.uv/python .uv/bin/uv venv --quiet --seed --managed-python \
        --python "$1" "$venv" 2>.uv/errors || {
        echo "uv could not fetch Python $1 (why: .uv/errors)." >&2
        return 1
    }
}

make_newer() {
    make_venv $newer || fail 'Install Python 3.12 by other means, and run make again.'
}

if [ ! -e "$python" ]; then
    [ ! -L "$python" ] ||
        fail "$venv is of a Python that is not here. Remove it (rm -r $venv), and run make again."
    machine=$(uname -sm)
    case $wanted,$machine in
    '1,Linux x86_64')
        make_venv 3.7 || fail 'Install Python 3.7, with "pyenv install 3.7" or from conda, until' \
            '"python3.7 -V" answers, and run make again.'
        ;;
    1,*) fail "There is no TensorFlow 1.15 for $machine. TF=2 is there." ;;
    2,*) make_newer ;;
    ',Linux x86_64')
        make_venv 3.7 || {
            echo 'No Python 3.7 is to be had, so this will be TensorFlow 2 instead of 1.15.'
            make_newer
        }
        ;;
    ,*)
        echo "There is no TensorFlow 1.15 for $machine, so this will be TensorFlow 2."
        make_newer
        ;;
    *) fail "TF is $wanted, and has to be 1 or 2." ;;
    esac
fi

has=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $has in
3.7) tensorflow=1 requirements=requirements.txt size='450 MB to fetch, 1.6 GB on the disk' ;;
3.9 | 3.1[0-3])
    tensorflow=2 requirements=requirements-tf2.txt size='640 MB to fetch, 2.2 GB on the disk'
    # A folder for Horovod gets its 2.x, unless another is there, and keeps it whatever is made next.
    case $target,$(ls -d "$venv"/lib/python*/site-packages/tensorflow-2* 2>/dev/null) in
    horovod, | *,*/tensorflow-2.17.*) requirements=requirements-horovod-tf2.txt ;;
    esac
    ;;
*) fail "$venv is of Python $has, for which there is no TensorFlow. Remove it (rm -r $venv), and run" \
    'make again.' ;;
esac
[ "${wanted:-$tensorflow}" = $tensorflow ] ||
    fail "$venv is for TensorFlow $tensorflow. Remove it (rm -r $venv), or give another folder:" \
        "make $target TF=$wanted VENV=$venv-tf$wanted"

[ ! "$venv/installed" -nt $requirements ] || exit 0

pip() { "$python" -m pip --disable-pip-version-check $quiet "$@"; }
# pip before 20.3 does not know the packages of TensorFlow (and before 19.3 not those of 1.15).
"$python" -c 'import pip, sys; sys.exit(tuple(map(int, pip.__version__.split(".")[:2])) < (20, 3))' ||
    pip install pip==24.0 || fail "pip in $venv is too old, and could not be renewed."
echo "Installing TensorFlow $tensorflow and some 40 packages that it needs into $venv: $size," \
    'a minute or two.'
pip install --requirement $requirements
