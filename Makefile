# Headwater's front door. `make help` explains itself from the ## texts below.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export TZ := UTC
export PYSPARK_PYTHON := $(CURDIR)/.venv/bin/python

PYTHON ?= python3.11
VENV := .venv/bin
# Stamps carry a digest of the list they were made from: a changed list is a new stamp.
REQUIREMENTS := $(shell sha256sum requirements.txt | cut -c1-16)
REQUIREMENTS_BENCH := $(shell sha256sum requirements-bench.txt | cut -c1-16)
REQUIREMENTS_NOTEBOOKS := $(shell sha256sum requirements-notebooks.txt | cut -c1-16)
POM := $(shell sha256sum pom.xml | cut -c1-16)
INSTALLED := .venv/.requirements-$(REQUIREMENTS)
INSTALLED_BENCH := .venv/.requirements-bench-$(REQUIREMENTS_BENCH)
INSTALLED_NOTEBOOKS := .venv/.requirements-notebooks-$(REQUIREMENTS_NOTEBOOKS)
JARS := jars/.pom-$(POM)

.PHONY: help setup tools servers up down status logs demo prove test browser promtool with-tls test-faults compiler with-stack archive test-fast check bench notebook clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: servers ## Install all that is needed: .venv, jars/, the local servers (quick when done)

up: setup ## Start Kafka, PostgreSQL, Redis, Elasticsearch and the registry on 127.0.0.1
	@$(VENV)/python -m local up

down: ## Stop them; data is kept
	@if [ -x $(VENV)/python ]; then $(VENV)/python -m local down; fi

status: ## Show which servers run (exit code 1 unless all do)
	@$(VENV)/python -m local status

logs: ## Show the servers' logs: make logs [NAME=kafka] [FOLLOW=1]
	@$(VENV)/python -m local logs $(NAME) $(if $(FOLLOW),--follow)

demo: setup ## Run the whole way once: events in, tables and sinks out
	@$(VENV)/python -m local demo

# In a stack of its own: other ports, .local/prove. Whole, five minutes of faults take about nine.
prove: archive ## Kill all servers and jobs at random, lose nothing: make prove [MINUTES=5] [SEED=n] [RATE=n]
	@$(VENV)/python -m local prove $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(RATE),--rate $(RATE))

# Two files at a time, but those that share the Spark session of the run one after the other. In the order of
# their names: what takes seconds comes last.
test: TESTS = -n 2 --dist loadfile --no-loadscope-reorder
test: browser promtool with-tls archive $(INSTALLED_NOTEBOOKS) with-stack ## Run all tests on real servers (starts the stack, and stops it if it was down before)

# Two files at a time: much of it is waiting for outages to pass. The longest first (their conftest.py).
test-faults: TESTS = tests/integration/faults -n 2 --dist loadfile --no-loadscope-reorder
test-faults: compiler archive with-stack ## Run the tests that kill, cut off and rebuild; minutes each

browser:
	@command -v chromium >/dev/null || { echo "test: missing; install with: apt-get install chromium" >&2; exit 2; }

# It checks the alert rules, and runs their tests.
promtool:
	@command -v promtool >/dev/null || { echo "test: missing; install with: apt-get install prometheus" >&2; exit 2; }

# The wheel's PostgreSQL has no TLS; Debian's is started by its tests, for them alone.
with-tls:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || \
	  { echo "test: missing; install with: apt-get install postgresql" >&2; exit 2; }

compiler:
	@command -v gcc >/dev/null || { echo "test-faults: missing; install with: apt-get install gcc" >&2; exit 2; }

with-stack: setup
	@if $(VENV)/python -m local status >/dev/null 2>&1; then was=up; else was=down; fi; code=0; \
	  { $(VENV)/python -m local up && $(VENV)/python -m pytest $(TESTS); } || code=$$?; \
	  if [ $$was = down ]; then $(VENV)/python -m local down; fi; exit $$code

archive: setup ## Archive the classes that a job loads: each start takes some seconds less
	@$(VENV)/python -m local archive

test-fast: promtool setup ## Run the unit tests only
	@$(VENV)/python -m pytest tests/unit

check: $(INSTALLED) ## Lint, formatting, types and import rules
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy
	$(VENV)/lint-imports

bench: setup $(INSTALLED_BENCH) ## Race against peers: make bench [RACES="bronze api"] [ROWS=n] [ROUNDS=n] [OUT=folder]
	@$(VENV)/python -m tests.perf.bench $(RACES) $(if $(ROWS),--rows $(ROWS)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(OUT),--out $(OUT))

# Notebooks import what a checkout has; they read HEADWATER_LAKE, or the local lake. Jupyter refuses root unasked.
notebook: setup $(INSTALLED_NOTEBOOKS) ## Open JupyterLab on the notebooks, which read the lake
	@PYTHONPATH=$(CURDIR) $(VENV)/jupyter-lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

clean: down ## Stop the stack; remove .venv, jars and .local (data, lake and secrets, too)
	@if [ -x $(VENV)/python ]; then $(VENV)/python -m local uninstall; fi
	@for folder in .venv jars .local; do \
	  if [ -e $$folder ]; then echo "removing $$folder" >&2; rm -rf $$folder; fi; done

# --- what setup is made of -------------------------------------------------------------------

servers: $(INSTALLED) $(JARS)
	@$(VENV)/python -m local install

$(INSTALLED): | tools
	@$(VENV)/python -c 'import pip' 2>/dev/null || { rm -rf .venv; $(PYTHON) -m venv .venv; }
	@echo "setup: Python packages into .venv" >&2
	@$(VENV)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.txt
	@rm -f .venv/.requirements-*; touch $@

$(INSTALLED_BENCH): $(INSTALLED)
	@echo "bench: the peers' Python packages into .venv" >&2
	@$(VENV)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@rm -f .venv/.requirements-bench-*; touch $@

$(INSTALLED_NOTEBOOKS): $(INSTALLED)
	@echo "notebooks: JupyterLab and nbmake into .venv" >&2
	@$(VENV)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-notebooks.txt
	@rm -f .venv/.requirements-notebooks-*; touch $@

$(JARS): | tools
	@echo "setup: Spark's jars into jars/" >&2
	@rm -rf .local/jars.new
	@mvn -q -B -Dstyle.color=never -P spark dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.local/jars.new
	@touch .local/jars.new/$(@F); rm -rf jars; mv .local/jars.new jars

# Says everything that is missing at once, with the Debian package that has it.
tools:
	@missing=""; \
	command -v $(PYTHON) >/dev/null || missing="$$missing python3.11"; \
	if command -v $(PYTHON) >/dev/null; then \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "setup: $(PYTHON) is not Python 3.11" >&2; exit 2; }; \
	  $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3.11-venv"; fi; \
	command -v mvn >/dev/null || missing="$$missing maven"; \
	command -v git >/dev/null || missing="$$missing git"; \
	java -version >/dev/null 2>&1 || missing="$$missing openjdk-17-jre-headless"; \
	if [ -n "$$missing" ]; then echo "setup: missing; install with: apt-get install$$missing" >&2; exit 2; fi; \
	major=$$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1); \
	if [ "$${major:-0}" -lt 17 ]; then \
	  echo "setup: java is version $${major:-unknown}, 17 or newer is needed: apt-get install openjdk-17-jre-headless" >&2; exit 2; fi
