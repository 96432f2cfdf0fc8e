# make train          sets up .venv and trains the model
# make demo           trains a model with capitals and line ends; writes docs/demo.html
# make board          opens TensorBoard on all runs under temp/
# make test           sets up .venv and runs the checks and the tests, all but the long ones
# make test-long      runs the long ones: each command of README, the mistakes, the benchmarks
# make horovod        installs what several workers need: some five minutes, with cmake and g++;
#                     for cards of today with TF=2 VENV=.venv-horovod
#
# TF=2 chooses today's TensorFlow, TF=1 that of 1.15; without it, 1.15 where it is available. Once
# .venv exists, all commands use what it has. ARGS=... are arguments of the program.
#
# For who changes it (CONTRIBUTING says when):
# make test-both      all tests with 1.15, with a 2.x, and the one with what the other made
# make lint           the checks alone
# make browser        tests the page of tools.page in Chromium, which has to be installed
# make workers        tests several workers, two at a time
# make workers-both   tests them with 1.15, with a 2.x, and that a run of the one goes on under the other
# make fuzz           tries ten thousand mutated texts and settings
# make bad-input      writes tests/bad-input.md, the table of what bad input gets
# make witness OTHER=folder   compares what another checkout learns, bit for bit: five minutes
# make peers          measures PyTorch and JAX beside the script; writes docs/peers-speed*.md
# make lock           resolves requirements*.in to requirements*.txt
# What else is measured is a program of benchmarks/; the first lines of each say how it is started.

# 1 or 2: which TensorFlow is wanted, if it matters
TF :=
VENV := .venv
PYTHON := $(VENV)/bin/python
# In a terminal pip shows what it fetches, with a bar; a log does without.
INSTALL := -m pip install --disable-pip-version-check $$([ -t 1 ] || echo --quiet)
PIP := $(PYTHON) $(INSTALL)

.PHONY: train demo board test test-long horovod test-both lint browser workers workers-both fuzz bad-input witness peers lock
.DELETE_ON_ERROR:

train: $(VENV)/installed
	$(PYTHON) stacked_lstm_shakespeare.py $(ARGS)

demo: $(VENV)/installed
	$(PYTHON) stacked_lstm_shakespeare.py --clean_text=False --epochs=3 --temp_dir=temp/demo --show_plot=False
	$(PYTHON) -m tools.page --temp_dir=temp/demo
	cp temp/demo/page.html docs/demo.html

board: $(VENV)/installed
	$(VENV)/bin/tensorboard --logdir temp --host localhost $(ARGS)

test: lint
	$(PYTHON) -m pytest --numprocesses 2 --dist loadgroup -m 'not long' $(ARGS)

test-long: $(VENV)/installed-dev
	$(PYTHON) -m pytest --numprocesses 2 --dist loadgroup -m long $(ARGS)

horovod: $(VENV)/installed-horovod

# --- For who changes it ---------------------------------------------------------------------------

# What the one has learned, saved and exported is good for the other, and all tests pass on both.
test-both:
	$(MAKE) test test-long TF=1 VENV=.venv
	$(MAKE) test test-long TF=2 VENV=.venv-tf2
	ONE=.venv/bin/python TWO=.venv-tf2/bin/python .venv/bin/python -m pytest tests/tensorflows.py

lint: $(VENV)/installed-dev
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

browser: $(VENV)/installed-dev
	@for tool in chromium chromedriver; do \
	    command -v $$tool >/dev/null || { \
	        echo "The page is tested in a browser, and needs $$tool. On Debian:" \
	            'apt-get install chromium chromium-driver' >&2; \
	        exit 1; \
	    }; \
	done
	$(PYTHON) -m pytest tests/browser.py

workers: $(VENV)/installed-horovod $(VENV)/installed-dev
	$(PYTHON) -m pytest tests/workers.py

workers-both:
	$(MAKE) workers TF=1 VENV=.venv
	$(MAKE) workers TF=2 VENV=.venv-horovod
	ONE=.venv/bin/python TWO=.venv-horovod/bin/python .venv/bin/python -m pytest tests/workers_both.py

fuzz: $(VENV)/installed-dev
	FUZZ_EXAMPLES=6000 $(PYTHON) -m pytest --numprocesses 2 --dist worksteal tests/test_fuzz.py

bad-input: $(VENV)/installed-dev
	PYTHONPATH=tests $(PYTHON) tests/test_bad_input.py

witness: $(VENV)/installed
	$(PYTHON) benchmarks/against.py $(OTHER) --bits

# PyTorch and JAX come into folders of their own: 6 GB, since this PyTorch does not start without the
# libraries of CUDA, of which nothing here makes use. .venv-tf2 has to be of Python 3.12 or later.
# ARGS=quick: the default shape alone, printed.
peers:
	@command -v g++ >/dev/null || { \
	    echo 'torch.compile needs g++. Install it, and run make again.' >&2; \
	    exit 1; \
	}
	@$(MAKE) --silent TF=1 VENV=.venv .venv/installed
	@$(MAKE) --silent TF=2 VENV=.venv-tf2 .venv-tf2/installed .venv-torch/installed .venv-jax/installed
	.venv/bin/python benchmarks/peers.py .venv .venv-tf2 .venv-torch .venv-jax $(ARGS)

.venv-%/installed: benchmarks/requirements-%.txt
	@echo 'Installing into .venv-$*: some minutes.'
	@.venv-tf2/bin/python -m venv .venv-$*
	@.venv-$*/bin/python $(INSTALL) --requirement $<
	@touch $@

# --- Setting up -----------------------------------------------------------------------------------

$(VENV)/installed: requirements.txt requirements-tf2.txt requirements-horovod-tf2.txt
	@sh backstage/set_up.sh $(VENV) '$(TF)' $(TARGET)
	@touch $@

# If one is asked for by name, make sure that it is there.
ifneq ($(TF),)
.PHONY: $(VENV)/installed
endif

$(VENV)/installed-dev: requirements-dev.txt requirements-dev-tf2.txt requirements-runtimes.txt $(VENV)/installed
	@echo 'Installing what tests and checks need into $(VENV): some 50 packages, half a minute.'
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then \
	    $(PIP) --requirement requirements-dev-tf2.txt && \
	    if ls $(VENV)/lib/python*/site-packages | grep -q '^tensorflow-2\.21\.'; then \
	        $(PIP) --requirement requirements-runtimes.txt; \
	    fi; \
	else \
	    $(PIP) --requirement requirements-dev.txt; \
	fi
	@touch $@

# Horovod is built against the TensorFlow that is installed, and for TensorFlow alone. (A wheel that pip
# has kept may be of another one.)
$(VENV)/installed-horovod: TARGET := horovod
$(VENV)/installed-horovod: requirements-horovod.txt $(VENV)/installed
	@ls $(VENV)/lib/python*/site-packages | grep -q '^tensorflow.*-\(1\.15\|2\.17\)\.' || { \
	    echo 'Horovod is built for TensorFlow 1.15 or 2.17, and $(VENV) has another. Remove it (rm -r' \
	        '$(VENV)), or give another folder: make horovod TF=2 VENV=$(VENV)-horovod' >&2; \
	    exit 1; \
	}
	@for tool in cmake g++; do \
	    command -v $$tool >/dev/null || { \
	        echo "Horovod is built here, and needs $$tool. Install it, and run make again." >&2; \
	        exit 1; \
	    }; \
	done
	@echo 'Building Horovod and installing it into $(VENV): some five minutes.'
	@PATH="$$PWD/$(VENV)/bin:$$PATH" HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 \
	    HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 \
	    CMAKE_POLICY_VERSION_MINIMUM=3.5 \
	    $(PIP) --no-build-isolation --no-cache-dir --requirement $<
	@touch $@

# --universal adds what only other systems need, such as colorama. The marks that say "for Python 3.7"
# are taken off again: with them, pip on a newer Python would install nothing and call it success.
LOCK := .uv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes \
    --custom-compile-command 'make lock'
lock: $(VENV)/installed
	@[ -x .uv/bin/uv ] || { $(PYTHON) -m venv .uv && .uv/bin/python -m pip install -q uv==0.6.17; }
	@for name in requirements requirements-dev; do \
	    $(LOCK) --python-version 3.7 $$name.in --output-file $$name.txt && \
	    sed -i.old "s/ ; python_full_version < '3.8' and / ; /; s/ ; python_full_version < '3.8'//" \
	        $$name.txt && rm $$name.txt.old || exit 1; \
	done
	@$(LOCK) --python-version 3.7 --no-config requirements-horovod.in \
	    --output-file requirements-horovod.txt
	@for name in requirements-tf2 requirements-dev-tf2 requirements-runtimes requirements-horovod-tf2; do \
	    $(LOCK) --python-version 3.9 --no-config $$name.in --output-file $$name.txt || exit 1; \
	done
