# Two commands do all the work on a fresh clone: `make demo` and `make test`. Everything else serves them.
# Needs Python 3.11 or newer and make; nothing has to be installed by hand.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= auto

BENCHMARKS := $(filter-out support kafka_sides __init__,$(basename $(notdir $(wildcard benchmarks/*.py))))

# pytest options for one run: make test ARGS="-k rpo"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak check lint fmt bench docs bless build clean pins

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## build .venv from the hashed pins (does nothing while they stand)
	@PYTHON=$(PYTHON) VENV=$(VENV) tools/setup

demo: setup ## a busy database, Litestream, S3 and tallykeep watching; DEMO_FOR=60s ends by itself
	@exec $(BIN)/tallykeep demo

test: setup ## every test this machine allows; skipped ones say why
	$(BIN)/pytest -n $(JOBS) --maxschedchunk 4 -m "not soak" $(ARGS)

soak: setup ## the full counts: kill and freeze real processes for many rounds
	$(BIN)/pytest -n 0 -m soak $(ARGS)

check: setup ## what CI checks before the tests: lint, types, layers, generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.generate --check

lint: setup ## ruff and mypy alone
	$(BIN)/ruff check .
	$(BIN)/mypy

fmt: setup ## format, and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: setup ## ratios against named peers; one of them with ARGS=metrics_page
	@for name in $(or $(ARGS),$(BENCHMARKS)); do $(BIN)/python -m benchmarks.$$name || exit 1; echo; done

docs: setup ## generate docs/reference and deploy/prometheus from the catalogue
	$(BIN)/python -m tools.generate

bless: setup ## rewrite the golden files with what the code says now; read the diff
	BLESS=1 $(BIN)/pytest -n 0 -p no:randomly tests/golden $(ARGS)

build: setup ## wheel and sdist into dist/, offline, with the pinned build tools
	rm -rf dist
	$(BIN)/python -m build --no-isolation

clean: ## remove everything that is made, .venv included
	rm -rf $(VENV) .cache dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

pins: ## compile requirements/*.in anew, with hashes, for every platform
	@PYTHON=$(PYTHON) tools/pins
