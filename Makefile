# make run: a virtual environment, and a server for every workflow in examples/
# make test: every check, in the same environment
# make check: the quick part of them
#
# Needs Python >= 3.11 and its pip; `make PYTHON=python3.12 run` chooses another interpreter.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
AUDIT := $(VENV)-audit
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
CHECKED := $(addprefix -p ,workflow_server $(wildcard tests examples benchmarks))
EXPORT := $(BIN)/uv export --quiet --format requirements-txt --no-emit-project --no-header \
	--no-annotate --no-default-groups

# The web UI is built where there is a Node.js 20 or newer; `make UI= run` does without it.
UI := $(shell node -p 'parseInt(process.versions.node) >= 20 ? "routers/ui_dist/index.html" : ""' 2>/dev/null)
UI_SOURCE := $(wildcard ui/*.json ui/*.ts ui/*.html) $(shell find ui/src -type f)

# The linters of the OpenAPI document are installed under the same condition.
LINTERS := $(if $(UI),build/openapi-rules/.installed)

SIDE_BY_SIDE := $(MAKE) --no-print-directory --jobs=4 \
	$(if $(filter output-sync,$(.FEATURES)),--output-sync)

.DELETE_ON_ERROR:
.PHONY: run test test-crashes test-more-crashes test-outside test-others check check-routes check-more-routes check-units linters newest-engine-test oldest-test wheel-test crash-test outage-test replicas-test fault-test fuzz soak audit sbom image-test ui screenshots bench lint format lock clean

run: $(VENV)/.runtime $(UI)
	$(BIN)/workflow-server serve examples --host 127.0.0.1 --port 8000

# Four parts that take about as long as one another, and wait more than they work.
test: lint $(UI)
	$(if $(UI),cd ui && npm test)
	$(SIDE_BY_SIDE) test-crashes test-more-crashes test-outside test-others

CRASHES := $(wildcard tests/durability/test_[a-p]*.py)

test-crashes: $(VENV)/.development
	$(BIN)/python -m pytest $(CRASHES)

test-more-crashes: $(VENV)/.development
	$(BIN)/python -m pytest tests/durability $(addprefix --ignore=,$(CRASHES))

# The service as it is met from outside: by programs, pages, clients, and whoever attacks it.
OUTSIDE := $(addprefix tests/,app clients differential hostile packaging ui users)

test-outside: $(VENV)/.development $(UI)
	$(BIN)/python -m pytest $(OUTSIDE)

test-others: $(VENV)/.development $(LINTERS)
	$(BIN)/python -m pytest $(addprefix --ignore=,tests/durability $(OUTSIDE))

# The quick part of `make test`: lint, types, units and routes, side by side on two cores, in less
# than three minutes. Each prints what it has to say when it has ended, where make can do so.
check: $(VENV)/.development
	$(SIDE_BY_SIDE) lint check-routes check-more-routes check-units

check-routes: $(VENV)/.development
	$(BIN)/python -m pytest -q $(wildcard tests/routers/test_[a-m]*.py)

check-more-routes: $(VENV)/.development
	$(BIN)/python -m pytest -q $(wildcard tests/routers/test_[n-z]*.py)

check-units: $(VENV)/.development
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/engine tests/runs tests/streams \
		tests/scheduling tests/handlers tests/telemetry

# The seam of the engine against its newest release, whatever the lock holds.
newest-engine-test: $(VENV)/.development
	rm -rf build/newest-engine
	$(PIP) install --no-deps --target build/newest-engine llama-index-workflows
	PYTHONPATH=build/newest-engine:. $(BIN)/python -m pytest -q tests/engine

# Units and routes with the oldest packages that pyproject.toml allows.
oldest-test: $(VENV)/.development
	$(BIN)/python -m tests.packaging.oldest build/oldest $(OLDEST_OPTIONS)

# The contract suite, against the installed wheel and in a folder with packages of its own that are
# called as those of this repository.
wheel-test: $(VENV)/.development $(UI)
	$(BIN)/python -m tests.packaging.contract build/wheel-test $(WHEEL_OPTIONS)

# Builds the image and runs it, with podman or docker; tests/image says what can be set.
image-test: $(VENV)/.development
	$(BIN)/python -m pytest tests/image

# Kills a server on SQLite, and then one on Postgres, again and again, for ten minutes each, and
# holds them to what their clients saw. `make crash-test CRASH_STORES=sqlite` needs no Postgres.
CRASH_STORES ?= sqlite postgres
crash-test: $(VENV)/.development
	$(foreach store,$(CRASH_STORES),$(BIN)/python -m tests.durability.crash --store $(store) $(CRASH_OPTIONS) &&) true

# Restarts and kills a Postgres of its own, and keeps it away, under a server that lives on.
outage-test: $(VENV)/.development
	$(BIN)/python -m tests.durability.crash --victim database $(CRASH_OPTIONS)

# Kills, stops, cuts off and replaces three servers on one Postgres behind nginx for ten minutes, and
# lets eight clients start one id at the same time, 500 times. REPLICAS_OPTIONS='--seconds 120'
replicas-test: $(VENV)/.development
	$(BIN)/python -m tests.replicas.crash $(REPLICAS_OPTIONS)
	SIMULTANEOUS_STARTS=500 $(BIN)/python -m pytest tests/replicas/test_servers.py -k many_starts

# Lets every operation of every store fail, hang and be slow, before and after it has taken place,
# once, three times and for good: 1,260 cases, two hours. FAULT_OPTIONS are pytest's.
fault-test: $(VENV)/.development
	EVERY_FAULT=1 $(BIN)/python -m pytest tests/durability/test_faulty_store.py $(FAULT_OPTIONS)

# Tries a million hostile inputs, found with the help of what they reach, some of them over HTTP.
fuzz: $(VENV)/.development
	$(BIN)/python -m tests.fuzz $(FUZZ_OPTIONS)

# Puts a server on SQLite, and then one on Postgres, under a day's mixed load for five minutes each:
# memory, files, threads, tasks and disk must come to a plateau.
SOAK_STORES ?= sqlite postgres
soak: $(VENV)/.development
	$(foreach store,$(SOAK_STORES),$(BIN)/python -m tests.soak --store $(store) $(SOAK_OPTIONS) &&) true

# Looks every locked package up among known vulnerabilities; says so where it cannot.
audit: $(AUDIT)/.installed
	$(AUDIT)/bin/python -m tests.supply.audit $(AUDIT)/bin/pip-audit

# Lists what is shipped, in the form of CycloneDX: dist/sbom-python.json and dist/sbom-ui.json.
sbom: $(AUDIT)/.installed
	mkdir -p dist
	$(AUDIT)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
		--validate --output-file dist/sbom-python.json requirements.lock
	$(if $(UI),cd ui && npm sbom --sbom-format cyclonedx --sbom-type application --omit dev --package-lock-only >../dist/sbom-ui.json)

ui: routers/ui_dist/index.html

# Installs spectral and redocly, which check the OpenAPI document, in a folder of their own.
linters: build/openapi-rules/.installed

# The pictures in docs/images, made by the tests of the web UI.
screenshots: $(VENV)/.development routers/ui_dist/index.html
	SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/ui/test_screenshots.py tests/ui/test_api_pages.py
	! command -v pngquant >/dev/null || pngquant --force --ext .png --skip-if-larger docs/images/*.png

# Our server, the published peer and the bare engine beside one another, on loopback; takes about
# 80 minutes. `make bench BENCH_OPTIONS=--quick` takes ten and tells less.
bench: $(VENV)/.runtime
	$(BIN)/python -m benchmarks $(BENCH_OPTIONS)

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
	$(EXPORT) --extra replicas --output-file requirements.lock >/dev/null
	$(EXPORT) --only-group build --output-file requirements-build.lock >/dev/null
	$(EXPORT) --only-group audit --output-file requirements-audit.lock >/dev/null
	$(EXPORT) --group dev --output-file requirements-dev.lock >/dev/null
	rm uv.lock

clean:
	rm -rf $(VENV) $(AUDIT) .editable build dist routers/ui_dist ui/node_modules .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# The stamps are older than what they were made from when a lock or pyproject.toml has changed.
$(VENV)/.runtime: requirements.lock requirements-build.lock pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r requirements.lock -r requirements-build.lock
	WORKFLOW_SERVER_BUILD_UI=no $(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

# Python compiles what is used of these packages when it is used first; all of them take it longer.
$(VENV)/.development: requirements-dev.lock $(VENV)/.runtime
	$(PIP) install --no-compile --require-hashes -r requirements-dev.lock
	touch $@

# Apart from the others, so that the tools do not choose the versions of what they look at.
$(AUDIT)/.installed: requirements-audit.lock
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r requirements-audit.lock
	touch $@

ui/node_modules/.installed: ui/package.json ui/package-lock.json ui/.npmrc
	cd ui && npm ci --ignore-scripts --no-audit --no-fund
	touch $@

routers/ui_dist/index.html: $(UI_SOURCE) ui/node_modules/.installed
	cd ui && npm run build

build/openapi-rules/.installed: $(addprefix tests/openapi-rules/,package.json package-lock.json .npmrc)
	mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund
	touch $@
