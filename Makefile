# Every task of the project. CI runs `make test` and nothing else. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := operator dataplane aicore
ROOTS := operator:dataplane:aicore:protos
export PYTHONPATH := $(ROOTS)
CARGO := cargo
NATIVE := dataplane/native
PYTHON_DIRS := operator/auralink_operator dataplane/auralink_dataplane aicore/auralink_aicore tests hack benchmarks

-include hack/cluster.mk hack/manifests.mk

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z][a-z0-9_-]*:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:.*## /\t/' | expand -t 22

# --- what a fresh machine needs ------------------------------------------------------------------------------
.PHONY: preflight deps
preflight: ## Say in one line what this machine lacks, and stop
	@hack/preflight.sh

deps: preflight $(VENV)/.installed $(VENV)/.native $(VENV)/.shim ## Install and build everything that tests need (no cluster)

$(VENV)/.installed: pyproject.toml constraints.txt
	@hack/apt.sh build
	@echo "==> Python packages" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[operator,dataplane,aicore,dev]'
	@touch $@

$(VENV)/.native: $(VENV)/.installed $(shell find $(NATIVE) -type f -not -path '*/target/*' 2>/dev/null)
	@hack/native-wheel.sh
	@$(BIN)/pip install --quiet --disable-pip-version-check --force-reinstall --no-deps build/wheels/auralink_native-*.whl
	@touch $@

$(VENV)/.shim: $(VENV)/.installed $(wildcard aicore/auralink_aicore/shim/*)
	@hack/apt.sh build
	@echo "==> codec bindings" >&2
	@$(BIN)/python -m auralink_aicore.shim.build
	@touch $@

# --- generated files -----------------------------------------------------------------------------------------
.PHONY: generate generate-check
PROTOC = $(BIN)/python -m grpc_tools.protoc -Iauralink_pb=protos/auralink --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc $(foreach kind,python grpc_python mypy mypy_grpc,--$(kind)_out=$(1)) \
	protos/auralink/aicore/v1/aicore.proto 2>/dev/null

generate: $(VENV)/.installed ## Write the gRPC package, the CRDs and the tables of docs/rooms.md anew
	@$(call PROTOC,protos)
	@$(BIN)/python -m auralink_operator.crdgen
	@$(BIN)/python -m hack.roomdoc

generate-check: $(VENV)/.installed
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; $(call PROTOC,"$$tmp"); \
	  diff -r -x __pycache__ -x __init__.py -x py.typed "$$tmp/auralink_pb" protos/auralink_pb || { echo "protos/auralink_pb is not what the .proto says: make generate"; exit 1; }
	@$(BIN)/python -m auralink_operator.crdgen --check
	@$(BIN)/python -m hack.roomdoc --check

# --- tests ---------------------------------------------------------------------------------------------------
.PHONY: test lint lint-python lint-rust lint-chart unit integration e2e
test: deps ## Everything: lint, unit, integration and end-to-end tests, from a fresh machine on
	@hack/timed.sh lint $(MAKE) lint
	@hack/timed.sh rust $(MAKE) test-rust
	@hack/timed.sh unit+integration $(MAKE) coverage
	@hack/timed.sh e2e $(MAKE) e2e

lint: lint-python lint-rust generate-check lint-chart ## All linters

lint-python: deps
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy $(wildcard $(PYTHON_DIRS))
	@$(BIN)/lint-imports
	@$(BIN)/python -m mypy.stubtest auralink_native --allowlist $(NATIVE)/stubtest-allowlist.txt

lint-rust:
	@cd $(NATIVE) && $(CARGO) fmt --check && $(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	@cd $(NATIVE) && $(CARGO) clippy --quiet --locked --all-targets -- -D warnings

lint-chart:
	@"$$(hack/tools.sh path helm)" lint --strict charts/auralink

.PHONY: test-rust soak fuzz coverage
test-rust: ## Tests of the packet core, with hundreds of calls over bad networks and the fuzz targets in short
	@cd $(NATIVE) && $(CARGO) test --quiet --locked --no-default-features

soak: deps ## Thousands of calls over bad networks (SOAK_RUNS per codec), and ten minutes of each for a decoder (SOAK_SECONDS)
	@cd $(NATIVE) && AURALINK_RUNS=$(or $(SOAK_RUNS),3000) \
	  $(CARGO) test --release --quiet --locked --no-default-features --test calls -- --nocapture
	@AURALINK_SOAK_SECONDS=$(or $(SOAK_SECONDS),600) $(BIN)/pytest -s tests/integration/test_dataplane_decode.py

fuzz: ## Seek input that breaks the packet core: FUZZ_SECONDS (600) for each of FUZZ_TARGETS (all)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) hack/fuzz.sh $(FUZZ_TARGETS)

.PHONY: livekit-server
livekit-server: # tests of rooms join a real one
	@hack/tools.sh build livekit

.PHONY: oracles
oracles: # who judges the packet core beside FFmpeg; tests that want one say so where it is missing
	@hack/apt.sh oracles || echo "==> tshark and GStreamer could not be installed; their tests are skipped, by name" >&2

.PHONY: services
services: # what the data plane talks to, for real; tests start their own
	@hack/apt.sh services || echo "==> Redis and PostgreSQL could not be installed; their tests are skipped, by name" >&2

unit: deps ## Unit tests (Python)
	@$(BIN)/pytest -n auto --dist loadfile tests/unit

integration: deps cluster-tools livekit-server oracles services ## Tests against real services: API server, AI Core, LiveKit, Redis, PostgreSQL, FFmpeg, GStreamer, Wireshark
	@$(BIN)/pytest tests/integration

# Unit tests a file at a time on each core; those against real services keep time, and have the machine to themselves.
coverage: deps cluster-tools livekit-server oracles services ## Unit and integration tests with the coverage gate
	@rm -f .coverage .coverage.*
	@$(BIN)/pytest -n auto --dist loadfile tests/unit --cov --cov-report=
	@$(BIN)/pytest tests/integration --durations 25 --cov --cov-append --cov-report=
	@$(BIN)/coverage combine --quiet 2>/dev/null || true
	@$(BIN)/coverage report

e2e: deps cluster images ## Promises to users, on the cluster
	@$(BIN)/pytest tests/e2e

# --- what users run ------------------------------------------------------------------------------------------
.PHONY: demo bench bench-media bench-aicore train
CODEC ?= H264
demo: deps ## The main job, shown and measured: a bridge recompresses a live stream (CODEC=VP8, VP9, H265, AV1)
	@$(BIN)/python -m hack.demo --codec $(CODEC) $(DEMO_ARGS)

bench: deps ## Measure the promised numbers and print the table
	@$(BIN)/python -m benchmarks

bench-media: deps ## Measure the packet core beside a bare relay, rtpengine and asyncio (needs no cluster)
	@hack/apt.sh bench-media || echo "==> rtpengine could not be installed; its row will say so" >&2
	@$(BIN)/python -m benchmarks.media $(BENCH_ARGS)

bench-aicore: deps ## Measure the AI Core: savings, quality, latency, codec by codec (AURALINK_CLIPS: with your clips)
	@$(BIN)/python -m benchmarks.aicore $(BENCH_ARGS)

train: deps ## Make the AI Core's model file anew, in build/train/, and say what it is worth (docs/model.md; hours)
	@$(BIN)/python -m hack.train $(TRAIN_ARGS)

.PHONY: clean
clean: ## Remove what was built here (not the caches, not the cluster)
	@rm -rf build $(VENV) $(NATIVE)/target .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find $(SOURCES) protos tests hack benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
