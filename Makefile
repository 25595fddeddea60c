# `make demo` and `make test` need Python (3.11 or later) and make; all the rest is put into .venv on the way.

PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin
# A process a processor, and each file in one: its fixtures and caches are shared. One that crashes ends the run.
PARALLEL := -p xdist -n auto --dist loadfile --max-worker-restart=0
TESTS := $(BIN)/python -m pytest -p hypothesispytest $(PARALLEL)
# Without bytecode: most of what is installed is never imported.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
EXTRAS_OF_DEV := bench demo docs notebooks test
NBMAKE := JUPYTER_PREFER_ENV_PATH=1 $(BIN)/python -m pytest -p nbmake --nbmake --nbmake-kernel=python3
IN_ONE_PROCESS := bench-quick types docs lint floors # the first takes as long as all the others together
MEASURING := notebooks/11_how_fast_and_why.ipynb
ASV := $(BIN)/asv
BASE ?= main
BENCHES ?= bench_(small|recording|sweeps|models|jitted)
ASV_RUN := $(ASV) run --config asv_benchmarks/asv.conf.json --python=same --show-stderr

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTEST_DISABLE_PLUGIN_AUTOLOAD := 1 # each process of the tests would import what notebooks are run by

ifndef BESIDE # what `check` runs two at a time, when all is installed
.NOTPARALLEL: # the targets share one environment, and a busy machine spoils benchmarks
endif
.DELETE_ON_ERROR:
.PHONY: help demo test check lint types stubs floors notebooks docs parity operators numpy-table test-boundscheck \
	test-boundscheck-quick test-distributed test-modes test-nojit test-memory test-memory-quick \
	test-small test-small-quick test-thorough bench-quick bench bench-compare bench-html compare compare-jitted \
	compare-distributed clean

help: # this list
	@sed -n 's/^\([a-z-]*\):.*# \(.*\)/\1\t\2/p' Makefile | expand -t 24

demo: .venv/demo.stamp # train a network on handwritten digits
	$(BIN)/python -m tapegrad demo

test: .venv/test.stamp # run the tests, on all processors
	$(TESTS) -m 'not thorough'

test-thorough: .venv/test.stamp # further cases of what they test, which take long to compile
	$(TESTS) -m thorough tests

check: .venv/dev.stamp test test-modes notebooks # all that must pass before a merge
	$(MAKE) BESIDE=yes --jobs=2 --no-print-directory --output-sync $(IN_ONE_PROCESS)

lint: .venv/dev.stamp # style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/dev.stamp # types, strictly
	$(BIN)/mypy

stubs: .venv/test.stamp # write what type checkers and editors read, from the op table
	$(BIN)/python -m tapegrad.cli.stubs

floors: .venv/dev.stamp # imports point down only
	$(BIN)/lint-imports

notebooks: .venv/notebooks.stamp # run the notebooks, in the environment's own kernel; one that compares times, by itself
	$(NBMAKE) $(PARALLEL) --ignore=$(MEASURING) notebooks
	$(NBMAKE) $(MEASURING)

docs: .venv/docs.stamp # draw and build the pages, strictly: docs/build/site/index.html
	$(BIN)/python docs/drawing.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet --config-file docs/mkdocs.yml

parity: .venv/torch.stamp # run the tests that compare with PyTorch
	$(TESTS) tests/parity tests/test_tutorials.py

operators: .venv/torch.stamp # PyTorch's own table of operators: writes tests/parity/OPERATORS.md
	$(BIN)/python -m tests.parity.operator_table

numpy-table: .venv/test.stamp # NumPy's functions on tensors: writes tests/NUMPY.md
	$(BIN)/python -m tests.numpy_table

test-distributed: .venv/test.stamp .venv/distributed.stamp .venv/mpi.stamp # sums over partitions: Dask, joblib, two ranks of MPI
	$(INSTALL) mpich
	$(BIN)/python -m pytest tests/test_distributed.py

test-modes: test-nojit test-boundscheck-quick test-memory-quick test-small-quick # the tests in debug modes, in short

test-boundscheck: .venv/test.stamp # the tests, with every index in compiled code checked
	NUMBA_BOUNDSCHECK=1 $(TESTS) --ignore=tests/parity

test-boundscheck-quick: .venv/test.stamp # those of them that sweep: loops of single operations have no indices to check
	NUMBA_BOUNDSCHECK=1 $(TESTS) tests/test_regions.py tests/test_scalars.py

test-nojit: .venv/test.stamp # the tests marked nojit, with kernels run by Python itself
	NUMBA_DISABLE_JIT=1 $(TESTS) -m nojit $$(grep -l mark.nojit tests/*.py)

test-memory: .venv/test.stamp # the tests, with memory that kernels are given filled and guarded
	TAPEGRAD_DEBUG=memory $(TESTS) --ignore=tests/parity

test-memory-quick: .venv/test.stamp # those of them that lay out operands, and sweep regions, in all ways
	TAPEGRAD_DEBUG=memory $(TESTS) -m 'not thorough' \
		$(addprefix tests/test_,$(addsuffix .py,guards layouts linalg regions scalars))

test-small: .venv/test.stamp # the tests, on tapes that grow and reclaim at every chance
	TAPEGRAD_DEBUG=small $(TESTS) -m 'not roomy'

test-small-quick: .venv/test.stamp # some of them
	TAPEGRAD_DEBUG=small $(TESTS) -m 'not roomy and not thorough' tests/test_regions.py tests/test_func_tensors.py \
		tests/test_storage.py tests/test_loops.py tests/test_errors.py

bench-quick: .venv/bench.stamp # every benchmark once: shows that it runs, not how fast
	$(ASV) machine --yes --config asv_benchmarks/asv.conf.json >/dev/null
	TAPEGRAD_BENCH=quick $(ASV_RUN) --quick --launch-method=forkserver # which imports once

bench: .venv/bench.stamp .venv/torch.stamp # every benchmark, measured, results kept under the current commit
	$(ASV) machine --yes --config asv_benchmarks/asv.conf.json >/dev/null
	$(ASV_RUN) --set-commit-hash $$(git rev-parse HEAD)

bench-compare: .venv/bench.stamp # this commit beside another (BASE=main): what became over 10 % slower or faster
	$(ASV) machine --yes --config asv_benchmarks/asv.conf.json >/dev/null
	$(ASV) continuous --config asv_benchmarks/asv.conf.json --factor 1.1 --split --interleave-rounds \
		--bench '$(BENCHES)' $(BASE) HEAD

bench-html: .venv/bench.stamp # what was measured so far: asv_benchmarks/html/overview.html, and asv's pages, shown by `asv preview`
	$(ASV) publish --config asv_benchmarks/asv.conf.json
	$(BIN)/python asv_benchmarks/overview.py

compare: .venv/peers.stamp .venv/torch.stamp .venv/casadi.stamp # beside PyTorch, JAX, HIPS autograd and CasADi: writes the tables in README.md
	$(BIN)/python asv_benchmarks/compare.py --write README.md

compare-jitted: .venv/peers.stamp .venv/torch.stamp # gradients of jitted functions, likewise: their page's table, and a short one
	$(BIN)/python asv_benchmarks/compare_jitted.py --whole docs/pages/jitted-speed.md --short README.md

compare-distributed: .venv/bench.stamp .venv/distributed.stamp # sums over partitions in two processes: writes their page's table
	$(BIN)/python asv_benchmarks/compare_distributed.py --write docs/pages/how-to/clusters.md

clean: # remove what make has made
	rm -rf .venv build dist docs/build .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf asv_benchmarks/env asv_benchmarks/html asv_benchmarks/results tapegrad-demo.png

# A stamp says that .venv holds what pyproject.toml asks for: .venv/test.stamp for the extra `test`, and so on. `dev` holds
# the others' too.

.venv/python.stamp:
	$(PYTHON) -m venv --clear .venv
	touch $@

.venv/casadi.stamp: .venv/peers.stamp # in no extra: a new Python waits long for it
	$(INSTALL) 'casadi>=3.6'
	touch $@

.venv/torch.stamp: .venv/test.stamp
	$(INSTALL) '$(TORCH)' expecttest # its own table of operators imports this
	touch $@

.venv/%.stamp: pyproject.toml | .venv/python.stamp
	$(INSTALL) --editable '.[$*]'
	touch $@ $(if $(filter dev,$*),$(EXTRAS_OF_DEV:%=.venv/%.stamp))
