# `make demo` and `make test` set everything up on a bare machine: Python 3.11 or newer with venv is all they need.

PYTHON ?= python3
VENV ?= .venv
OUT ?= demo
BIN := $(VENV)/bin
# xdist workers, each with one thread
JOBS ?= 2

.PHONY: demo test test-lowest test-newest check bench torture setup constraints audit sbom clean

# For work on m2clip itself: with linters, type checker and the references of the parity tests.
setup: $(VENV)/.dev

# Both are made anew whenever the dependencies change; the package itself is installed editable.
$(VENV)/.train: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[train]'
	touch $@

# Exactly the files whose hashes constraints/ci.txt holds, what builds the package included.
$(VENV)/.dev: pyproject.toml constraints/ci.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement constraints/ci.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/.train
	$(BIN)/m2clip demo --out $(OUT)

test: setup check
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# The tests with the lowest releases that pyproject.toml allows, and with the newest that there are, without the linters. Each
# in an environment of its own; with other Pythons as in make test-newest PYTHON=python3.13. See docs/compatibility.md.
test-lowest: $(VENV)-lowest/.installed
	$(VENV)-lowest/bin/python -m pytest -n $(JOBS) --dist worksteal

test-newest:
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager --editable '.[dev]'
	$(VENV)-newest/bin/python -m pytest -n $(JOBS) --dist worksteal

$(VENV)-lowest/.installed: pyproject.toml constraints/lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement constraints/lowest.txt
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What docs/performance.md tells, measured on this machine; it should have nothing else to do.
bench: setup
	$(BIN)/python benchmarks/bench.py run

# What docs/reliability.md tells: kills, broken files, many processes; fails where anything was lost.
torture: setup
	$(BIN)/python benchmarks/torture.py

# New versions for constraints/ci.txt, within the bounds of pyproject.toml, for every system and Python that m2clip runs on, and the
# lowest that pyproject.toml allows, for Python 3.11 on Linux. Needs uv (pip install uv) and a package index. UPGRADE= keeps what
# still fits.
UPGRADE ?= --upgrade
constraints:
	echo 'setuptools>=77' | uv pip compile pyproject.toml - --extra dev --universal --python-version 3.11 $(UPGRADE) --quiet \
		--generate-hashes --no-header --no-annotate --output-file constraints/ci.txt
	echo 'setuptools>=77' | uv pip compile pyproject.toml - --extra dev --resolution lowest-direct --python-version 3.11 \
		--python-platform linux --quiet --no-header --no-annotate --upgrade --output-file constraints/lowest.txt

# Asks a database of known vulnerabilities about all that constraints/ci.txt pins; fails with Error 3 where none can be reached.
audit: setup
	$(BIN)/python constraints/audit.py

# What m2clip is built from and tested with, in CycloneDX, for a release: the same commit gives the same bytes.
sbom: setup
	mkdir -p dist
	PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type library --output-reproducible \
		--output-format JSON --output-file dist/m2clip.cdx.json constraints/ci.txt

clean:
	rm -rf $(VENV) $(VENV)-lowest $(VENV)-newest build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
