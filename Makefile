# `make demo` and `make test` set everything up on a bare machine: Python 3.11 or newer with venv is all they need.

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin
# xdist workers, each with one thread
JOBS ?= 2

.PHONY: demo test check bench torture setup clean

# For work on m2clip itself: with linters, type checker and the references of the parity tests.
setup: $(VENV)/.dev

# Both are made anew whenever the dependencies change; the package itself is installed editable.
$(VENV)/.train $(VENV)/.dev: $(VENV)/.%: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	touch $@

demo: $(VENV)/.train
	$(BIN)/m2clip demo --out $(OUT)

test: setup check
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What docs/performance.md tells, measured on this machine; it should have nothing else to do.
bench: setup
	$(BIN)/python benchmarks/bench.py run

# What docs/reliability.md tells: kills, broken files, many processes; exit code 1 where anything was lost.
torture: setup
	$(BIN)/python benchmarks/torture.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
