# make train   sets up .venv and trains the model
# make test    sets up .venv and runs the checks and the tests
# make benchmark-quick   measures the speed: two minutes; writes docs/benchmark-quick.md
# make benchmark         also trains the recipe to its end: an hour; writes docs/benchmark.md
# make torture kills a hundred runs at random moments and compares how they end: ten minutes
# make fuzz    tries ten thousand mutated texts and settings
# make mistakes          trains with each classic mistake: twenty minutes; writes docs/mistakes.md
# make bad-input         writes docs/bad-input.md, the table of what bad input gets
# make horovod installs what several workers need: some five minutes, with cmake and g++
# make workers tests them, two at a time
# make large-text        trains two workers on 10 GB of text
# make scaling           measures two workers: eight minutes; writes docs/scaling.md
# make witness OTHER=folder   compares with another checkout what is learned, bit for bit: five minutes
# make board   opens TensorBoard on all runs under temp/
# make lock    resolves requirements*.in to requirements*.txt

PYTHON := .venv/bin/python
UV := .uv/bin/uv

.PHONY: train test lint benchmark benchmark-quick torture fuzz bad-input mistakes horovod workers large-text \
    scaling witness board lock
.DELETE_ON_ERROR:

train: .venv/installed
	$(PYTHON) stacked_lstm_shakespeare.py $(ARGS)

test: lint
	$(PYTHON) -m pytest --numprocesses 2 --dist loadgroup

benchmark-quick: .venv/installed
	$(PYTHON) benchmarks/benchmark.py quick

benchmark: .venv/installed
	$(PYTHON) benchmarks/benchmark.py long

torture: .venv/installed-dev
	$(PYTHON) benchmarks/torture.py

fuzz: .venv/installed-dev
	FUZZ_EXAMPLES=6000 $(PYTHON) -m pytest tests/test_fuzz.py

mistakes: .venv/installed
	$(PYTHON) benchmarks/mistakes.py

bad-input: .venv/installed-dev
	PYTHONPATH=tests $(PYTHON) tests/test_bad_input.py

horovod: .venv/installed-horovod

workers: .venv/installed-horovod .venv/installed-dev
	$(PYTHON) -m pytest tests/workers.py

large-text: .venv/installed-horovod .venv/installed-dev
	$(PYTHON) benchmarks/large_text.py 10

scaling: .venv/installed-horovod
	$(PYTHON) benchmarks/scaling.py

witness: .venv/installed
	$(PYTHON) benchmarks/witness.py $(OTHER)

board: .venv/installed
	.venv/bin/tensorboard --logdir temp

lint: .venv/installed-dev
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

# A working python3.7 (a shim of pyenv may be there and not work), or else one that uv fetches.
.venv/bin/python:
	@if [ -L $@ ]; then \
	    echo '.venv is of a Python that is not here. Remove it (rm -r .venv), and run make' \
	        'again.' >&2; \
	    exit 1; \
	fi
	@if python3.7 -c 'import ensurepip, venv' 2>/dev/null; then \
	    python3.7 -m venv .venv; \
	else \
	    echo 'No Python 3.7 here; uv will fetch one.'; \
	    $(MAKE) --silent $(UV) || { \
	        echo 'uv could not be installed: python3 needs its venv and pip (on Debian the package' \
	            'python3-venv). Or install Python 3.7, and run make again.' >&2; \
	        exit 1; \
	    }; \
	    UV_PYTHON_INSTALL_DIR=.uv/python \
	        $(UV) venv --quiet --seed --managed-python --python 3.7 .venv 2>.uv/errors || { \
	        echo 'uv could not fetch Python 3.7 (why: .uv/errors). Install Python 3.7, with' \
	            '"pyenv install 3.7" or from conda, until "python3.7 -V" answers, and run make' \
	            'again.' >&2; \
	        exit 1; \
	    } \
	fi

.venv/installed: requirements.txt | .venv/bin/python
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 7))' || { \
	    echo '.venv is of another Python than 3.7. Remove it (rm -r .venv), and run make again.' >&2; \
	    exit 1; \
	}
	@echo 'Installing TensorFlow 1.15 and what it needs into .venv: about a minute.'
	@$(PYTHON) -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	@$(PYTHON) -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

# Horovod is built against the TensorFlow that is installed, and for TensorFlow alone.
.venv/installed-horovod: requirements-horovod.txt .venv/installed
	@for tool in cmake g++; do \
	    command -v $$tool >/dev/null || { \
	        echo "Horovod is built here, and needs $$tool. Install it, and run make again." >&2; \
	        exit 1; \
	    }; \
	done
	@echo 'Building Horovod and installing it into .venv: some five minutes.'
	@PATH='$(CURDIR)/.venv/bin':$$PATH HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 \
	    HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 \
	    $(PYTHON) -m pip install --disable-pip-version-check --quiet --no-build-isolation \
	    --requirement $<
	@touch $@

# uv lives in a folder of its own and touches nothing else of the user's. From the root folder,
# since here pyenv would take python3 for the 3.7 of .python-version, which is what is missing.
# uv 0.7 and later fetch no Python older than 3.8.
$(UV):
	@cd / && python3 -m venv --clear '$(CURDIR)/.uv'
	@.uv/bin/python -m pip install --disable-pip-version-check --quiet uv==0.6.17

# --universal adds what only Windows needs (colorama). The marks that say "for Python 3.7" are
# taken off again: with them, pip on a newer Python would install nothing and call it success.
lock: $(UV)
	@for name in requirements requirements-dev requirements-horovod; do \
	    $(UV) pip compile --quiet --upgrade --universal --python-version 3.7 --generate-hashes \
	        --custom-compile-command 'make lock' $$name.in --output-file $$name.txt && \
	    sed -i.old "s/ ; python_full_version < '3.8' and / ; /; s/ ; python_full_version < '3.8'//" \
	        $$name.txt && rm $$name.txt.old || exit 1; \
	done
