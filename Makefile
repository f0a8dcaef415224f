# Everything one does with a copy. A fresh machine needs Python 3.11 or newer with its venv module, and make.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement
# For commands that only look at the code: no state folder is made, no server is asked.
LOOK := MAILHOST_SECRET_KEY=only-for-looking-at-the-code-0000000 $(BIN)/python -W ignore::RuntimeWarning
# More or other arguments for pytest: make test ARGS="tests/mailhost -x"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check bench fmt openapi lock

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

run: $(VENV)/installed ## start everything (PostgreSQL, Redis, web, smtp, worker, beat); Ctrl-C ends it
	@$(BIN)/python -m config.run

test: $(VENV)/installed-dev ## all tests, on a PostgreSQL and a Redis of their own
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/installed-dev ## lint, types, layers, migrations complete, OpenAPI current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(LOOK) -m mypy
	$(BIN)/lint-imports
	$(LOOK) manage.py makemigrations --check --dry-run
	@if [ -f apps/api/management/commands/check_openapi.py ]; then $(LOOK) manage.py check_openapi; fi

bench: $(VENV)/installed-dev ## the benchmarks, beside the peers that are installed
	@for script in tests/bench/[a-z]*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; done

fmt: $(VENV)/installed-dev ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: $(VENV)/installed-dev ## write the OpenAPI document anew
	$(LOOK) manage.py check_openapi --write

lock: $(VENV)/lock/bin/uv ## pin the dependencies with hashes; UPGRADE=1 takes newer ones
	$(LOCK) --output-file requirements.lock
	$(LOCK) --extra dev --output-file requirements-dev.lock

LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" $(VENV)/lock/bin/uv pip compile --quiet pyproject.toml \
	--universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate --no-header --no-emit-index-url \
	--no-emit-find-links $(if $(UPGRADE),--upgrade)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Mailhost needs Python 3.11 or newer: install it, or say where it is with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: install a newer one, or say where it is with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) ..."
	@$(PYTHON) -m venv $(VENV)

# A stamp is written after the installation, so an interrupted one is taken up again; a changed lock renews it.
$(VENV)/installed: requirements.lock | $(VENV)/bin/python
	@echo "Installing requirements.lock ..."
	@$(PIP_INSTALL) requirements.lock
	@touch $@

$(VENV)/installed-dev: requirements-dev.lock | $(VENV)/bin/python
	@echo "Installing requirements-dev.lock ..."
	@$(PIP_INSTALL) requirements-dev.lock
	@touch $@ $(VENV)/installed

$(VENV)/lock/bin/uv: | $(VENV)/bin/python
	@$(BIN)/python -m venv $(VENV)/lock
	@$(VENV)/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
