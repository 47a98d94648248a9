# make reproduce   the whole study on embedded images: figures, tables, checked claims
# make test        the quick tests, in minutes;  make test-slow: the others
# make lint        format, types, import directions
# make docs        the documentation, in build/docs
# make dist        wheel and source distribution, checked
# make bench       what things cost here, some hours;  make clean: all but your runs
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests start hundreds of processes; where bytecode is not kept each of them compiles the package anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: reproduce test test-slow lint docs dist bench clean

reproduce: $(VENV)/made
	$(BIN)/gradscape reproduce

test: $(VENV)/made-dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m "not slow"

test-slow: $(VENV)/made-dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal -m slow

lint: $(VENV)/made-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/diagram.py --check
	$(BIN)/python tools/docstrings.py

docs: $(VENV)/made-docs
	$(BIN)/python tools/documentation/build.py

dist: $(VENV)/made-release
	$(BIN)/python tools/distribution.py

bench: $(VENV)/made-bench
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/growth.py
	$(BIN)/python benchmarks/precision_effect.py
	$(BIN)/python benchmarks/step_profile.py
	$(BIN)/python benchmarks/gradient_flow_cost.py
	$(BIN)/python benchmarks/packed.py
	$(BIN)/python benchmarks/quick_profile.py
	$(BIN)/python benchmarks/watch_cost.py
	$(BIN)/python benchmarks/verdicts.py --draw 3
	$(BIN)/python benchmarks/verdicts.py --draw 4
	$(BIN)/python benchmarks/verdict_ceiling.py --draws 3 4
	$(BIN)/python benchmarks/smoothness_cost.py
	$(BIN)/python benchmarks/compare.py
	$(BIN)/python benchmarks/intervals.py
	$(BIN)/python benchmarks/commands.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# constraints.txt pins every version; torch's pin takes the CPU build where one is at hand.
$(VENV)/made: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "gradscape needs Python 3.11 or newer; type: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/made-dev: $(VENV)/made
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/made-docs: $(VENV)/made
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

$(VENV)/made-release: $(VENV)/made
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[release]'
	touch $@

# What all checks need, at once: in turn, each installation looks at all versions anew.
$(VENV)/made-all: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev,docs,release]'
	touch $(VENV)/made
	touch $(VENV)/made-dev $(VENV)/made-docs $(VENV)/made-release $@

$(VENV)/made-bench: $(VENV)/made
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@
