# make run: a virtual environment, and a server for every workflow in examples/
# make test: every check, in the same environment
#
# Needs Python >= 3.11 and its pip; `make PYTHON=python3.12 run` chooses another interpreter.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CHECKED := $(wildcard app routers schemas stores tests examples benchmarks)
EXPORT := $(BIN)/uv export --quiet --format requirements-txt --no-emit-project --no-header \
	--no-annotate --no-default-groups

.DELETE_ON_ERROR:
.PHONY: run test lint format lock clean

run: $(VENV)/.runtime
	$(BIN)/workflow-server serve examples --host 127.0.0.1 --port 8000

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Takes the newest versions that pyproject.toml allows.
lock: $(VENV)/.development
	$(EXPORT) --output-file requirements.lock >/dev/null
	$(EXPORT) --only-group build --output-file requirements-build.lock >/dev/null
	$(EXPORT) --group dev --output-file requirements-dev.lock >/dev/null
	rm uv.lock

clean:
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are older than what they were made from when a lock or pyproject.toml has changed.
$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.development: requirements-dev.lock $(VENV)/.runtime
	$(PIP) install --require-hashes -r requirements-dev.lock
	touch $@
