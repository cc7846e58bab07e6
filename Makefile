# Public targets: demo train-demo test test-all compose-test lint bench bench-all chaos chaos-all quality plots drawings docs release native hooks clean. Each runs `setup` first if necessary.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages
# Without cargo another file, so that the compiled module is built as soon as there is a compiler.
READY := $(VENV)/.ready$(if $(shell command -v cargo 2>/dev/null),,-without-cargo)
NATIVE_SOURCES := $(wildcard native/src/*.rs) native/Cargo.toml native/Cargo.lock native/pyproject.toml
# With it, every start of a program compiles TensorFlow's sources again.
unexport PYTHONDONTWRITEBYTECODE
export MALLOC_MMAP_THRESHOLD_ ?= 67108864
export MALLOC_TRIM_THRESHOLD_ ?= 134217728
# Duration and rate of the demo's traffic, and candidates per request.
RATE ?=
SECONDS_ := $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),30)
CANDIDATES ?= 300
# Form of the candidates in the demo's requests: rows, columns, or id (their features are in a topic).
CANDIDATES_BY ?= rows
# Of the calls to the model server: grpc (default) or rest.
PROTOCOL ?=
TIMES ?=
GUARANTEE ?=
# MODEL_SERVER=PATH, here or in the environment: the program that serves the models in demos, tests and benchmarks. Default:
# tensorflow_model_server on the PATH, else the stand-in, which MODEL_SERVER=stand-in also selects.
# Part of compose-test; default: all of them.
PHASE ?=
# Names of runs of quality, such as `world/dcn`; default: all unfinished runs.
PIECE ?=
# Draws the diagrams of the site in the browser.
MERMAID := build/mermaid/package/dist/mermaid.min.js
# Names of scenarios of benchmarks or chaos (default: the essential ones, or all), and the duration of one measurement.
SCENARIO ?=
BENCH_SECONDS := $(if $(filter command line environment,$(origin SECONDS)),--seconds $(SECONDS))

.PHONY: help demo train-demo test test-all compose-test lint bench bench-all chaos chaos-all quality plots drawings docs release native hooks clean setup

help:
	@echo "make demo   run the whole system on this machine and print a report (RATE= SECONDS= CANDIDATES= CANDIDATES_BY= PROTOCOL=)"
	@echo "make train-demo  from logs to a published model that scores: Spark, distributed training, gate"
	@echo "make test   the tests, on real Kafka, gRPC and TensorFlow"
	@echo "make test-all  all tests, with the slow ones"
	@echo "make compose-test  build and run the containers of docker-compose.yml under podman, and check them (PHASE=file, ads or update)"
	@echo "make lint   formatting, types, forbidden imports"
	@echo "make bench  capacity on rows and columns, CPU by process, scoring p99, memory; the table of bounds (SCENARIO= SECONDS=)"
	@echo "make bench-all  the scenarios of the scorer, such as overload, switch of versions, sweeps, other frameworks; then the pictures (SECONDS=)"
	@echo "make chaos  inject faults, and count lost and duplicate answers (SCENARIO= RATE= TIMES= GUARANTEE=)"
	@echo "make chaos-all  all scenarios, with the long ones"
	@echo "make quality  train and evaluate the models; tables and pictures in docs/models.md (PIECE=)"
	@echo "make plots  pictures and tables of the figures of make bench, in docs/performance.md"
	@echo "make drawings  draw the pictures of docs/ that follow from the code"
	@echo "make docs   the pages as a site, in build/site; every link is checked"
	@echo "  all of them serve the models with MODEL_SERVER=/path/of/tensorflow_model_server if you set it"
	@echo "make release  wheels, sdists, list of components (SBOM), licences and checksums, in dist/"
	@echo "make native  compile the hot loops again, if you have cargo; the other targets do it after a change of native/"
	@echo "make hooks  install the hook that checks commit messages"
	@echo "make clean  remove the outputs of the other targets"

setup: $(READY)

$(PACKAGES): requirements/dev.txt pyproject.toml
	@echo "setting up $(VENV) (the first time this downloads about 1 GB and takes some minutes) ..."
	@if command -v uv >/dev/null 2>&1; then \
	    uv venv --quiet --allow-existing --python python3 $(VENV) && \
	    uv pip install --quiet --compile-bytecode --python $(BIN)/python --no-deps -r requirements/dev.txt && \
	    uv pip install --quiet --python $(BIN)/python --no-deps -e . ; \
	else \
	    python3 -m venv $(VENV) && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/dev.txt && \
	    $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e . ; \
	fi
	@touch $@

# A compiler that fails, for example without a network for the crates, stops nothing: `make native` shows its error.
$(READY): $(PACKAGES) $(NATIVE_SOURCES)
	@if ! command -v cargo >/dev/null 2>&1; then \
	    $(BIN)/uv pip uninstall --quiet --python $(BIN)/python ctr-streamer-native 2>/dev/null; \
	    echo "no Rust compiler (cargo): the scorer runs in pure Python"; \
	elif echo "compiling native/ (the first time about 20 s) ..." && ! $(BUILD_NATIVE) >$(VENV)/native.log 2>&1; then \
	    $(BIN)/uv pip uninstall --quiet --python $(BIN)/python ctr-streamer-native 2>/dev/null; \
	    echo "native/ cannot be compiled, see $(VENV)/native.log: the scorer runs in pure Python; make native tries again"; \
	fi
	@touch $@

# uv and maturin are those of requirements/dev.txt: only the crates of native/Cargo.lock are downloaded.
BUILD_NATIVE = PATH="$(abspath $(BIN)):$$PATH" uv pip install --python $(BIN)/python --reinstall --no-deps --no-build-isolation ./native

native: $(PACKAGES)
	$(BUILD_NATIVE)

demo: $(READY)
	@$(BIN)/python -m sandbox.demos.demo $(if $(RATE),--rate $(RATE)) --seconds $(SECONDS_) --candidates $(CANDIDATES) --candidates-by $(CANDIDATES_BY) $(if $(PROTOCOL),--protocol $(PROTOCOL))

train-demo: $(READY)
	@$(BIN)/python -m sandbox.demos.train_demo

test: $(READY)
	@$(BIN)/python -m sandbox.broker --fetch-only
	$(BIN)/pytest -m "not slow"
	-@$(BIN)/python -m benchmarks.guard

test-all: $(READY)
	@$(BIN)/python -m sandbox.broker --fetch-only
	$(BIN)/pytest

compose-test: $(READY)
	@$(BIN)/python -m sandbox.containers $(if $(PHASE),--phase $(PHASE))

CRATE := --manifest-path native/Cargo.toml
CARGO_FMT := cargo fmt $(CRATE) --check
CLIPPY := cargo clippy $(CRATE) --quiet --locked --all-targets -- -D warnings

# Rust's part needs cargo's components and the crates; without them it is left out.
lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if cargo fmt --version >/dev/null 2>&1; then echo "$(CARGO_FMT)"; $(CARGO_FMT); fi
	@if cargo clippy --version >/dev/null 2>&1 && cargo fetch --quiet --locked $(CRATE); then echo "$(CLIPPY)"; $(CLIPPY); fi

bench: $(READY)
	$(BIN)/python -m benchmarks $(SCENARIO) $(BENCH_SECONDS)

bench-all: $(READY)
	$(BIN)/python -m benchmarks --all $(BENCH_SECONDS)
	$(BIN)/python -m benchmarks.plots

CHAOS := $(if $(RATE),--rate $(RATE)) $(if $(TIMES),--times $(TIMES)) $(if $(GUARANTEE),--guarantee $(GUARANTEE))

chaos: $(READY)
	$(BIN)/python -m benchmarks.chaos $(SCENARIO) $(CHAOS)

chaos-all: $(READY)
	$(BIN)/python -m benchmarks.chaos --all $(CHAOS)

quality: $(READY)
	$(BIN)/python -m benchmarks.quality $(PIECE)

plots: $(READY)
	$(BIN)/python -m benchmarks.plots

drawings: $(READY)
	@for script in docs/scripts/draw_*.py; do $(BIN)/python $$script || exit 1; done

docs: $(READY) | $(MERMAID)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html"

# Without npm the pages show the text of their diagrams.
$(MERMAID):
	@mkdir -p build/mermaid
	@cd build/mermaid && { npm pack --silent mermaid@11.17.2 >name && tar xzf "$$(cat name)" package/dist/mermaid.min.js; } || \
	    echo "no npm: the diagrams stay text"

# The lists are those of an environment that has only the two wheels and the locked dependencies of the scorer. Needs cargo.
release: $(READY)
	rm -rf dist build/release
	$(BIN)/python -m build --installer uv --outdir dist .
	$(BIN)/maturin build --quiet --release --locked --sdist --interpreter $(BIN)/python --manifest-path native/Cargo.toml --out dist
	$(BIN)/uv venv --quiet --python $(BIN)/python build/release
	$(BIN)/uv pip install --quiet --python build/release/bin/python --no-deps -r requirements/scorer.txt dist/ctr_streamer-*.whl
	$(BIN)/uv pip install --quiet --python build/release/bin/python --no-deps --no-index --find-links dist ctr-streamer-native
	build/release/bin/streamer --version
	$(BIN)/cyclonedx-py environment --short-PURLs --output-reproducible --pyproject pyproject.toml -o dist/sbom.json build/release/bin/python
	$(BIN)/pip-licenses --python build/release/bin/python --format markdown --with-urls --output-file dist/licences.md
	cd dist && sha256sum *.whl *.tar.gz sbom.json licences.md > SHA256SUMS

hooks:
	@ln -sf "$(CURDIR)/.githooks/commit-msg" "$$(git rev-parse --git-path hooks)/commit-msg"

clean:
	rm -rf build dist native/target .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
