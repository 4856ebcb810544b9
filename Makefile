# Every command that people and CI run. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CLIENTS := .venv-clients
CLIENTS_STAMP := $(CLIENTS)/.installed
UV = $(shell command -v uv || echo $(BIN)/uv)
PYTEST := $(BIN)/python -m pytest
# `make test COVERAGE=` does not measure it, which saves half a minute under Python 3.11.
COVERAGE ?= --cov --cov-report=
# Not with --quiet, which hides warnings from strict mode too.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

CLUSTER := tests/cluster
HELM = $(shell command -v helm || echo $${SEESAW_CLUSTER_DIR:-$$HOME/.cache/seesaw-cluster}/bin/helm)

.PHONY: help setup demo test test-unit test-slow conformance lint format hooks bench bench-operator docs \
	constraints clean paper public-models public-figures kernel-tables release-check control-plane chart-tools cluster-up cluster-images cluster-down e2e

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv and install Seesaw, vLLM for CPU and the tools (again only if pins changed).
	@:

$(STAMP): pyproject.toml constraints.txt overrides.txt
	@test -x $(BIN)/python || { echo "setup: creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet uv==0.13.9
	@echo "setup: installing into $(VENV) (about 5 GB the first time)"
	@$(UV) pip install --quiet --python $(BIN)/python \
		--constraint constraints.txt --override overrides.txt --editable '.[cpu,dev]'
	@touch $(STAMP)

demo: setup ## Serve a small model on this machine's CPU and watch it re-shard (ARGS=--elastic: instances).
	@$(BIN)/seesaw demo $(ARGS)

paper: setup ## Run Seesaw's and LoongServe's evaluations on the simulator (five minutes).
	@$(BIN)/seesaw paper

kernel-tables: ## Make the planner's tables of measured kernels afresh (82 MB from PyPI).
	@folder=$$(mktemp -d) && python3 -m venv $$folder/venv \
		&& $$folder/venv/bin/pip install --quiet --disable-pip-version-check pyarrow==22.0.0 \
		&& $$folder/venv/bin/pip install --quiet --disable-pip-version-check --no-deps \
			--target $$folder/package aiconfigurator-core==0.12.0 \
		&& $$folder/venv/bin/python cli/seesaw_generate/kernels.py $$folder/package \
			core/seesaw_core/planner/kernels/tables; rc=$$?; rm -rf $$folder; exit $$rc

public-models: setup ## Plan public models, whose configs are in CONFIGS=folder, and check their sizes.
	@$(BIN)/seesaw bench models --configs $(CONFIGS)

# `make public-figures THROUGHPUT=file.csv` also compares published throughputs.
public-figures: setup ## Hold predictions against public runs on real GPUs (82 MB from PyPI).
	@folder=$$(mktemp -d) && $(UV) pip install --quiet --python $(BIN)/python --no-deps \
			--target $$folder aiconfigurator-core==0.12.0 \
		&& $(BIN)/seesaw bench public-figures --package $$folder/aiconfigurator_core \
			$(if $(THROUGHPUT),--throughput $(THROUGHPUT)) $(ARGS); rc=$$?; rm -rf $$folder; exit $$rc

test: setup control-plane ## Run every test except the long ones and those that take a cluster.
	@$(PYTEST) -m 'not slow and not e2e' $(COVERAGE)
	@$(if $(COVERAGE),echo "coverage: $$($(BIN)/coverage report --format=total) % of the lines ran in the process of the tests")

# `make test-unit PYTHON=python3.12` tests that version in an environment of its own.
OTHER_PYTHON := $(filter-out python3 python3.11,$(PYTHON))
test-unit: $(if $(OTHER_PYTHON),,setup) ## Run the fast tests; with PYTHON=python3.12 under that version, if it is at hand.
	@$(if $(OTHER_PYTHON),tests/other_python.sh $(PYTHON),$(PYTEST) tests/unit tests/property tests/simulation)

test-slow: setup ## Run the long exactness and fault tests; with K=… those that it selects.
	@$(PYTEST) -m slow $(if $(K),-k '$(K)')

conformance: setup $(CLIENTS_STAMP) ## Hold worker and router against plain vLLM (ARGS=--help tells more).
	@PYTHONPATH=tests $(BIN)/python -m conformance $(ARGS)

$(CLIENTS_STAMP): pyproject.toml constraints-clients.txt
	@echo "conformance: installing LiteLLM and LangChain into $(CLIENTS)"
	@$(UV) venv --quiet --clear --python $(BIN)/python $(CLIENTS)
	@$(UV) pip install --quiet --python $(CLIENTS)/bin/python \
		--constraint constraints-clients.txt --requirement pyproject.toml --extra conformance
	@touch $(CLIENTS_STAMP)

control-plane: ## Build kube-apiserver and etcd for the tests, once (without Go those are skipped).
	@if command -v go >/dev/null; then $(CLUSTER)/binaries.sh control-plane; \
	else echo "no Go here: tests that need a kube-apiserver will be skipped"; fi

chart-tools: ## Build helm, kubeconform and Prometheus for the chart's tests, once (minutes; takes Go).
	@$(CLUSTER)/binaries.sh chart-tools

cluster-up: ## Start a one-node Kubernetes on this machine (as root; Debian).
	@$(CLUSTER)/up.sh

cluster-images: ## Build all images and put them into that node.
	@$(CLUSTER)/load-all.sh

cluster-down: ## End that Kubernetes and remove what it left.
	@$(CLUSTER)/down.sh

# With KUBECONFIG set it is the user's own cluster that is used, and SEESAW_IMAGES says where the
# images are.
e2e: setup $(if $(KUBECONFIG),,cluster-up cluster-images) ## Run the tests on a real cluster.
	@KUBECONFIG=$${KUBECONFIG:-$${SEESAW_CLUSTER_DIR:-$$HOME/.cache/seesaw-cluster}/run/admin.kubeconfig} \
		$(PYTEST) -m e2e -s

lint: setup ## Check style, formatting, types, import contracts, dead code and the documentation's links.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@PYTHONPATH=tests $(BIN)/python -m dead_code
	@site=$$(mktemp -d); trap 'rm -rf "$$site"' EXIT; $(MKDOCS) build --site-dir "$$site" 2>&1 | sed '/^INFO/d'

hooks: setup ## Let git run the fast checks of `make lint` before each commit.
	@$(BIN)/pre-commit install

format: setup ## Rewrite the code in the house style.
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

bench: setup ## Measure the worker on this machine.
	@$(BIN)/seesaw bench worker

bench-operator: setup control-plane ## Measure an operator with many resources (ARGS="--against TREE" compares).
	@PYTHONPATH=tests $(BIN)/python -m operator_load $(ARGS)

docs: setup ## Regenerate the documentation that is made from code, and build the site into site/.
	@mkdir -p docs
	@$(BIN)/python -m seesaw_generate.flags > docs/reference-flags.md.new
	@mv docs/reference-flags.md.new docs/reference-flags.md
	@$(BIN)/python -m seesaw_generate.crd > docs/reference-crd.md.new
	@mv docs/reference-crd.md.new docs/reference-crd.md
	@mkdir -p charts/seesaw/files
	@$(BIN)/python -m seesaw_operator.api.crd > manifests/base/crd.yaml
	@cp manifests/base/crd.yaml charts/seesaw/files/crd.yaml
	@$(BIN)/python -m seesaw_generate.chart charts/seesaw
	@if test -x "$(HELM)"; then $(HELM) template seesaw charts/seesaw --namespace=seesaw-system \
		--skip-tests --kube-version=1.30.0 --set=crd.install=false > manifests/base/operator.yaml; \
	else echo "no helm here: manifests/base/operator.yaml is left as it is"; fi
	@$(MKDOCS) build 2>&1 | sed '/^INFO/d'
	@echo "docs: site/index.html"

release-check: setup ## Check that this commit can be released (ARGS=--unreleased before the changelog is closed).
	@PYTHONPATH=tests $(BIN)/python -m release $(ARGS)

constraints: setup ## Resolve constraints.txt and constraints-gpu.txt afresh.
	@{ sed -n '/^#/p' constraints.txt; $(UV) pip compile --quiet pyproject.toml --extra cpu --extra dev \
		--override overrides.txt --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links; } > constraints.txt.new
	@mv constraints.txt.new constraints.txt
	@{ sed -n '/^#/p' constraints-gpu.txt; $(UV) pip compile --quiet pyproject.toml --extra gpu \
		--python-version 3.12 --python-platform x86_64-manylinux_2_28 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links; } > constraints-gpu.txt.new
	@mv constraints-gpu.txt.new constraints-gpu.txt
	@{ sed -n '/^#/p' constraints-clients.txt; $(UV) pip compile --quiet pyproject.toml --extra conformance \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 \
		--no-annotate --no-header --no-emit-index-url --no-emit-find-links; } > constraints-clients.txt.new
	@mv constraints-clients.txt.new constraints-clients.txt

clean: ## Remove the virtual environment and everything that tools left behind.
	@rm -rf $(VENV) $(VENV)-3.* $(CLIENTS) build dist site .coverage .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
