# Everything a newcomer needs: `make up` runs the platform, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help up test fuzz lint format bench bench-router proto schema lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	@echo "creating $(VENV)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit(f"ManPaSik needs Python 3.11 or newer, and {sys.executable} is {v[0]}.{v[1]}: set PYTHON=/path/to/python3.11")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements/base.txt pyproject.toml | $(BIN)/python
	@echo "installing the platform into $(VENV) (once)"
	@$(PIP) install --require-hashes -r requirements/base.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: requirements/dev.txt $(VENV)/.installed
	@echo "installing the development tools into $(VENV) (once)"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

up: $(VENV)/.installed ## Run the whole platform on real data (Ctrl-C stops it)
	@exec $(BIN)/manpasik up

test: $(VENV)/.installed-dev ## Run all tests
	@$(BIN)/python -m pytest -n auto --dist loadgroup tests

fuzz: $(VENV)/.installed-dev ## Search for new failures (SECONDS=600, SEED=random)
	@$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

lint: $(VENV)/.installed-dev ## Check style, types and import directions
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## Rewrite the sources in the house style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.installed-dev ## Measure throughput and latency, per core
	@$(BIN)/python -m tests.bench

bench-router: $(VENV)/.installed-dev ## Measure the router beside others (with Node: Apollo Gateway, Hive Gateway)
	@$(BIN)/python -m tests.bench.router

proto: $(VENV)/.installed-dev ## Generate the Python code of proto/
	@$(BIN)/python -m infra.codegen.proto

schema: $(VENV)/.installed-dev ## Write the published contracts into schema/
	@$(BIN)/python -m infra.codegen.schema

lock: ## Resolve the requirement files again (needs uv)
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet pyproject.toml --extra build -o requirements/base.txt
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -c requirements/base.txt pyproject.toml --all-extras -o requirements/dev.txt

clean: ## Remove what was installed and the embedded data
	@rm -rf $(VENV) .manpasik
