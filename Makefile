# `make demo` and `make test` set everything up on a bare machine: Python 3.11 or newer with venv is all they need.

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin
# xdist workers, each with one thread
JOBS ?= 2

.PHONY: demo test check setup clean

setup: $(VENV)/.ready

# The environment is made anew whenever the dependencies change. Installing the package itself is editable and cheap.
$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/m2clip demo --out $(OUT)

test: setup check
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
