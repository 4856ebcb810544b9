# Every command that people and CI run. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV = $(shell command -v uv || echo $(BIN)/uv)
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup demo test test-slow lint format bench docs constraints clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install Seesaw, vLLM for CPU and the tools (again only if pins changed).
	@:

$(STAMP): pyproject.toml constraints.txt overrides.txt
	@test -x $(BIN)/python || { echo "setup: creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv
	@echo "setup: installing into $(VENV) (about 5 GB the first time)"
	@$(UV) pip install --quiet --python $(BIN)/python \
		--constraint constraints.txt --override overrides.txt --editable '.[cpu,dev]'
	@touch $(STAMP)

demo: setup ## Serve a small model on this machine's CPU and watch it re-shard.
	@$(BIN)/seesaw demo

test: setup ## Run every test except the long ones.
	@$(PYTEST) -m 'not slow'

test-slow: setup ## Run the long exactness and fault tests.
	@$(PYTEST) -m slow

lint: setup ## Check style, formatting, types and the import contracts.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup ## Rewrite the code in the house style.
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: setup ## Measure the worker on this machine.
	@$(BIN)/seesaw bench worker

docs: setup ## Regenerate the documentation that is made from code.
	@mkdir -p docs
	@$(BIN)/python -m seesaw_cli.reference > docs/reference-flags.md.new
	@mv docs/reference-flags.md.new docs/reference-flags.md

constraints: setup ## Resolve constraints.txt afresh.
	@{ sed -n '/^#/p' constraints.txt; $(UV) pip compile --quiet pyproject.toml --extra cpu --extra dev \
		--override overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt

clean: ## Remove the virtual environment and everything that tools left behind.
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
