# make train          set up .venv and train the model
# make demo           train a model with capitals and line ends; write docs/demo.html
# make board          open TensorBoard on all runs under temp/
# make help           print these lines
# make test           set up .venv; run the checks and all but the long tests
# make test-long      run the long tests: each command in README, the mistakes, the benchmarks
# make horovod        install what several workers need: about five minutes, with cmake and g++;
#                     for recent GPUs, add TF=2 VENV=.venv-horovod
#
# TF=2 selects the current TensorFlow, TF=1 selects 1.15; the default is 1.15 if available. Once
# .venv exists, all commands use its TensorFlow. ARGS=... passes arguments to the program.
#
# For developers (see CONTRIBUTING):
# make test-both      run all tests with 1.15 and 2.x; check that each can use runs of the other
# make lint           run only the checks
# make browser        test the page of tools.page in Chromium, which must be installed
# make workers        run the tests of several workers, two at a time
# make workers-both   the same with 1.15 and 2.x; check that each resumes a run of the other
# make fuzz           try ten thousand mutated texts and settings
# make bad-input      write tests/bad-input.md, the table of error messages
# make witness OTHER=folder   compare training with another checkout bit by bit: five minutes
# make peers          measure PyTorch and JAX against the script: measurements/peers-speed*.md
# make lock           resolve requirements*.in to requirements*.txt
# The other measurements are programs in benchmarks/; the first lines of each say how to run it.

# 1 or 2 selects a TensorFlow; empty: any
TF :=
VENV := .venv
PYTHON := $(VENV)/bin/python
# In a terminal, pip shows its progress; a log needs none.
INSTALL := -m pip install --disable-pip-version-check $$([ -t 1 ] || echo --quiet)
PIP := $(PYTHON) $(INSTALL)

.PHONY: train help demo board test test-long horovod test-both lint browser workers workers-both fuzz bad-input witness peers lock
.DELETE_ON_ERROR:

train: $(VENV)/installed
	$(PYTHON) stacked_lstm_shakespeare.py $(ARGS)

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

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

# --- For developers -------------------------------------------------------------------------------

# All tests pass on both, and each can use the runs and exports of the other.
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
	        echo "The browser tests need $$tool. On Debian:" \
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

# PyTorch and JAX get their own folders of 6 GB in all: this PyTorch does not start without the CUDA
# libraries, even on a CPU. .venv-tf2 must have Python 3.12 or later. ARGS=quick prints only the
# default shape.
peers:
	@command -v g++ >/dev/null || { \
	    echo 'torch.compile needs g++. Install it, then run make again.' >&2; \
	    exit 1; \
	}
	@$(MAKE) --silent TF=1 VENV=.venv .venv/installed
	@$(MAKE) --silent TF=2 VENV=.venv-tf2 .venv-tf2/installed .venv-torch/installed .venv-jax/installed
	.venv/bin/python benchmarks/peers.py .venv .venv-tf2 .venv-torch .venv-jax $(ARGS)

.venv-%/installed: benchmarks/requirements-%.txt
	@echo 'Installing into .venv-$*: a few minutes.'
	@.venv-tf2/bin/python -m venv .venv-$*
	@.venv-$*/bin/python $(INSTALL) --requirement $<
	@touch $@

# --- Setting up -----------------------------------------------------------------------------------

$(VENV)/installed: requirements.txt requirements-tf2.txt requirements-horovod-tf2.txt
	@sh backstage/set_up.sh $(VENV) '$(TF)' $(TARGET)
	@touch $@

# With TF=1 or TF=2, always check which one .venv has.
ifneq ($(TF),)
.PHONY: $(VENV)/installed
endif

$(VENV)/installed-dev: requirements-dev.txt requirements-dev-tf2.txt requirements-runtimes.txt $(VENV)/installed
	@echo 'Installing about 50 packages for tests and checks into $(VENV): half a minute.'
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 9))'; then \
	    $(PIP) --requirement requirements-dev-tf2.txt && \
	    if ls $(VENV)/lib/python*/site-packages | grep -q '^tensorflow-2\.21\.'; then \
	        $(PIP) --requirement requirements-runtimes.txt; \
	    fi; \
	else \
	    $(PIP) --requirement requirements-dev.txt; \
	fi
	@touch $@

# Horovod is built against the installed TensorFlow, without support for other libraries. (A wheel
# in pip's cache may be for another TensorFlow.)
$(VENV)/installed-horovod: TARGET := horovod
$(VENV)/installed-horovod: requirements-horovod.txt $(VENV)/installed
	@ls $(VENV)/lib/python*/site-packages | grep -q '^tensorflow.*-\(1\.15\|2\.17\)\.' || { \
	    echo 'Horovod needs TensorFlow 1.15 or 2.17, but $(VENV) has another. Remove it (rm -r' \
	        '$(VENV)), or use another folder: make horovod TF=2 VENV=$(VENV)-horovod' >&2; \
	    exit 1; \
	}
	@for tool in cmake g++; do \
	    command -v $$tool >/dev/null || { \
	        echo "Building Horovod needs $$tool. Install it, then run make again." >&2; \
	        exit 1; \
	    }; \
	done
	@echo 'Building Horovod and installing it into $(VENV): about five minutes.'
	@PATH="$$PWD/$(VENV)/bin:$$PATH" HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 \
	    HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITHOUT_MPI=1 HOROVOD_WITH_GLOO=1 \
	    CMAKE_POLICY_VERSION_MINIMUM=3.5 \
	    $(PIP) --no-build-isolation --no-cache-dir --requirement $<
	@touch $@

# --universal adds packages that only other systems need, such as colorama. The markers for
# Python 3.7 are removed: with them, pip on a newer Python would install nothing and report success.
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
