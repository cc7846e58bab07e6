# Public targets: demo train-demo test test-all lint bench bench-all chaos quality plots drawings hooks clean. Each sets up what it needs first.
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# With this variable set, each start of a program would compile TensorFlow's Python files again.
unexport PYTHONDONTWRITEBYTECODE
export MALLOC_MMAP_THRESHOLD_ ?= 67108864
export MALLOC_TRIM_THRESHOLD_ ?= 134217728
# The demo: requests a second, seconds, candidates a request.
RATE ?=
SECONDS_ := $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),30)
CANDIDATES ?= 300
TIMES ?=
GUARANTEE ?=
# The run that quality does, such as `world/dcn`; without a name, all runs that have no result yet.
PIECE ?=
# The scenario of bench or chaos (without a name, all), and the seconds of one measurement.
SCENARIO ?=
BENCH_SECONDS := $(if $(filter command line environment,$(origin SECONDS)),--seconds $(SECONDS))

.PHONY: help demo train-demo test test-all lint bench bench-all chaos quality plots drawings hooks clean setup

help:
	@echo "make demo   run the whole system on this machine and print what it did (RATE= SECONDS= CANDIDATES=)"
	@echo "make train-demo  from logs to a published model that scores: Spark, distributed training, gate"
	@echo "make test   the tests, on real Kafka, gRPC and TensorFlow"
	@echo "make test-all  all tests, also the slow ones"
	@echo "make lint   format, types, import contracts"
	@echo "make bench  throughput, latency, overload, version switch, cache, replicas, training input (SCENARIO= SECONDS=)"
	@echo "make bench-all  all benchmarks, also the long ones, such as distributed training (SECONDS=)"
	@echo "make chaos  fault injection: what each fault costs (SCENARIO= RATE= TIMES= GUARANTEE=)"
	@echo "make quality  trains the models and compares them; tables and pictures in docs/models.md (PIECE=)"
	@echo "make plots  draws the measurements of make bench"
	@echo "make drawings  draws the pictures of docs/ that follow from the code"
	@echo "make hooks  installs the hook that checks commit messages"
	@echo "make clean  remove what the other targets created"

setup: $(READY)

$(READY): requirements/dev.txt pyproject.toml
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

demo: $(READY)
	@$(BIN)/python -m sandbox.demo $(if $(RATE),--rate $(RATE)) --seconds $(SECONDS_) --candidates $(CANDIDATES)

train-demo: $(READY)
	@$(BIN)/python -m sandbox.train_demo

test: $(READY)
	@$(BIN)/python -m sandbox.broker --fetch-only
	$(BIN)/pytest -m "not slow"

test-all: $(READY)
	@$(BIN)/python -m sandbox.broker --fetch-only
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python -m benchmarks $(SCENARIO) $(BENCH_SECONDS)

bench-all: $(READY)
	$(BIN)/python -m benchmarks --all $(BENCH_SECONDS)

chaos: $(READY)
	$(BIN)/python -m benchmarks.chaos $(SCENARIO) $(if $(RATE),--rate $(RATE)) $(if $(TIMES),--times $(TIMES)) \
	    $(if $(GUARANTEE),--guarantee $(GUARANTEE))

quality: $(READY)
	$(BIN)/python -m benchmarks.quality $(PIECE)

plots: $(READY)
	$(BIN)/python -m benchmarks.plots

drawings: $(READY)
	@for script in docs/draw_*.py; do $(BIN)/python $$script || exit 1; done

hooks:
	@ln -sf "$(CURDIR)/.githooks/commit-msg" "$$(git rev-parse --git-path hooks)/commit-msg"

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
