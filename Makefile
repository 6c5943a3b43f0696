# Turnstile's commands. `make` alone prints them.
# Each target does its own set-up; a machine with Python 3.11+, make and git is enough.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test quick up down clean check bench chaos fmt schemas lock

PYTHON := .venv/bin/python
SYNCED := .venv/.synced
# Prints how long a command took, and passes its exit code on.
TIMED = timed() { began=$$(date +%s); name=$$1; shift; "$$@"; code=$$?; \
	echo "$$name: $$([ $$code = 0 ] && echo done || echo FAILED) after $$(($$(date +%s) - began)) s"; \
	return $$code; }; timed

# A user without a home to write in (a container's `--user`) keeps caches in the project.
ifeq ($(XDG_CACHE_HOME),)
ifneq ($(shell test -w "$$HOME" && echo yes),yes)
export XDG_CACHE_HOME := $(CURDIR)/.cache
endif
endif

help: ## print this list
	@echo "Turnstile: make <target>"
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-12s%s\n", $$1, $$2}'
	@echo "Ports and addresses are set by TURNSTILE_* variables: docs/operations.md"

setup: $(SYNCED) ## get uv (if missing), all packages and Kafka's jars; once

$(SYNCED): pyproject.toml uv.lock infra/kafka/jars.lock
	@uv=$$(sh infra/local/uv.sh) && python=$$(sh infra/local/python.sh) \
		&& echo "setup: installing the locked packages with $$uv" \
		&& UV_PYTHON_DOWNLOADS=never "$$uv" sync --locked --compile-bytecode --python "$$python" \
		&& $(PYTHON) -m compileall -q shared services infra turnstile
	@$(PYTHON) -m infra.local fetch || echo "setup: going on without Kafka's jars" >&2
	@touch $@

# For targets that touch a running stack: packages are not exchanged under its feet.
$(PYTHON):
	@$(MAKE) --no-print-directory setup

demo: setup ## start a stack of its own, play the demo's turns, show replies, rows and a trace
	@$(TIMED) "make demo" $(PYTHON) -m infra.local demo

test: setup ## unit, contract, integration and end-to-end tests against the real parts
	@$(TIMED) "make test" $(PYTHON) -m tests $(PYTEST)

quick: setup ## the unit tests alone
	@$(TIMED) "make quick" $(PYTHON) -m tests quick

up: setup ## run the whole stack in the foreground until Ctrl-C
	@exec $(PYTHON) -m infra.local up

down: | $(PYTHON) ## stop what is left of the stack
	@$(PYTHON) -m infra.local down

clean: | $(PYTHON) ## empty var/ (stop the stack first)
	@$(PYTHON) -m infra.local clean

check: setup ## format, lint, types, import contracts, drift of what is generated
	@$(TIMED) "make check" $(MAKE) --no-print-directory -s .check

.PHONY: .check
.check:
	@echo "check: format" && .venv/bin/ruff format --check .
	@echo "check: lint" && .venv/bin/ruff check .
	@echo "check: types" && .venv/bin/mypy
	@echo "check: import contracts" && .venv/bin/lint-imports
	@echo "check: dead code" && $(PYTHON) -m tests.dead_code
	@echo "check: schemas" && $(PYTHON) -m shared.bus.schemas --check
	@echo "check: state picture" && $(PYTHON) -m infra.docs.state_picture --check
	@echo "check: tables of variables" && $(PYTHON) -m infra.docs.variables --check

bench: setup ## the benchmarks, with ratios against their baselines
	@$(TIMED) "make bench" $(PYTHON) -m tests.bench

chaos: setup ## kills, pauses and restarts under load; SEED=n and DURATION=seconds choose which
	@$(TIMED) "make chaos" $(PYTHON) -m tests.chaos --seed $(or $(SEED),1) --duration $(or $(DURATION),180)

fmt: setup ## format the code and fix what can be fixed without thought
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

schemas: setup ## write JSON Schemas, AsyncAPI, the state picture and the tables of variables anew from the code
	@$(PYTHON) -m shared.bus.schemas && $(PYTHON) -m infra.docs.state_picture && $(PYTHON) -m infra.docs.variables

lock: setup ## resolve packages and jars anew and write both lock files
	@uv=$$(sh infra/local/uv.sh) && "$$uv" lock
	@$(PYTHON) -m infra.kafka.lock
