# hetuflow: `make help` lists the commands. Each creates .venv from the standard library's tools when it is missing.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
SEEDS  ?= 3000
FIRST  ?= 1
EXAMPLES ?= 300

.DEFAULT_GOAL := help
.PHONY: help demo dev test lint types bench simulate mutations faults docs fuzz-api clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*##[[:space:]]*(.*)/  make \1\t\2/' | expand -t 18

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "hetuflow needs Python 3.11 or later, and finds no '$(PYTHON)': install it, or run make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hetuflow needs Python 3.11 or later, and '$(PYTHON)' is older: run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "cannot create $(VENV): this Python lacks the venv module (on Debian: apt install python3-venv)" >&2; exit 2; }
	@echo "installing hetuflow and its tools into $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: $(STAMP)  ## everything on this machine in one minute: PostgreSQL, server, agent, three runs, a retry, a cancel
	@$(BIN)/python -m hetuflow.cli.demo

dev: $(STAMP)  ## embedded PostgreSQL, server and one agent until Ctrl-C
	@$(BIN)/hetuflow dev

test: $(STAMP)  ## all tests, on a real PostgreSQL that the suite starts
	@$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

lint: $(STAMP)  ## ruff, formatting, and the direction of imports between the packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(STAMP)  ## mypy, strict
	@$(BIN)/mypy

bench: $(STAMP)  ## one table of figures, each beside a baseline of the same run
	@$(BIN)/python -m tests.benchmarks $(ARGS)

simulate: $(STAMP)  ## the simulated cluster, a few thousand seeds; make simulate SEED=7 (one), SEEDS=200 FIRST=1 (a range)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST)) $(ARGS)

mutations: $(STAMP)  ## prove the judges of the simulation: each deliberate bug is caught
	@$(BIN)/python -m tests.simulation --mutations $(ARGS)

faults: $(STAMP)  ## break real processes: make faults, make faults ARGS="--only postgres-kill --rounds 5"
	@$(BIN)/python -m tests.faults $(ARGS)

fuzz-api: $(STAMP)  ## schemathesis for long against a server of its own: make fuzz-api EXAMPLES=1000 SEED=7
	@HETUFLOW_FUZZ_EXAMPLES=$(EXAMPLES) HETUFLOW_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -q --timeout 0 tests/acceptance/test_openapi_conformance.py $(ARGS)

docs: $(STAMP)  ## write the generated pages of docs/ anew
	@$(BIN)/python -m tests.support.reference

clean:  ## forget the virtual environment and caches
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
