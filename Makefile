# Everything a developer types. Each target sets up what it needs, once: stamp files say what is there.
#   make serve   a copy of the starter site on http://127.0.0.1:3000
#   make test    all tests
#   make check   linters, types and all tests
#   make build   wheel and sdist in dist/
#   make clean   remove what these targets made, except .serve/, your copy of the starter site

PYTHON ?= python3
VENV ?= .venv
PORT ?= 3000

BIN := $(VENV)/bin
RUNTIME := themes/runtime
MODULES := $(RUNTIME)/node_modules
BUNDLE := themes/base/static/runtime/manifest.json
# Installing makes the bundle of the page runtime too: so it is due again when a source of that has changed, or it is gone.
PROJECT := pyproject.toml hatch_build.py $(wildcard $(RUNTIME)/*.json $(RUNTIME)/*.mjs $(RUNTIME)/src/*) \
	$(if $(wildcard $(BUNDLE)),,missing-bundle)
INSTALL := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check
# Node comes from PyPI; npm and its scripts find it on PATH.
NPM := PATH="$(abspath $(BIN)):$$PATH" npm --prefix $(RUNTIME) --loglevel=error
# A file's tests run one after the other in one process: most of what is slow to make is made once for a file. Which files
# come first is said in tests/conftest.py.
PYTEST := $(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder
INSTALLED := $(VENV)/.installed
DEVELOP := $(VENV)/.installed-dev
# A client of the API for instances, whose own dependencies exclude ours.
SUBMARINE := $(VENV)/submarine/.installed
# Most of what it depends on is for other parts of it.
INSTALL_SUBMARINE = $(BIN)/python -m pip --python $(dir $@)bin/python install --quiet --quiet --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: serve test check lint runtime-test build clean missing-bundle

# Ctrl-C reaches the server itself; the shell waits for it and ends without an error of make.
serve: $(INSTALLED) | .serve
	@trap 'exit 0' INT; $(BIN)/run-shim .serve --port $(PORT)

test: runtime-test $(SUBMARINE)
	$(PYTEST)

check: lint runtime-test $(SUBMARINE)
	$(PYTEST)

lint: $(DEVELOP) $(MODULES)/.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(NPM) run --silent check

runtime-test: $(DEVELOP) $(MODULES)/.stamp
	$(NPM) test --silent

build: $(DEVELOP)
	$(BIN)/python -m build

clean:
	rm -rf $(VENV) $(MODULES) $(dir $(BUNDLE)) dist .hypothesis .mypy_cache .pytest_cache .ruff_cache .serve.part
	find builder shim tests hatch_build.py -name __pycache__ -prune -exec rm -rf {} +

.serve: | $(INSTALLED)
	@rm -rf .serve.part
	@$(BIN)/build-site init .serve.part >/dev/null
	@mv .serve.part .serve

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nbfolio needs Python 3.11 or later; name one with: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(PROJECT) | $(BIN)/python
	@echo "Installing nbfolio into $(VENV) (the first time takes a few minutes)"
	@$(INSTALL) --editable '.[all]'
	@touch $@

$(DEVELOP): $(PROJECT) | $(BIN)/python
	@echo "Installing nbfolio and its development tools into $(VENV) (the first time takes a few minutes)"
	@$(INSTALL) --editable '.[all,dev]'
	@touch $@ $(INSTALLED)

$(SUBMARINE): | $(DEVELOP)
	@$(BIN)/python -m venv --without-pip $(dir $@)
	@$(INSTALL_SUBMARINE) boto3 certifi click dacite python-dateutil pyyaml rich six 'sqlalchemy>=1.4,<2' 'urllib3<3'
	@$(INSTALL_SUBMARINE) --no-deps apache-submarine==0.8.0
	@touch $@

$(MODULES)/.stamp: $(RUNTIME)/package-lock.json | $(DEVELOP)
	@$(NPM) ci
	@touch $@
