# Everything a person or a machine does with this repository. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
PEERS ?= .venv-peers
BIN = $(VENV)/bin
# Processes that share the tests: these mostly wait, for brokers, faults and deadlines.
WORKERS ?= 4
ARGS ?=

# Hundreds of processes of the tests import the same modules: each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test collect lint format docs bench corpus slow services constraints clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(VENV)/.ready: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("northbound needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(PEERS)/.ready: constraints-peers.txt
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints-peers.txt
	touch $@

services:
	@scripts/services

demo: $(VENV)/.ready  ## set everything up and run the main job: make demo ARGS="--duration 20"
	$(BIN)/northbound demo $(ARGS)

test:  ## set everything up and run all tests
	@$(MAKE) --no-print-directory -j3 services $(VENV)/.ready $(PEERS)/.ready
	@$(MAKE) --no-print-directory -j2 lint collect
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

collect: $(VENV)/.ready  # compiles the tests, once for all workers; what is wrong with them is told by the tests
	@-$(BIN)/python -m pytest --collect-only -qq -m "not slow" > /dev/null

lint: $(VENV)/.ready  ## style, types, import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/.ready  ## put the sources in form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.ready  ## write the generated reference anew
	$(BIN)/python scripts/reference.py

slow: $(VENV)/.ready $(PEERS)/.ready services  ## the long fault and soak runs, and new examples for every property
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -m "slow or hypothesis" --timeout 1800 $(ARGS)

corpus: $(VENV)/.ready  ## precision and recall of the privacy detectors, every miss listed
	$(BIN)/python -m tests.support.corpus $(ARGS)

bench: $(VENV)/.ready $(PEERS)/.ready services  ## measure the budgets beside the peers; writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks $(ARGS)

constraints: $(VENV)/.ready  ## pin the newest versions, with hashes and without addresses
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --upgrade --quiet --generate-hashes --universal --no-header --no-annotate -o constraints.txt
	$(BIN)/uv pip compile --group peers --upgrade --quiet --generate-hashes --universal --no-header --no-annotate -o constraints-peers.txt

clean:  ## remove what the other targets made
	rm -rf $(VENV) $(PEERS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
