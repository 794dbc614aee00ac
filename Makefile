# One entry for everything: `make` alone lists what there is. Settings are given as NAME=value after the target.
PYTHON ?= python3
PRESET ?= quick
SEED ?= 42
SEEDS ?= $(SEED)
DATASET ?=
RUN ?=
FORCE ?=
STUDIES ?=
SET ?=
ONLY ?=

BIN := $(CURDIR)/.venv/bin
STAMP := .venv/.installed
export PATH := $(BIN):$(PATH)

# the data lies beside the checkout on some machines; what is set already is left alone
ifeq ($(origin FMNIST_CLUSTER_DATA),undefined)
ifneq ($(wildcard ../shared/data),)
export FMNIST_CLUSTER_DATA := $(abspath ../shared/data)
endif
endif

.DEFAULT_GOAL := help
.PHONY: help install run studies sweep bench test test-package test-project test-all test-lowest export clean readme docs reference lab lock hooks

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP)  ## .venv with every version of requirements.lock and this checkout (the other targets do it themselves)

$(STAMP): requirements.lock settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	    { echo "$$($(PYTHON) --version 2>&1) is here; Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing requirements.lock into .venv (once; several GB with PyTorch's CUDA libraries)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null || echo "uv cannot be had; pip does it, more slowly"
	@if test -x $(BIN)/uv; then installer="$(BIN)/uv pip install --compile-bytecode --quiet --python $(BIN)/python"; \
	    else installer="$(BIN)/python -m pip install --quiet --disable-pip-version-check"; fi; \
	    $$installer --require-hashes -r requirements.lock && $$installer --no-deps --no-build-isolation -e .
	@touch $@

run: $(STAMP)  ## the book from data to report; PRESET=quick, full or gpu; SEED=42 or SEEDS=42,1,2; DATASET= RUN= FORCE=1 SET="06_dec_idec.gamma=0.2"
	@$(BIN)/python -m fmnist_cluster run --preset "$(PRESET)" --seeds "$(SEEDS)" --dataset "$(DATASET)" --run "$(RUN)" $(if $(FORCE),--force) $(foreach change,$(SET),--set '$(change)')

studies: $(STAMP)  ## what is no part of the book's main line; STUDIES="20_classical_grid ..." picks some; PRESET= SEEDS= DATASET= RUN= as for run
	@$(BIN)/python -m fmnist_cluster run --studies $(STUDIES) --preset "$(PRESET)" --seeds "$(SEEDS)" --dataset "$(DATASET)" --run "$(RUN)" $(if $(FORCE),--force)

sweep: $(STAMP)  ## many runs from a table: SWEEP=params/sweep.csv, a line a run; `.venv/bin/fmnist-cluster` does more
	@$(BIN)/fmnist-cluster sweep "$(or $(SWEEP),params/sweep.csv)" $(if $(FORCE),--force)

bench: $(STAMP)  ## our steps against what a reader would take instead, into results/benchmarks/; ONLY=word picks some
	@$(BIN)/python benchmarks/bench.py --only "$(ONLY)"

test: $(STAMP)  ## both suites: test-package and test-project; ARGS="-k name" picks some
	@$(BIN)/python -m pytest -m "not long" $(ARGS)

test-package: $(STAMP)  ## the package: estimators, bad input, damaged files, determinism, types; for every change of its code
	@$(BIN)/python -m pytest -m "not long" tests/package $(ARGS)

test-project: $(STAMP)  ## the rest: every notebook, the book on digits, runs, site, README, packaging, the reference run
	@$(BIN)/python -m pytest -m "not long" tests/project $(ARGS)

test-all: $(STAMP)  ## test, and what takes long
	@$(BIN)/python -m pytest $(ARGS)

test-lowest: $(STAMP)  ## the package's tests with the lowest versions that settings.ini admits, in .venv-lowest (several GB more)
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python .venv-lowest
	@$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --require-hashes -r requirements-lowest.lock
	@PYTHONPATH="$(CURDIR)" .venv-lowest/bin/python -m pytest -m "not long" \
	    $(addprefix tests/package/test_,$(addsuffix .py,estimators classes generated_input faults api determinism damage)) \
	    tests/project/test_notebooks.py $(ARGS)

export: $(STAMP)  ## write fmnist_cluster/ from the notebooks
	@$(BIN)/nbdev_export

clean: $(STAMP)  ## take from the notebooks what must not be committed
	@$(BIN)/nbdev_clean

readme: $(STAMP)  ## README.md, README.ko.md and llms.txt from nbs/index.ipynb
	@$(BIN)/python tools/build_readme.py

docs: $(STAMP)  ## the site into _docs/ (by Quarto where it is installed)
	@$(BIN)/python tools/build_docs.py

reference: $(STAMP)  ## the run whose outputs stand in the notebooks: PRESET full, seed 42, resumable; SEEDS=42,1,2 for more seeds
	@$(BIN)/python tools/reference.py --seeds "$(SEEDS)" --dataset "$(or $(DATASET),fashion_mnist)" --run "$(or $(RUN),reference)"

lab: $(STAMP)  ## JupyterLab on the notebooks
	@$(BIN)/jupyter lab nbs

lock: $(STAMP)  ## requirements.lock from settings.ini, pins kept where they fit; UPGRADE=1 takes the newest; and requirements-lowest.lock
	@$(BIN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --quiet \
	    --no-emit-index-url --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) -o requirements.lock
	@{ sed -n 's/^\(classical_\)\?requirements = //p' settings.ini | tr ' ' '\n'; \
	    grep -oE '^(nbdev|fastcore|execnb|ghapi|fastgit|pytest|hypothesis|papermill|snakemake|coverage)==[^ ]+' requirements.lock; } | \
	    $(BIN)/uv pip compile - --resolution lowest-direct --universal --python-version 3.11 --generate-hashes --quiet \
	    --no-emit-index-url --custom-compile-command "make lock" --upgrade -o requirements-lowest.lock

hooks: $(STAMP)  ## git hooks that keep notebooks clean, code formatted and merges readable
	@mkdir -p .git/hooks && $(BIN)/nbdev_install_hooks && cp tools/pre-commit .git/hooks/
